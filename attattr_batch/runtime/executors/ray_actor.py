"""What lives in a Ray worker's process."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from attattr_batch.data.records import Chunk
from attattr_batch.errors import TerminalError, UserError
from attattr_batch.passes import Portable, Work, Worker
from attattr_batch.runtime.executors.outcomes import ChunkOutcome, run_chunk


@dataclass(frozen=True)
class Started:
    """How an actor's start went.

    Attributes:
        problem: Message of an error that no other worker would escape.
        lacks_files: Whether the machine lacks the work's files, or has others in their place.
    """

    problem: str | None = None
    lacks_files: bool = False


class Actor:
    """A worker; loads the model once."""

    def __init__(self, work: Work):
        self._work = work
        self._worker: Worker | None = None
        self._name = f"{socket.gethostname()}:{os.getpid()}"

    def name(self) -> str:
        """Host and process, for people; an answer means that the worker has found room."""
        return self._name

    def start(self, files: Mapping[str, bytes] | None = None) -> Started:
        """Loads the worker, from `files` where this machine lacks those of the work."""
        work, copy = self._work, None
        try:
            if isinstance(work, Portable) and not work.is_here():
                if files is None:
                    return Started(lacks_files=True)
                copy = Path(tempfile.mkdtemp(prefix="attattr-model-"))
                for name, content in files.items():
                    (copy / name).write_bytes(content)
                work = work.moved(copy)
            self._worker = work.start()
        except (UserError, TerminalError) as error:
            return Started(str(error))
        finally:
            if copy is not None:
                shutil.rmtree(copy, ignore_errors=True)  # the weights are in memory
        return Started()

    def compute(self, chunk: Chunk) -> ChunkOutcome:
        """Computes one chunk."""
        assert self._worker is not None
        return run_chunk(self._worker, chunk, self._name)
