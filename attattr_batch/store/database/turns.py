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
from contextlib import ExitStack, suppress
from pathlib import Path

GIVES_WAY_S = 2.0
"""How long a reader waits for a writer that waits, in seconds."""


def pause() -> None:
    """Waits for a moment of varying length before the next attempt."""
    time.sleep(random.uniform(0.005, 0.025))


def show_sign(path: Path, shown: ExitStack) -> bool:
    """Shows that a writer waits, until the stack is closed.

    Args:
        path: The database file.
        shown: Takes care of the sign.

    Returns:
        Whether it is shown; not where another writer's stands, or where no file can be made.
    """
    sign = _beside(path)
    with suppress(OSError), ExitStack() as opened:
        file = opened.enter_context(sign.open("a"))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Its owner may have removed it between the two lines above.
        if os.path.samestat(os.fstat(file.fileno()), os.stat(sign)):
            opened.callback(sign.unlink, missing_ok=True)
            shown.push(opened.pop_all())
            return True
    return False


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
    with suppress(OSError), _beside(path).open() as sign:
        try:
            fcntl.flock(sign, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False  # there is none, or one left by a writer that was killed


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.waiting")
