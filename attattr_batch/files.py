"""Writes what people asked for: one way, and one message when it fails."""

from __future__ import annotations

from pathlib import Path

from attattr_batch.errors import UserError


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
