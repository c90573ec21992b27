"""One example of a store for BertViz; apart from `bertviz`, which serves without a store and its DuckDB."""

from __future__ import annotations

import numpy as np
from sqlalchemy import Connection

from attattr_batch.analysis.examples import edge_matrices, find_example
from attattr_batch.report.bertviz import head_view_json
from attattr_batch.store.writing.runs import resolve_run


def stored_head_view(connection: Connection, run: str | int, example_id: int, target: str) -> str:
    """`head_view_json` of the edges that the store holds for an example.

    Args:
        connection: From `Store.read()`.
        run: Name or id of the run.
        example_id: The example.
        target: Class whose attribution is shown: `gold` or `predicted`.

    Raises:
        UserError: no such run or example, or the example is not attributed.
    """
    example = find_example(connection, resolve_run(connection, run), example_id, target)
    matrices = edge_matrices(connection, example)
    about = {
        "run": example.run,
        "example": example.example_id,
        "attributed class": example.target,
        "gold": example.gold,
        "predicted": example.predicted,
        "entries": f"attribution of {np.count_nonzero(matrices)} stored edges, the strongest of each head;"
        " every other entry is 0 here, not in truth",
    }
    return head_view_json(matrices, example.tokens, example.segments, about)
