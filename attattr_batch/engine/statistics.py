"""Turns attribution matrices into numbers: the statistics that the experiments need.

A full tensor is layers x heads x tokens x tokens per example. Kept are a few numbers a head, the strongest
edges, and the sums by which `engine.rows` can tell what is missing. All of it is computed where the model is,
and copied to the host once. Positions are 0-based token positions; row = query, column = key (information
flows from key to query).
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from attattr_batch.engine.families import Batch
from attattr_batch.engine.layer import LayerAttribution
from attattr_batch.engine.transfer import to_host

Told = dict[str, NDArray[Any]]
"""Statistics on the host, by name."""

_PLACE = 0xFFFFFFFF
"""The bits of a key that say the place, once its sign is turned."""

_AS_FOUND = ("f_full", "f_zero", "completeness_error", "path_error", "agreement_error", "nodes", "certified")


def full_scores(result: LayerAttribution) -> Float[Tensor, "item head query key"]:
    """Attribution with the zero rows of query positions that cannot reach the classifier."""
    missing = result.scores.shape[-1] - result.scores.shape[-2]
    return pad(result.scores, (0, 0, 0, missing)) if missing else result.scores


class Statistics:
    """The statistics of a batch, gathered layer by layer on the device.

    Args:
        batch: The rows.
        rows: Batch row of each item.
        top_k: Edges kept of each head.
        cap: Edges kept of each layer, at most.
    """

    def __init__(self, batch: Batch, rows: Int[Tensor, " item"], top_k: int, cap: int):
        self._mask, self._rows, self._top_k, self._cap = batch.attention_mask, rows, top_k, cap
        self._lengths = self._mask.sum(1)[:, None]
        text = batch.in_text
        self._outside = ~(text[:, :, None] & text[:, None, :])  # of the texts, or a token's own
        self._outside.diagonal(dim1=1, dim2=2).fill_(True)
        self._each = torch.arange(len(text), device=rows.device)
        self._attended: list[tuple[Tensor, Tensor, Tensor]] = []
        self._padding: Tensor | None = None
        if batch.padded:
            mask = self._mask[rows]
            self._padding = ~(mask[:, :, None] & mask[:, None, :])
        n_tokens = batch.input_ids.shape[1]
        self._total = torch.zeros((len(rows), n_tokens, n_tokens), device=rows.device)
        self._unplaced = -torch.arange(n_tokens**2, device=rows.device)
        self._numbers: list[int] = []
        self._layers: list[dict[str, Tensor]] = []

    def add(self, result: LayerAttribution) -> None:
        """Adds those of the next layer."""
        scores = full_scores(result)
        summed = scores.sum(1)
        self._total += summed
        self._numbers.append(result.layer)
        self._layers.append(self._of_heads(result, scores) | self._of_layer(result, summed))
        between = result.attention.masked_fill(self._outside[:, None], -torch.inf).flatten(2)
        strongest, head = between.amax(-1).max(1)
        self._attended.append((between[self._each, head], strongest, head))

    def told(self) -> Told:
        """Everything, copied to the host at once.

        Returns:
            Arrays [layer, item, ...] (see `_of_heads` and `_of_layer`), `layer` [layer], those of
            `tree_tops`, and those of `_peaks`.
        """
        once = self._peaks() | dict(zip(("tree_top", "tree_top_mass"), tree_tops(self._total), strict=True))
        names = list(self._layers[0])
        copied = to_host([*once.values(), *(one[name] for one in self._layers for name in names)])
        told: Told = dict(zip(once, copied, strict=False)) | {"layer": np.array(self._numbers)}
        of_layers = copied[len(once) :]
        for place, name in enumerate(names):
            told[name] = np.stack(of_layers[place :: len(names)])
        for kind in ("top", "layer", "peak"):
            told[f"{kind}_attr"], told[f"{kind}_place"] = _entries(told.pop(f"{kind}_key"))
        return told

    def _of_heads(self, result: LayerAttribution, scores: Tensor) -> dict[str, Tensor]:
        """Numbers [item, head], and the largest entries [item, head, rank], with their places and attention.

        A place is query * tokens + key. At least two entries are given, if there are so many.
        """
        ranked = scores if self._padding is None else scores.masked_fill(self._padding[:, None], -torch.inf)
        keys = self._largest(ranked.flatten(2), max(self._top_k, 2))
        flat = scores.flatten(2)
        most_attended = result.attention.amax(-1) * self._mask[:, None, :]  # in rows of real tokens
        heads = torch.arange(scores.shape[1], device=scores.device)[:, None]
        return {
            "attr_sum": flat.sum(-1),
            "attr_positive_sum": flat.clamp_min(0).sum(-1),
            "attn_max": most_attended.amax(-1)[self._rows],
            "attn_confidence": (most_attended.sum(-1) / self._lengths)[self._rows],
            "taylor": result.taylor,
            "taylor_released": result.taylor_released,
            "grad_attn": result.grad_attn,
            "top_key": keys,
            "top_attn": result.attention.flatten(2)[self._rows[:, None, None], heads, -keys & _PLACE],
        }

    def _of_layer(self, result: LayerAttribution, summed: Tensor) -> dict[str, Tensor]:
        """Numbers [item], and the largest entries [item, rank] of the matrix summed over heads."""
        real = summed if self._padding is None else summed.masked_fill(self._padding, -torch.inf)
        flat = summed.flatten(1)
        # A text of one token, special ones included, has no entry outside the first row.
        alone = summed.shape[1] == 1
        return {
            **{name: getattr(result, name) for name in _AS_FOUND},
            "off_first_max": flat.new_full((len(flat),), -torch.inf) if alone else real[:, 1:].amax((1, 2)),
            "layer_max": flat.amax(1),
            "layer_positive_sum": flat.clamp_min(0).sum(1),
            "layer_key": self._largest(flat, self._cap),
        }

    def _peaks(self) -> dict[str, Tensor]:
        """The head of each row that has the largest weight between different tokens of the texts.

        Its layer (as its place among those added), its number, and its two largest such weights [row, rank].
        """
        weights, strongest, heads = (torch.stack(one) for one in zip(*self._attended, strict=True))
        layers = strongest.argmax(0)
        places = layers, self._each
        return {
            "peak_layer": layers,
            "peak_head": heads[places],
            "peak_key": self._largest(weights[places], 2),
        }

    def _largest(self, entries: Float[Tensor, "... entry"], k: int) -> Int[Tensor, "... rank"]:
        """Keys of the k largest entries of each line (of all in a shorter line), largest first.

        Of equal entries, the one at the lower place comes first, also at the cut, which topk alone leaves
        open. So a key is a whole number that says both: the entry's bits, as a number that rises with it, and
        its place. `_entries` reads it.
        """
        bits = entries.float().view(torch.int32)
        rising = bits ^ ((bits >> 31) & 0x7FFFFFFF)
        keys = torch.add(self._unplaced, rising, alpha=1 << 32)
        return keys.topk(min(k, entries.shape[-1]), dim=-1).values


def tree_tops(total: Float[Tensor, "item query key"]) -> tuple[Int[Tensor, " item"], Float[Tensor, " item"]]:
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
    return torch.where(mass > 0, top, -1), mass


def _entries(keys: NDArray[np.int64]) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Entries and places that `_largest` has put into whole numbers."""
    places = -keys & _PLACE
    rising = ((keys + places) >> 32).astype(np.int32)
    return (rising ^ ((rising >> 31) & 0x7FFFFFFF)).view(np.float32), places
