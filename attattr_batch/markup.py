"""Pieces of HTML. Text from data sets and users is escaped here and nowhere else.

Notebooks (`_repr_html_`) get inline styles, which survive viewers that drop style sheets, and no colour of
text, so that everything is readable on light and dark pages.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any

_CELL = "padding:0.1em 0.7em;text-align:"


def escape(text: str) -> str:
    """Escapes the characters that mean something in HTML, quotes too."""
    return html.escape(text, quote=True)


def cell(value: Any) -> str:
    """Makes the contents of a table cell: nothing for None, four digits for a float."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def notebook_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Makes a table for a notebook; numbers are aligned to the right."""
    lines = ["".join(f'<th style="{_CELL}left">{escape(column)}</th>' for column in columns)]
    for row in rows:
        sides = ("right" if isinstance(value, (int, float)) else "left" for value in row)
        cells = zip(sides, map(cell, row), strict=True)
        lines.append("".join(f'<td style="{_CELL}{side}">{content}</td>' for side, content in cells))
    return f"<table>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def notebook_message(message: str) -> str:
    """Makes the lines that a notebook shows in place of an object that cannot be shown."""
    return f"<pre>{escape(message)}</pre>"
