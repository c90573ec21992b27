"""Lets a waiting writer have its turn: readers that come after it give way for a moment.

DuckDB's lock knows no queue. With many readers the file is always open somewhere, and a writer, which must
have it alone, would wait for ever. A writer that has to wait therefore shows a sign beside the file: a hidden
file under a lock that ends with its process. Readers wait before a sign, but not for long: the writer may be
waiting for somebody who reads for hours.
"""

from __future__ import annotations

import fcntl
import os
import random
import time
from pathlib import Path

GIVES_WAY_S = 2.0
"""How long a reader waits for a writer that waits, in seconds."""


def pause() -> None:
    """Waits for a moment of varying length before the next attempt."""
    time.sleep(random.uniform(0.005, 0.025))


class Sign:
    """The sign of one writer.

    Args:
        path: The database file.
    """

    def __init__(self, path: Path):
        self._path = _beside(path)
        self._descriptor: int | None = None

    def show(self) -> None:
        """Shows the sign, unless another writer's stands there or no file can be made there."""
        if self._descriptor is not None:
            return
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError:
            return
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Its owner may have removed it between the two lines above.
            shown = os.path.samestat(os.fstat(descriptor), os.stat(self._path))
        except OSError:
            shown = False
        if shown:
            self._descriptor = descriptor
        else:
            os.close(descriptor)

    def remove(self) -> None:
        """Removes the sign, if it is shown."""
        if self._descriptor is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._descriptor)
            self._descriptor = None


def give_way(path: Path, deadline: float) -> None:
    """Returns once no writer waits for the file, or has waited long enough, or at the deadline.

    Args:
        path: The database file.
        deadline: By `time.monotonic()`, in seconds.
    """
    until = min(deadline, time.monotonic() + GIVES_WAY_S)
    while _writer_waits(path) and time.monotonic() < until:
        pause()


def _writer_waits(path: Path) -> bool:
    try:
        descriptor = os.open(_beside(path), os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False  # left by a writer that was killed


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.waiting")
