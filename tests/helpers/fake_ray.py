"""Ray without a cluster: actors live in this process, and time passes only while somebody waits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest

from attattr_batch.data.records import Chunk
from attattr_batch.runtime.executors import ray as executor
from attattr_batch.runtime.executors import ray_room


class Died(Exception):
    """A worker's process has ended."""


@dataclass(eq=False)
class Reference:
    """What a call will give: `value` raises or returns it, from the time `at` on; None: never."""

    value: Callable[[], Any] | None
    at: float = 0.0


@dataclass
class FakeRay:
    """As much of the module `ray` as the executor uses.

    Attributes:
        start: Decides about a worker's start from its work and its number: `ok`, `dies`, `hangs` or `waits`
            (for room).
        seconds: Time a chunk takes on the device, which a worker gives to one chunk after the other.
        deadly: Whether a chunk ends its worker when its time is over.
        resources: Of the cluster.
        now: The time, in seconds.
        placed: Works of the actors asked for, in order.
        options: What was said to Ray of each.
        actors: These actors.
    """

    start: Callable[[Any, int], str] = lambda work, number: "ok"
    seconds: Callable[[Chunk], float] = lambda chunk: 0.0
    deadly: Callable[[Chunk], bool] = lambda chunk: False
    resources: dict[str, float] = field(default_factory=lambda: {"CPU": 8.0})
    now: float = 0.0
    placed: list[Any] = field(default_factory=list)
    options: list[dict[str, Any]] = field(default_factory=list)
    actors: list[_Actor] = field(default_factory=list)
    exceptions: Any = field(
        default_factory=lambda: SimpleNamespace(RayError=Died, RayTaskError=type("RayTaskError", (Died,), {}))
    )

    def install(self, patch: pytest.MonkeyPatch) -> FakeRay:
        """Puts it, and its clock, in the executor's way."""

        @contextmanager
        def session(*_: object) -> Iterator[FakeRay]:
            yield self

        patch.setattr(executor, "ray_session", session)
        clock = SimpleNamespace(monotonic=lambda: self.now, sleep=self.sleep)
        patch.setattr(executor, "time", clock)
        patch.setattr(ray_room, "time", clock)
        return self

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def put(self, value: Any) -> Any:
        return value

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, kind: Any) -> Any:
        def create(work: Any, *others: Any) -> _Actor:
            self.placed.append(work)
            self.actors.append(_Actor(self, kind(work, *others), self.start(work, len(self.placed))))
            return self.actors[-1]

        def options(**given: Any) -> Any:
            self.options.append(given)
            return SimpleNamespace(remote=create)

        return SimpleNamespace(options=options)

    def wait(
        self, references: Sequence[Reference], *, num_returns: int, timeout: float, fetch_local: bool = True
    ) -> tuple[list[Reference], list[Reference]]:
        ready = [one for one in references if self.is_ready(one)]
        if timeout:
            self.now += 0.1 if ready else timeout
            ready = ready or [one for one in references if self.is_ready(one)]
        ready = ready[:num_returns]
        return ready, [one for one in references if one not in ready]

    def is_ready(self, reference: Reference) -> bool:
        return reference.value is not None and self.now >= reference.at

    def get(self, reference: Reference) -> Any:
        assert reference.value is not None and self.is_ready(reference)
        return reference.value()

    def kill(self, actor: _Actor, at: float | None = None) -> None:
        """Ends a worker, now or at a time before: it answers nothing but what it had answered by then."""
        actor.dead, at = True, self.now if at is None else at
        for one in actor.calls:
            if one.value is None or one.at > at:
                one.value, one.at = _die, at


def _die() -> None:
    raise Died("The actor died.\nno such library")


class _Actor:
    def __init__(self, ray: FakeRay, actor: Any, fate: str):
        self._ray = ray
        self.dead = False
        self.seconds: float | None = None  # of every chunk, where this worker differs
        self.busy_until = 0.0
        self.calls: list[Reference] = []
        self.chunks: list[Chunk] = []
        self.name = self._method(None if fate == "waits" else actor.name)
        fates: dict[str, Callable[[], Any] | None] = {"dies": _die, "hangs": None, "ok": actor.start}
        self.start = self._method(fates.get(fate))
        self._actor = actor
        self.compute = SimpleNamespace(remote=self._compute)

    def _compute(self, chunk: Chunk) -> Reference:
        seconds = self._ray.seconds(chunk) if self.seconds is None else self.seconds
        self.chunks.append(chunk)
        self.busy_until = at = max(self.busy_until, self._ray.now) + seconds

        def value() -> Any:
            if self._ray.deadly(chunk):
                self._ray.kill(self, at)
                _die()
            return self._actor.compute(chunk)

        return self._call(value, at - self._ray.now)

    def _method(self, value: Callable[[], Any] | None) -> Any:
        return SimpleNamespace(remote=lambda *arguments: self._call(value))

    def _call(self, value: Callable[[], Any] | None, seconds: float = 0.0) -> Reference:
        self.calls.append(Reference(_die if self.dead else value, self._ray.now + seconds))
        return self.calls[-1]
