"""The attribution tree of one example, step by step as the algorithm is told: the test's own reading of it.

Arrays are indexed [layer, query, key]; a node is a token's position, an edge (layer, query, key).
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Edge = tuple[int, int, int]


def top_node(scores: NDArray[np.float64]) -> int | None:
    """The row with the largest sum over all layers, without diagonal, negative entries and the first row."""
    total = scores.sum(0)
    total = total / max(total.max(), np.finfo(float).tiny)
    np.fill_diagonal(total, 0)
    total[total < 0] = 0
    total[0] = 0
    sums = total.sum(1)
    return int(sums.argmax()) if sums.max() > 0 else None


def released_tree(scores: NDArray[np.float64], top: int, tau: float) -> list[Edge]:
    """The tree of the authors' code: the last layer gives no edges, the one before it those of the top."""
    n_layers, n_tokens, _ = scores.shape
    state: list[Literal["NotAppear", "Appear", "Fixed"]] = ["NotAppear"] * n_tokens
    edges = []
    for layer in reversed(range(n_layers - 1)):
        share = scores[layer] / abs(scores[layer, 1:].max())
        if layer == n_layers - 2:
            for child in range(n_tokens):
                if child != top and share[top, child] > tau:
                    state[child] = "Appear"
                    edges.append((layer, top, child))
            state[top] = "Fixed"
            continue
        for parent in range(1, n_tokens):
            for child in range(n_tokens):
                if share[parent, child] < tau or state[parent] == "NotAppear" or state[child] != "NotAppear":
                    continue
                edges.append((layer, parent, child))
                state[child], state[parent] = "Appear", "Fixed"
    return edges


def greedy_tree(scores: NDArray[np.float64], top: int, tau: float) -> tuple[list[Edge], set[int]]:
    """The sweep from the last layer, with threshold 0, downwards; and the nodes reached."""
    n_layers, n_tokens, _ = scores.shape
    reached, edges = {top}, []
    for layer in reversed(range(n_layers)):
        scale = abs(scores[layer, 1:].max())
        for parent in range(1, n_tokens):
            for child in range(n_tokens):
                attribution = scores[layer, parent, child]
                enough = attribution > 0 if layer == n_layers - 1 else attribution / scale >= tau
                if enough and parent in reached and child not in reached:
                    edges.append((layer, parent, child))
                    reached.add(child)
    return edges, reached
