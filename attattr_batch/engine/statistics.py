"""Turns attribution matrices into rows: the statistics that the experiments need.

A full tensor is layers x heads x tokens x tokens per example. Kept are a few numbers a head, the strongest
edges, and the share of positive attribution that these hold, so that later sums can tell what is missing.
Positions are 0-based token positions; row = query, column = key (information flows from key to query).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from attattr_batch.engine.attribution import LayerAttribution
from attattr_batch.engine.families import Batch

Columns = dict[str, NDArray[Any]]
"""Columns of equal length, by name."""


@dataclass(frozen=True)
class ItemNames:
    """Identity of each item in the rows written.

    Attributes:
        example_ids: Example of each item.
        targets: `gold`, `predicted` or `both` for each item.
        rows: Batch row of each item.
    """

    example_ids: NDArray[np.uint32]
    targets: Sequence[str]
    rows: Int[Tensor, " item"]

    def columns(self, index: NDArray[np.intp], layer: int) -> Columns:
        """The identifying columns of the given items at one layer."""
        return {
            "example_id": self.example_ids[index],
            "layer": np.full(len(index), layer, np.uint8),
            "target": np.asarray(self.targets)[index],
        }


def full_scores(result: LayerAttribution) -> Float[Tensor, "item head query key"]:
    """Attribution with the zero rows of query positions that cannot reach the classifier."""
    missing = result.scores.shape[-1] - result.scores.shape[-2]
    return pad(result.scores, (0, 0, 0, missing))


def head_rows(
    result: LayerAttribution,
    scores: Float[Tensor, "item head query key"],
    batch: Batch,
    names: ItemNames,
    top_k: int,
) -> tuple[Columns, Columns]:
    """Statistics per (item, head), and the `top_k` largest positive edges of each head.

    Returns:
        Columns of `head_scores` and of `edges`.
    """
    n_items, n_heads, n_tokens = scores.shape[:3]
    flat = scores.flatten(2)
    positive_sum = flat.clamp_min(0).sum(-1)
    ranked = _without_padding(scores, batch.attention_mask[names.rows][:, None]).flatten(2)
    values, places = _largest(ranked, max(top_k, 2))
    if n_tokens == 1:
        values, places = pad(values, (0, 1)), pad(places, (0, 1))
    values = _or_zero(values)
    top = values[..., :top_k].clamp_min(0)
    most_attended = result.attention.amax(-1) * batch.attention_mask[:, None, :]  # in rows of real tokens
    attn_confidence = most_attended.sum(-1) / batch.attention_mask.sum(1)[:, None]
    index = np.repeat(np.arange(n_items), n_heads)
    scalars = {
        "attr_max": values[..., 0],
        "attr_second": values[..., 1],
        "attr_sum": flat.sum(-1),
        "attr_positive_sum": positive_sum,
        "attn_max": most_attended.amax(-1)[names.rows],
        "attn_confidence": attn_confidence[names.rows],
        "taylor": result.taylor,
        "taylor_released": result.taylor_released,
        "kept_mass": _share(top.sum(-1), positive_sum),
    }
    heads = names.columns(index, result.layer)
    heads["head"] = np.tile(np.arange(n_heads, dtype=np.uint8), n_items)
    heads |= {name: _numpy(tensor.flatten()) for name, tensor in scalars.items()}
    for rank, name in enumerate(("attr_max", "attr_second")):
        place, positive = places[..., rank].flatten(), values[..., rank].flatten() > 0
        heads[f"{name}_query"] = _positions(place // n_tokens, positive)
        heads[f"{name}_key"] = _positions(place % n_tokens, positive)
    edges = _edge_columns(result, values[..., :top_k], places[..., :top_k], batch, names)
    return heads, edges


def layer_rows(
    result: LayerAttribution,
    summed: Float[Tensor, "item query key"],
    batch: Batch,
    names: ItemNames,
    floor: float,
    cap: int,
) -> tuple[Columns, Columns]:
    """Statistics per (item, layer), and the edges of the head-summed matrix above the floor.

    Args:
        result: The layer's attribution.
        summed: Attribution summed over heads.
        batch: The rows.
        names: Identity of the items.
        floor: Edges below this share of the layer's scale (its largest entry outside the first row) are
            dropped.
        cap: Edges of an item at most.

    Returns:
        Columns of `layer_scores` and of `layer_edges`.
    """
    n_items, n_tokens = summed.shape[:2]
    off_first = _without_padding(summed, batch.attention_mask[names.rows])[:, 1:].flatten(1)
    off_first_max = _or_zero(off_first.amax(1)) if n_tokens > 1 else summed.new_zeros(n_items)
    scale = torch.where(off_first_max > 0, off_first_max, summed.amax((1, 2)))
    smallest = scale.clamp_min(0) * floor
    flat = summed.flatten(1)
    values, places = _largest(flat, cap)
    kept = (values > 0) & (values >= smallest[:, None])
    kept_mass = _share((values * kept).sum(1), flat.clamp_min(0).sum(1))
    layers = names.columns(np.arange(n_items), result.layer)
    layers |= {
        **{name: _numpy(getattr(result, name)) for name in ("f_full", "f_zero", "completeness_error")},
        "path_error": _or_null(result.path_error),
        "agreement_error": _or_null(result.agreement_error),
        "nodes": _numpy(result.nodes).astype(np.uint16),
        "certified": np.ma.masked_array(_numpy(result.certified), mask=_numpy(result.path_error.isnan())),
        "off_first_max": _numpy(off_first_max),
        "edge_floor": _numpy(smallest),
        "kept_mass": _numpy(kept_mass),
    }
    item, rank = (_numpy(part) for part in kept.nonzero(as_tuple=True))
    place = _numpy(places)[item, rank]
    return layers, names.columns(item, result.layer) | {
        "query_pos": (place // n_tokens).astype(np.uint16),
        "key_pos": (place % n_tokens).astype(np.uint16),
        "attr": _numpy(values)[item, rank],
    }


def tree_tops(total: Float[Tensor, "item query key"]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """The top node of the released attribution tree (see `jobs/sql/tree_edges.sql`).

    The attribution summed over heads and layers is scaled by its maximum; the diagonal, negative entries and
    the first row become zero. The row with the largest sum is the top node.

    Returns:
        The row of each item (-1 where nothing is positive), and its sum.
    """
    maximum = total.amax((1, 2)).clamp_min(torch.finfo(total.dtype).tiny)
    scaled = (total / maximum[:, None, None]).clamp_min(0)
    scaled.diagonal(dim1=1, dim2=2).zero_()
    scaled[:, 0] = 0
    mass, top = scaled.sum(2).max(1)
    return _numpy(torch.where(mass > 0, top, -1)), _numpy(mass)


def _edge_columns(
    result: LayerAttribution, values: Tensor, places: Tensor, batch: Batch, names: ItemNames
) -> Columns:
    n_tokens = result.attention.shape[-1]
    attention = result.attention[names.rows].flatten(2).gather(2, places)
    item, head, rank = (values > 0).nonzero(as_tuple=True)
    place = places[item, head, rank]
    query, key = place // n_tokens, place % n_tokens
    row = names.rows[item]
    edges = names.columns(_numpy(item), result.layer)
    return edges | {
        "head": _numpy(head).astype(np.uint8),
        "rank": _numpy(rank).astype(np.uint16),
        "query_pos": _numpy(query).astype(np.uint16),
        "key_pos": _numpy(key).astype(np.uint16),
        "query_token": _numpy(batch.input_ids[row, query]).astype(np.uint32),
        "key_token": _numpy(batch.input_ids[row, key]).astype(np.uint32),
        "attr": _numpy(values[item, head, rank]),
        "attn": _numpy(attention[item, head, rank]),
    }


def _without_padding(scores: Tensor, attention_mask: Tensor) -> Tensor:
    """Keeps padding out of maxima: its zeros would exceed real entries that are all negative."""
    return scores.masked_fill(~(attention_mask[..., :, None] & attention_mask[..., None, :]), -torch.inf)


def _or_zero(maxima: Tensor) -> Tensor:
    """Maxima, or 0 where there was no entry: a text of one token, special ones included, has one edge."""
    return maxima.masked_fill(maxima.isneginf(), 0.0)


def _largest(entries: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest entries of each line (all of a shorter line) and their places, largest first.

    Of equal entries, the one at the lower place comes first, also at the cut. topk leaves both open, so lines
    whose positive entries tie at the cut, which are rare, are sorted whole.
    """
    k = min(k, entries.shape[-1])
    values, places = entries.topk(min(k + 1, entries.shape[-1]), dim=-1)
    cut = (values[..., -1] == values[..., k - 1]) & (values[..., k - 1] > 0)
    values, places = _in_order(values[..., :k], places[..., :k])
    if values.shape[-1] < entries.shape[-1] and cut.any():
        whole_values, whole_places = entries[cut].sort(dim=-1, descending=True, stable=True)
        values[cut], places[cut] = whole_values[:, :k], whole_places[:, :k]
    return values, places


def _in_order(values: Tensor, places: Tensor) -> tuple[Tensor, Tensor]:
    """Sorts by value, largest first, and equal values by place."""
    by_place = places.argsort(dim=-1, stable=True)
    values, places = values.gather(-1, by_place), places.gather(-1, by_place)
    by_value = values.argsort(dim=-1, descending=True, stable=True)
    return values.gather(-1, by_value), places.gather(-1, by_value)


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """Returns part / whole, or 1 where the whole is 0 and nothing can be missing."""
    share = part / whole.clamp_min(torch.finfo(whole.dtype).tiny)
    return torch.where(whole > 0, share, 1.0).clamp_max(1.0)


def _positions(place: Tensor, known: Tensor) -> NDArray[Any]:
    """Token positions; masked (stored as null) where no entry is positive."""
    return np.ma.masked_array(_numpy(place).astype(np.uint16), mask=~_numpy(known))


def _or_null(tensor: Tensor) -> NDArray[Any]:
    """Masks NaN, which stands for "this rule has no such error" (stored as null)."""
    return np.ma.masked_invalid(_numpy(tensor))


def _numpy(tensor: Tensor) -> NDArray[Any]:
    return tensor.detach().cpu().numpy()
