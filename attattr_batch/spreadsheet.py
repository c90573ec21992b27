"""Text in CSV files: what a spreadsheet would take for a formula is marked as text."""

from __future__ import annotations

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_text(value: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would compute: texts of a data set are anyone's.

    Numbers are not texts and stay as they are. JSON and Parquet hold every text as it is.
    """
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value
