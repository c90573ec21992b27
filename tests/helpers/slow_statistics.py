"""Statistics of made-up attribution matrices, computed slowly, in plain Python, from real tokens alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from attattr_batch.engine.attribution import LayerAttribution
from attattr_batch.engine.families import Batch
from attattr_batch.engine.rows import Columns, ItemNames
from attattr_batch.engine.statistics import Statistics, Told, full_scores

Row = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """Made-up results of one layer; item i stands for batch row rows[i]."""

    result: LayerAttribution
    batch: Batch
    rows: Tensor
    names: ItemNames
    lengths: tuple[int, ...]

    def told(self, top_k: int = 5, cap: int = 512) -> Told:
        """The statistics of the layer."""
        statistics = Statistics(self.batch, self.rows, top_k, cap)
        statistics.add(self.result)
        return statistics.told()

    def entries(self, item: int, head: int | None = None) -> list[tuple[float, int, int]]:
        """(score, query, key) of real tokens; of one head, or summed over heads."""
        matrix = full_scores(self.result)[item]
        chosen = matrix.sum(0) if head is None else matrix[head]
        n = self.lengths[int(self.rows[item])]
        return [(float(chosen[q, k]), q, k) for q in range(n) for k in range(n)]


def made(
    lengths: tuple[int, ...],
    *,
    seed: int = 0,
    n_heads: int = 2,
    reach: int | None = None,
    shift: float = 0.0,
) -> Case:
    """Random scores around `shift`, zero where a query cannot reach and at padding."""
    generator = torch.Generator().manual_seed(seed)
    n_rows, n_tokens = len(lengths), max(lengths)
    rows = torch.tensor([*range(n_rows), 0])
    attention_mask = torch.arange(n_tokens) < torch.tensor(lengths)[:, None]
    logits = torch.randn((n_rows, n_heads, n_tokens, n_tokens), generator=generator)
    attention = logits.masked_fill(~attention_mask[:, None, None], -torch.inf).softmax(-1)
    scores = torch.randn((len(rows), n_heads, n_tokens, n_tokens), generator=generator) + shift
    scores *= (attention_mask[:, :, None] & attention_mask[:, None, :])[rows][:, None]

    def per_item(*shape: int) -> Tensor:
        return torch.rand((len(rows), *shape), generator=generator) * 0.9 + 0.05

    result = LayerAttribution(
        layer=3,
        attention=attention,
        scores=scores[:, :, :reach],
        taylor=per_item(n_heads),
        taylor_released=per_item(n_heads),
        grad_attn=per_item(n_heads) - 0.5,
        f_full=per_item(),
        f_zero=per_item(),
        completeness_error=per_item() - 0.5,
        path_error=torch.full((len(rows),), torch.nan) if seed % 2 else per_item(),
        agreement_error=torch.full((len(rows),), torch.nan) if seed % 2 else per_item(),
        nodes=torch.arange(len(rows)) + 5,
        certified=torch.arange(len(rows)) % 2 == 0,
    )
    ids = torch.randint(0, 100, (n_rows, n_tokens), generator=generator)
    example_ids = np.arange(70, 70 + len(rows), dtype=np.uint32)
    names = ItemNames(example_ids, ["gold"] * n_rows + ["predicted"], ids[rows].numpy().astype(np.uint32))
    padded = min(lengths) < n_tokens
    in_text = attention_mask & (torch.arange(n_tokens) % 4 > 0)  # every fourth token is a special one
    return Case(result, Batch(ids, attention_mask, None, in_text, padded), rows, names, lengths)


def as_rows(columns: Columns) -> list[Row]:
    """Columns to rows; a masked value is None."""
    lengths = {len(values) for values in columns.values()}
    assert len(lengths) == 1
    lists = {name: values.tolist() for name, values in columns.items()}  # masked arrays give None
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def identity(case: Case, item: int) -> Row:
    target = "predicted" if item == len(case.rows) - 1 else "gold"
    return {"example_id": 70 + item, "layer": 3, "target": target}


def largest_first(entries: list[tuple[float, int, int]]) -> list[tuple[float, int, int]]:
    return sorted(entries, key=lambda entry: (-entry[0], entry[1], entry[2]))


def slow_head_rows(case: Case, top_k: int) -> tuple[list[Row], list[Row]]:
    heads, edges = [], []
    for item, row in enumerate(case.rows.tolist()):
        n = case.lengths[row]
        for head in range(case.result.scores.shape[1]):
            ordered = largest_first(case.entries(item, head))
            positive = [entry for entry in ordered if entry[0] > 0]
            weights = case.result.attention[row, head, :n, :n].tolist()
            top = positive[:top_k]
            positive_sum = sum(value for value, _, _ in positive)
            first, second, *_ = [*ordered, (0.0, 0, 0)]  # one token alone has one connection
            heads.append(
                identity(case, item)
                | {
                    "head": head,
                    "attr_max": first[0],
                    "attr_max_query": first[1] if first[0] > 0 else None,
                    "attr_max_key": first[2] if first[0] > 0 else None,
                    "attr_second": second[0],
                    "attr_second_query": second[1] if second[0] > 0 else None,
                    "attr_second_key": second[2] if second[0] > 0 else None,
                    "attr_sum": sum(value for value, _, _ in ordered),
                    "attr_positive_sum": positive_sum,
                    "attn_max": max(max(line) for line in weights),
                    "attn_confidence": sum(max(line) for line in weights) / n,
                    "taylor": float(case.result.taylor[item, head]),
                    "taylor_released": float(case.result.taylor_released[item, head]),
                    "grad_attn": float(case.result.grad_attn[item, head]),
                    "kept_mass": sum(value for value, _, _ in top) / positive_sum if positive else 1.0,
                }
            )
            for rank, (value, query, key) in enumerate(top):
                edges.append(
                    identity(case, item)
                    | {
                        "head": head,
                        "rank": rank,
                        "query_pos": query,
                        "key_pos": key,
                        "query_token": int(case.batch.input_ids[row, query]),
                        "key_token": int(case.batch.input_ids[row, key]),
                        "attr": value,
                        "attn": weights[query][key],
                    }
                )
    return heads, edges


def slow_layer_rows(case: Case, share: float, cap: int) -> tuple[list[Row], list[Row]]:
    layers, edges = [], []
    result = case.result
    for item in range(len(case.rows)):
        ordered = largest_first(case.entries(item))
        off_first = max((value for value, query, _ in ordered if query > 0), default=0.0)
        scale = off_first if off_first > 0 else max(0.0, ordered[0][0])
        floor = scale * share
        kept = [entry for entry in ordered if entry[0] > 0 and entry[0] >= floor][:cap]
        positive_sum = sum(value for value, _, _ in ordered if value > 0)
        known = not result.path_error[item].isnan()
        layers.append(
            identity(case, item)
            | {
                "f_full": float(result.f_full[item]),
                "f_zero": float(result.f_zero[item]),
                "completeness_error": float(result.completeness_error[item]),
                "path_error": float(result.path_error[item]) if known else None,
                "agreement_error": float(result.agreement_error[item]) if known else None,
                "nodes": int(result.nodes[item]),
                "certified": bool(result.certified[item]) if known else None,
                "off_first_max": off_first,
                "edge_floor": floor,
                "kept_mass": sum(v for v, _, _ in kept) / positive_sum if positive_sum > 0 else 1.0,
            }
        )
        for value, query, key in kept:
            edges.append(identity(case, item) | {"query_pos": query, "key_pos": key, "attr": value})
    return layers, edges


def slow_peak_rows(case: Case) -> list[Row]:
    """The strongest head by its largest weight between different tokens of the texts; the first of equals."""
    rows = []
    for row in range(len(case.lengths)):
        attention, places = case.result.attention[row], case.batch.in_text[row].nonzero().flatten().tolist()
        pairs = [(query, key) for query in places for key in places if query != key]
        by_head = [largest_first([(float(one[q, k]), q, k) for q, k in pairs]) for one in attention]
        strongest = max(range(len(by_head)), key=lambda head: (by_head[head][0][0], -head)) if pairs else 0
        for rank, (weight, query, key) in enumerate(by_head[strongest][:2]):
            place = {"layer": 3, "head": strongest, "query_pos": query, "key_pos": key}
            rows.append({"example_id": 70 + row, "peak": rank} | place | {"attn": weight})
    return rows


def slow_tree_top(total: Tensor) -> tuple[int, float]:
    """The released code's rule, entry by entry."""
    n = len(total)
    maximum = max(float(value) for value in total.flatten())
    best, mass = -1, 0.0
    for query in range(1, n):
        line = [float(total[query, key]) for key in range(n) if key != query]
        row_sum = sum(value / maximum for value in line if value > 0) if maximum > 0 else 0.0
        if row_sum > mass:
            best, mass = query, row_sum
    return best, mass
