"""The in-process executor: one worker, here, without Ray."""

from __future__ import annotations

from collections import deque

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError
from attattr_batch.passes import Work, Worker
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Lost, run_chunk

_SHOWN_IDS = 8


class LocalExecutor:
    """Computes one chunk at a time inside `wait`."""

    def __init__(self, work: Work):
        self._work = work
        self._worker: Worker | None = None
        self._chunks: deque[Chunk] = deque()

    def room(self) -> bool:
        """Whether no chunk is waiting."""
        return not self._chunks

    def submit(self, chunk: Chunk) -> None:
        """Keeps the chunk for the next `wait`."""
        self._chunks.append(chunk)

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Computes the waiting chunk, however long it takes.

        Raises:
            UserError: the worker cannot start, or this process can no longer use its GPU.
        """
        if self._worker is None:
            self._worker = self._work.start()
        if not self._chunks:
            return []
        outcome = run_chunk(self._worker, self._chunks.popleft(), "local")
        if isinstance(outcome, Lost):
            ids = outcome.chunk.example_ids
            shown = ", ".join(map(str, ids[:_SHOWN_IDS])) + (", ..." if len(ids) > _SHOWN_IDS else "")
            raise UserError(
                "this process can no longer use its GPU",
                got=f"{outcome.message}, at examples {shown}",
                hint="the same command goes on from here; where these examples end it again, `--executor ray`"
                " finds the one and quarantines it",
            )
        return [outcome]

    def close(self) -> None:
        """Drops the worker and its model."""
        self._worker = None
        self._chunks.clear()
