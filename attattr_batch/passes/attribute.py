"""The attribution pass: turns chunks of examples into rows of scores and edges."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.choices import Target
from attattr_batch.data.records import Chunk
from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import Encoder, collate
from attattr_batch.engine.path import Items
from attattr_batch.engine.statistics import (
    Columns,
    ItemNames,
    full_scores,
    head_rows,
    layer_rows,
    tree_tops,
)
from attattr_batch.passes.model_work import ModelWork
from attattr_batch.spec import MethodSettings


@dataclass(frozen=True, kw_only=True)
class AttributeWork(ModelWork):
    """Settings of an attribution worker.

    Attributes:
        method: How to integrate, which class, and which edges are kept.
    """

    method: MethodSettings

    def compute(self, encoder: Encoder, chunk: Chunk) -> dict[str, pa.Table]:
        """Attributes a chunk.

        Returns:
            Rows of `predictions`, `target_scores`, `head_scores`, `layer_scores`, `edges`, `layer_edges`.
        """
        batch, method = collate(chunk.examples, encoder.pad_token_id, encoder.device), self.method
        trace = encoder.trace(batch)
        # `predicted` and `labels` are the dataset's label ids; items name outputs of the model.
        outputs = torch.tensor(self.outputs, device=encoder.device)
        probabilities = trace.logits.detach().float().softmax(-1)[:, outputs]
        predicted = probabilities.argmax(1)
        rows, labels, names = _items(chunk, predicted, method.target)
        parts: defaultdict[str, list[Columns]] = defaultdict(list)
        n_tokens = batch.input_ids.shape[1]
        total = trace.logits.new_zeros((len(rows), n_tokens, n_tokens))
        for result in attribute_layers(trace, Items(rows, outputs[labels]), method, self.batch_tokens):
            scores = full_scores(result)
            summed = scores.sum(1)
            total += summed
            # The last layer keeps all positive edges: `greedy` trees start there, with threshold 0.
            floor = 0.0 if result.layer == encoder.n_layers - 1 else method.edge_floor
            heads, edges = head_rows(result, scores, batch, names, method.top_k)
            layers, layer_edges = layer_rows(result, summed, batch, names, floor, method.edge_cap)
            new = {"head_scores": heads, "edges": edges, "layer_scores": layers, "layer_edges": layer_edges}
            for table, columns in new.items():
                parts[table].append(columns)
        parts["target_scores"] = [_target_columns(names, labels, total)]
        parts["predictions"] = [_prediction_columns(chunk, probabilities, predicted)]
        return {table: _arrow(columns) for table, columns in parts.items()}


def _items(chunk: Chunk, predicted: Tensor, target: Target) -> tuple[Tensor, Tensor, ItemNames]:
    """Row, label and names of each item: an (example, class), one where gold and predicted coincide."""
    rows = torch.arange(len(chunk.examples), device=predicted.device)
    if target == "predicted":
        labels, targets = predicted, ["predicted"] * len(rows)
    else:
        labels = torch.tensor([example.gold for example in chunk.examples]).to(predicted.device)
        targets = ["gold"] * len(rows)
        if target == "both":
            wrong = (labels != predicted).nonzero().squeeze(1)
            targets = ["both" if same else "gold" for same in (labels == predicted).tolist()]
            targets += ["predicted"] * len(wrong)
            rows, labels = torch.cat([rows, wrong]), torch.cat([labels, predicted[wrong]])
    example_ids = np.array(chunk.example_ids, np.uint32)[rows.cpu().numpy()]
    return rows, labels, ItemNames(example_ids, targets, rows)


def _target_columns(names: ItemNames, labels: Tensor, total: Tensor) -> Columns:
    top, mass = tree_tops(total)
    return {
        "example_id": names.example_ids,
        "target": np.asarray(names.targets),
        "label": labels.cpu().numpy().astype(np.uint16),
        "tree_top": np.ma.masked_array(top.astype(np.int32), mask=top < 0),
        "tree_top_mass": mass,
    }


def _prediction_columns(chunk: Chunk, probabilities: Tensor, predicted: Tensor) -> Columns:
    values, best = probabilities.cpu().numpy(), predicted.cpu().numpy()
    gold = np.array([-1 if example.gold is None else example.gold for example in chunk.examples])
    rows = np.arange(len(gold))
    return {
        "example_id": np.array(chunk.example_ids, np.uint32),
        "gold": np.ma.masked_array(gold, mask=gold < 0),
        "predicted": best,
        "prob_gold": np.ma.masked_array(values[rows, np.maximum(gold, 0)], mask=gold < 0),
        "prob_predicted": values[rows, best],
        "probabilities": values,
        "n_tokens": np.array([example.n_tokens for example in chunk.examples], np.uint16),
        "truncated": np.array([example.truncated for example in chunk.examples]),
    }


def _arrow(parts: list[Columns]) -> pa.Table:
    return pa.concat_tables([pa.table({k: _column(v) for k, v in part.items()}) for part in parts])


def _column(values: np.ndarray) -> pa.Array:
    if values.ndim == 2:
        return pa.array(list(values))
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    # Not pa.array(from_pandas=True): a NaN score must reach the store's check instead of becoming null.
    return pa.array(values)
