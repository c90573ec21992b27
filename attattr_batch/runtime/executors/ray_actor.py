"""The part of a worker that lives in a Ray process of its own."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

from attattr_batch.data.records import Chunk
from attattr_batch.passes import Work, Worker
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, run_chunk


class Actor:
    """A worker; loads the model once."""

    def __init__(self, work: Work):
        self._work = work
        self._worker: Worker | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def name(self) -> str:
        """Host and process, for people; an answer means that the worker has found room, and lives."""
        return self._name

    def start(self, files: Mapping[str, bytes] | None = None) -> bool:
        """Loads the worker, from `files` if this machine lacks those of the work.

        Returns:
            Whether it is loaded; if not, this machine lacks the files, or has others in their place.

        Raises:
            UserError, TerminalError: no other worker could start either.
        """
        if self._work.is_here():
            self._worker = self._work.start()
        elif files is not None:
            with tempfile.TemporaryDirectory(prefix="attattr-model-") as folder:
                for name, content in files.items():
                    Path(folder, name).write_bytes(content)
                self._worker = self._work.moved(Path(folder)).start()  # the weights are in memory now
        return self._worker is not None

    def compute(self, chunk: Chunk) -> ChunkOutcome:
        """Computes one chunk."""
        assert self._worker is not None
        return run_chunk(self._worker, chunk, self._name)
