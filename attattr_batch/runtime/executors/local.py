"""The in-process executor: one worker in this process, without Ray."""

from __future__ import annotations

from attattr_batch.data.records import Chunk
from attattr_batch.errors import UserError, shown_ids
from attattr_batch.passes import Work, Worker
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, Lost, run_chunk
from attattr_batch.runtime.staging import Stage


class LocalExecutor:
    """Computes one chunk at a time inside `wait`."""

    def __init__(self, work: Work, stage: Stage | None = None):
        self._work = work
        self._stage = stage
        self._worker: Worker | None = None
        self._chunk: Chunk | None = None

    def room(self) -> bool:
        """Whether no chunk is waiting."""
        return self._chunk is None

    def submit(self, chunk: Chunk) -> None:
        """Keeps the chunk for the next `wait`."""
        self._chunk = chunk

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Computes the waiting chunk, however long it takes.

        Raises:
            UserError: the worker cannot start, or this process can no longer use its GPU.
        """
        if self._worker is None:
            self._worker = self._started()
        chunk, self._chunk = self._chunk, None
        if chunk is None:
            return []
        outcome = run_chunk(self._worker, chunk, "local", self._stage)
        if isinstance(outcome, Lost):
            raise UserError(
                "this process can no longer use its GPU",
                got=f"{outcome.message}, at examples {shown_ids(chunk.example_ids)}",
                hint="give the same command again: it goes on from here. If these examples end it again, use"
                " `--executor ray`, which finds the one at fault and quarantines it",
            )
        return [outcome]

    def _started(self) -> Worker:
        try:
            return self._work.start()
        except RuntimeError as error:
            if not str(error).startswith("CUDA"):
                raise
            raise UserError(
                "the model cannot be put on the GPU",
                got=str(error).partition("\n")[0],
                hint="`nvidia-smi` shows who has the GPU's memory; or give --device cpu",
            ) from error

    def close(self) -> None:
        """Drops the worker and its model."""
        self._worker = self._chunk = None
