"""Turns statistics, once they are on the host, into columns of the tables of facts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attattr_batch.engine.statistics import Told

Columns = dict[str, NDArray[Any]]
"""Columns of equal length, by name."""


_AS_TOLD = (
    "attr_sum",
    "attr_positive_sum",
    "attn_max",
    "attn_confidence",
    "taylor",
    "taylor_released",
    "grad_attn",
)


@dataclass(frozen=True)
class ItemNames:
    """Identity of each item in the rows written.

    Attributes:
        example_ids: Example of each item.
        targets: `gold`, `predicted` or `both` for each item.
        tokens: Token ids of each item [item, token], whatever stands at padding.
    """

    example_ids: NDArray[np.uint32]
    targets: Sequence[str]
    tokens: NDArray[np.uint32]

    def columns(self, layers: NDArray[Any], items: NDArray[Any]) -> Columns:
        """The columns that say which layer and item each row is about."""
        return {
            "example_id": self.example_ids[items],
            "layer": layers.astype(np.uint8),
            "target": np.asarray(self.targets)[items],
        }


def head_rows(told: Told, names: ItemNames, top_k: int) -> tuple[Columns, Columns]:
    """Statistics of each layer, item and head, and the `top_k` largest positive edges of each.

    Args:
        told: From `Statistics.told()`.
        names: Identity of the items.
        top_k: Edges kept of each head.

    Returns:
        Columns of `head_scores` and of `edges`.
    """
    n_tokens = names.tokens.shape[1]
    values, places = told["top_attr"], told["top_place"]
    shape = values.shape[:-1]
    if values.shape[-1] == 1:  # one token alone has one edge
        values, places = (np.concatenate([one, np.zeros_like(one)], -1) for one in (values, places))
    values = _or_zero(values)
    top = np.maximum(values[..., :top_k], 0)
    scalars = {
        "attr_max": values[..., 0],
        "attr_second": values[..., 1],
        **{name: told[name] for name in _AS_TOLD},
        "kept_mass": _share(top.sum(-1), told["attr_positive_sum"]),
    }
    layer, item, head = (one.ravel() for one in np.indices(shape))
    heads = names.columns(told["layer"][layer], item) | {"head": head.astype(np.uint8)}
    heads |= {name: numbers.ravel() for name, numbers in scalars.items()}
    for rank, name in enumerate(("attr_max", "attr_second")):
        place, positive = places[..., rank].ravel(), values[..., rank].ravel() > 0
        heads[f"{name}_query"] = _positions(place // n_tokens, positive)
        heads[f"{name}_key"] = _positions(place % n_tokens, positive)
    layer, item, head, rank_of = np.nonzero(top)
    query, key = np.divmod(places[layer, item, head, rank_of], n_tokens)
    edges = names.columns(told["layer"][layer], item) | {
        "head": head.astype(np.uint8),
        "rank": rank_of.astype(np.uint16),
        "query_pos": query.astype(np.uint16),
        "key_pos": key.astype(np.uint16),
        "query_token": names.tokens[item, query],
        "key_token": names.tokens[item, key],
        "attr": top[layer, item, head, rank_of],
        "attn": told["top_attn"][layer, item, head, rank_of],
    }
    return heads, edges


def layer_rows(told: Told, names: ItemNames, floors: NDArray[np.float64]) -> tuple[Columns, Columns]:
    """Statistics of each layer and item, and the edges of the head-summed matrix above the floor.

    Args:
        told: From `Statistics.told()`.
        names: Identity of the items.
        floors: For each layer: edges below this share of the layer's scale (its largest entry outside the
            first row) are dropped.

    Returns:
        Columns of `layer_scores` and of `layer_edges`.
    """
    off_first, values = _or_zero(told["off_first_max"]), told["layer_attr"]
    scale = np.where(off_first > 0, off_first, np.maximum(told["layer_max"], 0))
    smallest = scale * floors.astype(np.float32)[:, None]
    kept = (values > 0) & (values >= smallest[..., None])
    layer, item = (one.ravel() for one in np.indices(off_first.shape))
    no_error = np.isnan(told["path_error"]).ravel()
    layers = names.columns(told["layer"][layer], item) | {
        **{name: told[name].ravel() for name in ("f_full", "f_zero", "completeness_error")},
        # A fixed rule has no such error, which is stored as null.
        "path_error": np.ma.masked_invalid(told["path_error"].ravel()),
        "agreement_error": np.ma.masked_invalid(told["agreement_error"].ravel()),
        "nodes": told["nodes"].ravel().astype(np.uint16),
        "certified": np.ma.masked_array(told["certified"].ravel(), mask=no_error),
        "off_first_max": off_first.ravel(),
        "edge_floor": smallest.ravel(),
        "kept_mass": _share((values * kept).sum(-1), told["layer_positive_sum"]).ravel(),
    }
    layer, item, rank = np.nonzero(kept)
    query, key = np.divmod(told["layer_place"][layer, item, rank], names.tokens.shape[1])
    edges = names.columns(told["layer"][layer], item)
    return layers, edges | {
        "query_pos": query.astype(np.uint16),
        "key_pos": key.astype(np.uint16),
        "attr": values[layer, item, rank],
    }


def peak_rows(told: Told, example_ids: NDArray[np.uint32], n_tokens: int) -> Columns:
    """The two largest attention weights of the head of each row that has the largest.

    Args:
        told: From `Statistics.told()`.
        example_ids: Example of each row of the batch.
        n_tokens: Tokens of the batch, padding included.

    Returns:
        Columns of `attention_peaks`; a row has fewer than two entries where its texts have one token.
    """
    weights = told["peak_attr"]
    row, rank = np.nonzero(np.isfinite(weights))
    query, key = np.divmod(told["peak_place"][row, rank], n_tokens)
    return {
        "example_id": example_ids[row],
        "peak": rank.astype(np.uint16),
        "layer": told["layer"][told["peak_layer"][row]].astype(np.uint8),
        "head": told["peak_head"][row].astype(np.uint8),
        "query_pos": query.astype(np.uint16),
        "key_pos": key.astype(np.uint16),
        "attn": weights[row, rank],
    }


def _or_zero(maxima: NDArray[Any]) -> NDArray[Any]:
    """Maxima, or 0 where there was no entry."""
    return np.where(np.isneginf(maxima), np.float32(0), maxima)


def _share(part: NDArray[Any], whole: NDArray[Any]) -> NDArray[Any]:
    """Returns part / whole, or 1 where the whole is 0 and nothing can be missing."""
    share = part / np.maximum(whole, np.finfo(np.float32).tiny)
    return np.where(whole > 0, np.minimum(share, np.float32(1)), np.float32(1))


def _positions(place: NDArray[Any], known: NDArray[Any]) -> NDArray[Any]:
    """Token positions; masked (stored as null) where no entry is positive."""
    return np.ma.masked_array(place.astype(np.uint16), mask=~known)
