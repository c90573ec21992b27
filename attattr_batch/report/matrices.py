"""Attribution matrices as HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attattr_batch.markup import escape
from attattr_batch.report.palette import BLUE, ORANGE

_MOST_TOKENS = 24
_FAINTEST = 0.02


def shaded_tokens(scores: NDArray[np.float32], tokens: Sequence[str]) -> str:
    """The tokens in a line, each shaded by the positive attribution of the edges that attend to it.

    Args:
        scores: Attribution [layer, head, query, key].
        tokens: Token strings.
    """
    received = np.maximum(scores, 0).sum((0, 1, 2))
    largest = received.max() or 1.0
    return " ".join(
        f'<span style="{_shade(value / largest)};padding:0.1em 0.2em">{escape(token)}</span>'
        for token, value in zip(tokens, received, strict=True)
    )


def head_summed_matrix(scores: NDArray[np.float32], tokens: Sequence[str]) -> str:
    """Query x key map: attribution summed over heads, averaged over layers; blue argues for the class.

    Of a long text the tokens with the largest entries are shown.

    Args:
        scores: Attribution [layer, head, query, key].
        tokens: Token strings.
    """
    matrix = scores.sum(1).mean(0, dtype=np.float64)
    size = np.abs(matrix)
    strength = np.maximum(size.max(0), size.max(1))
    shown = np.sort(np.argsort(-strength, kind="stable")[:_MOST_TOKENS])
    largest = size.max() or 1.0
    upright = "writing-mode:vertical-rl;font-weight:normal;text-align:left;padding:0.2em 0"
    head = "".join(f'<th style="{upright}">{escape(tokens[key])}</th>' for key in shown)
    rows = [f"<tr><th></th>{head}</tr>"]
    for query in shown:
        cells = "".join(_map_cell(matrix[query, key], largest) for key in shown)
        name = f'<th style="font-weight:normal;text-align:right;padding:0 0.4em">{escape(tokens[query])}</th>'
        rows.append(f"<tr>{name}{cells}</tr>")
    some = f"; the {len(shown)} of {len(tokens)} tokens with the largest" if len(shown) < len(tokens) else ""
    caption = f"attribution summed over heads, mean over layers (row: query, column: key{some})"
    return f"<p>{caption}</p><table>{''.join(rows)}</table>"


def _map_cell(value: Any, largest: Any) -> str:
    share = value / largest
    if abs(share) < _FAINTEST:
        return "<td></td>"
    return f'<td title="{value:.3g}" style="{_shade(share)};min-width:1.1em"></td>'


def _shade(share: Any) -> str:
    """Background of a share from -1 to 1, translucent, for light and dark pages alike."""
    return f"background:{BLUE if share >= 0 else ORANGE}{round(200 * abs(share)):02x}"
