"""Attribution matrices for BertViz: JSON that holds the arguments of `bertviz.head_view`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:  # a single text is attributed without a store
    from attattr_batch.analysis.examples import AttributedExample

_DIGITS = 9


def head_view_json(
    scores: NDArray[np.float32],
    tokens: Sequence[str],
    segments: Sequence[int | None],
    about: Mapping[str, Any],
) -> str:
    """The arguments of `bertviz.head_view` for one example, as a JSON document.

    BertViz draws a weight as the opacity of a line, so scale the matrices by `largest` to see them::

        page = json.loads(Path("example.json").read_text())
        layers = [torch.tensor(layer) / page["largest"] for layer in page["attention"]]
        bertviz.head_view(layers, page["tokens"], sentence_b_start=page["sentence_b_start"])

    Args:
        scores: Attribution [layer, head, query, key].
        tokens: Token strings.
        segments: Per token 0 (first text), 1 (second text) or None (special token).
        about: What the numbers are, for people.

    Returns:
        A document with `attention`: by layer nested lists [1, head, query, key], rounded to 1e-9; `tokens`;
        `sentence_b_start`: position of the second text, or null; `largest`: the largest entry; `about`.
    """
    rounded = np.round(scores.astype(np.float64), _DIGITS)
    document = {
        "about": dict(about),
        "tokens": list(tokens),
        "sentence_b_start": list(segments).index(1) if 1 in segments else None,
        "largest": float(rounded.max()),
        "attention": rounded[:, np.newaxis].tolist(),
    }
    return json.dumps(document, ensure_ascii=False)


def stored_head_view(example: AttributedExample, matrices: NDArray[np.float32]) -> str:
    """`head_view_json` of an example's stored edges.

    Args:
        example: From `analysis.examples.find_example`.
        matrices: Its edges, from `analysis.examples.edge_matrices`.
    """
    about = {
        "run": example.run.name,
        "example": example.example_id,
        "attributed class": example.target,
        "gold": example.gold,
        "predicted": example.predicted,
        "entries": f"attribution of {np.count_nonzero(matrices)} stored edges, the strongest of each head;"
        " every other entry is 0 here, not in truth",
    }
    return head_view_json(matrices, example.tokens, example.segments, about)
