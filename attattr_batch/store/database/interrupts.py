"""Ctrl-C while DuckDB works: it makes errors of its own of it, and what it breaks off complains as well."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import duckdb

_INTERRUPTED = ("Query interrupted", "failed: KeyboardInterrupt: ")


@contextmanager
def keyboard_interrupts() -> Iterator[None]:
    """Raises KeyboardInterrupt where DuckDB has made an error of its own of a Ctrl-C.

    During a statement, that is, or while it reads the Arrow data that it is given.
    """
    try:
        yield
    except Exception as error:
        if _is_interrupt(error):
            raise KeyboardInterrupt from error
        raise


def _is_interrupt(error: BaseException | None) -> bool:
    """Whether an error comes of a Ctrl-C, perhaps by way of others: what an interrupt breaks may complain."""
    while error is not None:
        text = str(error) if isinstance(error, RuntimeError | duckdb.Error) else ""
        if isinstance(error, KeyboardInterrupt) or any(fragment in text for fragment in _INTERRUPTED):
            return True
        error = error.__cause__ or error.__context__
    return False
