"""Paths as people write them, and writing what they asked for: one way, and one message when it fails."""

from __future__ import annotations

import reprlib
from pathlib import Path

from attattr_batch.errors import UserError


def user_path(written: str) -> Path:
    """The path that somebody has written; `~` is a home folder.

    Raises:
        UserError: no path can be written so.
    """
    try:
        path = Path(written).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null character, nobody's home
        raise UserError("this path cannot be used", got=f"{reprlib.repr(written):.200}: {error}") from error
    return path


def write_file(path: Path, content: bytes | str) -> None:
    """Writes a file, making its folder; text is written as UTF-8.

    Raises:
        UserError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise UserError("the file cannot be written", got=f"{path}: {error.strerror}") from error
