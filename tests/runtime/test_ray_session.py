"""What a session of ours leaves to its caller: a session of the caller's own, and the environment."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from attattr_batch.errors import UserError
from attattr_batch.runtime.executors.ray_session import ray_session


class Ray(SimpleNamespace):
    """A Ray that notes what is done to it, and keeps its first mode and token until told to look again."""

    def __init__(self, initialized: bool, trouble: Exception | None = None):
        super().__init__(exceptions=SimpleNamespace(AuthenticationError=PermissionError))
        self.initialized, self.trouble = initialized, trouble
        self.seen = list[tuple[str | None, str | None]]()
        self.reread()

    def reread(self, *_: Any) -> None:
        self.mode, self.token = os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN")

    def is_initialized(self) -> bool:
        return self.initialized

    def init(self, **_: Any) -> None:
        self.seen.append((self.mode, self.token))
        if self.trouble is not None:
            raise self.trouble
        self.initialized = True

    def shutdown(self) -> None:
        self.initialized = False


def install(ray: Ray, patch: pytest.MonkeyPatch) -> Ray:
    patch.setitem(sys.modules, "ray", ray)
    patch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    loader = SimpleNamespace(instance=lambda: SimpleNamespace(reset_cache=ray.reread))
    raylet = SimpleNamespace(AuthenticationTokenLoader=loader, Config=SimpleNamespace(initialize=ray.reread))
    patch.setitem(sys.modules, "ray._raylet", raylet)
    return ray


def test_a_session_of_the_caller_s_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = install(Ray(initialized=True), monkeypatch)
    with pytest.raises(UserError, match="uses Ray already"), ray_session(1, None):
        pass
    assert ray.initialized
    assert ray.seen == []


@pytest.mark.parametrize("before", [(None, None), ("disabled", None), ("token", "of-a-cluster")])
@pytest.mark.parametrize("trouble", [None, RuntimeError("no node")])
def test_every_session_has_a_token_of_its_own_and_the_environment_is_put_back(
    monkeypatch: pytest.MonkeyPatch, before: tuple[str | None, str | None], trouble: Exception | None
) -> None:
    for name, value in zip(("RAY_AUTH_MODE", "RAY_AUTH_TOKEN"), before, strict=True):
        monkeypatch.setenv(name, value) if value else monkeypatch.delenv(name, raising=False)
    ray = install(Ray(initialized=False, trouble=trouble), monkeypatch)
    for _ in range(2):
        try:
            with ray_session(1, None):
                assert ray.initialized
        except UserError as error:
            assert "no node" in str(error)
        assert not ray.initialized
        assert (os.environ.get("RAY_AUTH_MODE"), os.environ.get("RAY_AUTH_TOKEN")) == before
        assert (ray.mode, ray.token) == before, "a session of the caller's own has the caller's token"
    assert [mode for mode, _ in ray.seen] == ["token", "token"]
    tokens = {token for _, token in ray.seen}
    assert len(tokens) == 2 and all(token and len(token) == 64 for token in tokens)


def test_a_cluster_at_an_address_has_the_environment_s_token(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = install(Ray(initialized=False), monkeypatch)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "of-a-cluster")  # set after Ray was imported
    with ray_session(1, "auto"):
        assert ray.seen == [("token", "of-a-cluster")]
