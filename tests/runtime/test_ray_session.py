"""What a session of ours leaves to its caller: a session of the caller's own, and the environment."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from attattr_batch.errors import UserError
from attattr_batch.runtime.executors.pools import Pool
from attattr_batch.runtime.executors.ray_session import ray_session


class Ray(SimpleNamespace):
    """A Ray that notes what is done to it."""

    def __init__(self, initialized: bool, trouble: Exception | None = None):
        super().__init__(exceptions=SimpleNamespace(AuthenticationError=PermissionError))
        self.initialized, self.trouble, self.modes = initialized, trouble, list[str | None]()

    def is_initialized(self) -> bool:
        return self.initialized

    def init(self, **_: Any) -> None:
        self.modes.append(os.environ.get("RAY_AUTH_MODE"))
        if self.trouble is not None:
            raise self.trouble
        self.initialized = True

    def shutdown(self) -> None:
        self.initialized = False


def install(ray: Ray, patch: pytest.MonkeyPatch) -> Ray:
    patch.setitem(sys.modules, "ray", ray)
    patch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    patch.setenv("RAY_AUTH_TOKEN", os.environ.get("RAY_AUTH_TOKEN", "t"))
    return ray


def test_a_session_of_the_caller_s_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    ray = install(Ray(initialized=True), monkeypatch)
    with pytest.raises(UserError, match="uses Ray already"), ray_session([Pool(1)], None):
        pass
    assert ray.initialized
    assert ray.modes == []


@pytest.mark.parametrize("mode", [None, "disabled"])
@pytest.mark.parametrize("trouble", [None, RuntimeError("no node")])
def test_the_environment_is_put_back(
    monkeypatch: pytest.MonkeyPatch, mode: str | None, trouble: Exception | None
) -> None:
    if mode is None:
        monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    else:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    ray = install(Ray(initialized=False, trouble=trouble), monkeypatch)
    try:
        with ray_session([Pool(1)], None):
            assert ray.initialized
    except UserError as error:
        assert "no node" in str(error)
    assert ray.modes == ["token"]
    assert not ray.initialized
    assert os.environ.get("RAY_AUTH_MODE") == mode
