"""Pieces of HTML. Text from data sets and users is escaped here and nowhere else.

What notebooks show (`_repr_html_`) is styled inline and sets no colour of text, so that it is readable on a
light and on a dark page and survives viewers that drop style sheets.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_CELL = "padding:0.1em 0.7em;text-align:"


def escape(text: str) -> str:
    """The text with HTML's own characters escaped, quotes too."""
    return html.escape(text, quote=True)


def cell(value: Any) -> str:
    """A value as the contents of a table's cell: nothing for None, four digits of a float."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def notebook_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table for a notebook; numbers are aligned to the right."""
    lines = ["".join(f'<th style="{_CELL}left">{escape(column)}</th>' for column in columns)]
    for row in rows:
        sides = ("right" if isinstance(value, (int, float)) else "left" for value in row)
        cells = zip(sides, map(cell, row), strict=True)
        lines.append("".join(f'<td style="{_CELL}{side}">{content}</td>' for side, content in cells))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def notebook_message(message: str) -> str:
    """Lines for a notebook in place of an object that cannot be shown: why not."""
    return f"<pre>{escape(message)}</pre>"
