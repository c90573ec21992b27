"""Tables for other programs: columns of distinct names; no text that a spreadsheet takes for a formula."""

from __future__ import annotations

from collections.abc import Iterable

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def as_text(value: str) -> str:
    """The text, with an apostrophe before what a spreadsheet would compute: texts of a data set are anyone's.

    Numbers are not texts and stay as they are. JSON and Parquet hold every text as it is.
    """
    return f"'{value}" if value.startswith(_FORMULA_STARTS) else value


def distinct_names(names: Iterable[str]) -> list[str]:
    """The names, with a number behind those that came before, as DuckDB makes columns of them."""
    distinct: list[str] = []
    for name in names:
        key, again = name, 0
        while key in distinct:
            again += 1
            key = f"{name}_{again}"
        distinct.append(key)
    return distinct
