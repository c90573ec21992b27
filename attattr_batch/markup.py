"""Pieces of HTML. Text from data sets and users is escaped here and nowhere else.

Notebooks (`_repr_html_`) get inline styles, which survive viewers that drop style sheets, and no colour of
text, so that everything is readable on light and dark pages.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence
from typing import Any


def escape(text: str) -> str:
    """Escapes the characters that mean something in HTML, quotes too."""
    return html.escape(text, quote=True)


def cell(value: Any) -> str:
    """Makes the contents of a table cell: nothing for None, four digits for a float."""
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else escape(str(value))


def html_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Makes a table; columns of numbers are aligned to the right."""
    rows = [*rows]
    numbers = [any(isinstance(row[place], int | float) for row in rows) for place in range(len(columns))]
    sides = ["right" if number else "left" for number in numbers]

    def line(element: str, contents: Iterable[str]) -> str:
        cells = zip(sides, contents, strict=True)
        return "".join(f'<{element} align="{side}">{content}</{element}>' for side, content in cells)

    lines = [line("th", map(escape, columns)), *(line("td", map(cell, row)) for row in rows)]
    return f"<table>{''.join(f'<tr>{one}</tr>' for one in lines)}</table>"
