"""The in-process executors: one worker in this process, without Ray."""

from __future__ import annotations

import concurrent.futures
import threading

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
        worker = self._started()
        chunk, self._chunk = self._chunk, None
        return [] if chunk is None else [_checked(run_chunk(worker, chunk, "local", self._stage))]

    def close(self) -> None:
        """Drops the worker and its model."""
        self._worker = self._chunk = None

    def _started(self) -> Worker:
        if self._worker is None:
            try:
                self._worker = self._work.start()
            except RuntimeError as error:
                if not str(error).startswith("CUDA"):
                    raise
                raise UserError(
                    "the model cannot be put on the GPU",
                    got=str(error).partition("\n")[0],
                    hint="`nvidia-smi` shows who has the GPU's memory; or give --device cpu",
                ) from error
        return self._worker


class LocalGpuExecutor(LocalExecutor):
    """Has two chunks at once, each in a thread, because a GPU would wait for this process otherwise.

    One of them computes, while the rows of the other are made, returned and committed. After an interrupt
    this process ends when both are done; a second interrupt ends it at once.
    """

    def __init__(self, work: Work, stage: Stage | None = None):
        super().__init__(work, stage)
        self._turn = threading.Lock()
        self._threads = concurrent.futures.ThreadPoolExecutor(2)
        self._running: list[concurrent.futures.Future[ChunkOutcome]] = []

    def room(self) -> bool:
        """Whether fewer than two chunks are being computed."""
        return len(self._running) < 2

    def submit(self, chunk: Chunk) -> None:
        """Begins with the chunk.

        Raises:
            UserError: the worker cannot start.
        """
        worker = self._started()
        call = self._threads.submit(run_chunk, worker, chunk, "local", self._stage, self._turn)
        self._running.append(call)

    def wait(self, timeout_s: float) -> list[ChunkOutcome]:
        """Waits until a chunk is computed.

        Raises:
            UserError: this process can no longer use its GPU.
        """
        done, _ = concurrent.futures.wait(self._running, timeout_s, concurrent.futures.FIRST_COMPLETED)
        ready = [call for call in self._running if call in done]
        self._running = [call for call in self._running if call not in done]
        return [_checked(call.result()) for call in ready]

    def close(self) -> None:
        """Drops the worker and its model, once its threads are done with them."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        super().close()


def _checked(outcome: ChunkOutcome) -> ChunkOutcome:
    """The outcome of a chunk, unless this process has lost its GPU: only another process could go on."""
    if not isinstance(outcome, Lost):
        return outcome
    raise UserError(
        "this process can no longer use its GPU",
        got=f"{outcome.message}, at examples {shown_ids(outcome.chunk.example_ids)}",
        hint="give the same command again: it goes on from here. If these examples end it again, use"
        " `--executor ray`, which finds the one at fault and quarantines it",
    )
