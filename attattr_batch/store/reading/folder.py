"""The folder of an export: filled aside, then put in place of an earlier one; other files are left alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from attattr_batch.errors import StoreError

FORMAT = "attattr_batch export 1"
MARKER = "run.json"
"""The file whose `format` says that a folder is an export of ours."""

_FILES = ("README.md", MARKER, "dataset_dict.json")
_UNFINISHED = ".unfinished"
_EARLIER = ".earlier"


def read_marker(path: Path) -> dict[str, Any] | None:
    """What the marker of an export says; None where there is none."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None
    ours = (
        isinstance(content, dict) and content.get("format") == FORMAT and isinstance(content.get("run"), dict)
    )
    return content if ours else None


@contextmanager
def filled(folder: Path) -> Iterator[Path]:
    """Gives a working folder inside `folder`; once filled, its files replace an earlier export there.

    Raises:
        StoreError: `folder` is a file, or holds other things than an export.
    """
    if folder.exists() and not folder.is_dir():
        raise StoreError("an export needs a folder", got=f"{folder} (a file)")
    folder.mkdir(parents=True, exist_ok=True)
    earlier = [path for path in sorted(folder.iterdir()) if path.name != _UNFINISHED]
    work = folder / _UNFINISHED
    known = _is_export(folder / MARKER) or _is_export(work / MARKER)
    if earlier and not (known and all(map(_may_be_ours, earlier))):
        got = f"{folder} holds {', '.join(path.name for path in earlier[:5])}"
        raise StoreError("the folder holds other things", got=got, hint="give a new or empty folder")
    try:
        work.mkdir(exist_ok=True)
        _clear(work)
        yield work
    except BaseException:
        _clear(work)
        if not earlier or _is_export(folder / MARKER):
            shutil.rmtree(work, ignore_errors=True)
        raise
    # Ended from here on, the folder is known as an export by the marker in it or in `work`.
    made = sorted(work.iterdir(), key=lambda path: path.name == MARKER)
    (work / _EARLIER).mkdir()
    for path in earlier:
        if path.name != MARKER:
            os.replace(path, work / _EARLIER / path.name)
    for path in made:
        os.replace(path, folder / path.name)
    shutil.rmtree(work)


def _clear(work: Path) -> None:
    """Deletes all but the marker, which may alone say whose files an ended export has left in the folder."""
    for path in work.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != MARKER:
            path.unlink()


def _may_be_ours(path: Path) -> bool:
    if path.is_dir():  # a table of a `datasets` folder
        return (path / "dataset_info.json").is_file()
    return path.name in _FILES or path.suffix == ".parquet"


def _is_export(marker: Path) -> bool:
    return read_marker(marker) is not None
