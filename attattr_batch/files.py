"""Files of the package, paths that people write, and text made safe for other programs."""

from __future__ import annotations

import csv
import io
import itertools
import reprlib
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from attattr_batch.errors import UserError

_PACKAGE = Path(__file__).resolve().parent

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def data_folder(name: str) -> Path:
    """Returns the folder `jobs`, `schema` or `dashboards`.

    In a wheel they lie in `attattr_batch/_data/`; in a checkout beside the package.

    Raises:
        FileNotFoundError: if the installation lacks the folder.
    """
    for candidate in (_PACKAGE / "_data" / name, _PACKAGE.parent / name):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(f"this installation of attattr_batch lacks its {name!r} folder; reinstall it")


def bundled_folder() -> Path:
    """Returns the folder of the bundled mini-GLUE data and its tiny models."""
    return _PACKAGE / "bundled"


def user_path(written: str) -> Path:
    """Makes a path of what somebody has written; `~` is a home folder.

    Raises:
        UserError: it is no path: too long, with a null character, or of an unknown home.
    """
    try:
        path = Path(written).expanduser()
        path.exists()
    except (OSError, ValueError, RuntimeError) as error:
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


def csv_lines(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Iterator[str]:
    """Makes the lines of a CSV file, with no text that a spreadsheet would compute: `=1+1` becomes `'=1+1`.

    The texts of a data set may come from anyone. JSON and Parquet need no such care.
    """
    for row in itertools.chain([columns], rows):
        line = io.StringIO()
        # With "\n" alone, "\r" in a text is not quoted.
        csv.writer(line, lineterminator="\r\n").writerow([_csv_value(value) for value in row])
        yield line.getvalue().removesuffix("\r\n") + "\n"


def _csv_value(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value
    text = text_of(value)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def text_of(value: Any) -> str:
    """Writes a value as text; a time as ISO 8601 has it."""
    return value.isoformat() if isinstance(value, datetime) else str(value)


def distinct_names(names: Iterable[str]) -> list[str]:
    """Adds a number to names that came before, as DuckDB does for columns: `n`, `n` become `n`, `n_1`."""
    distinct: list[str] = []
    for name in names:
        key, again = name, 0
        while key in distinct:
            again += 1
            key = f"{name}_{again}"
        distinct.append(key)
    return distinct
