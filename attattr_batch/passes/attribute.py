"""The attribution pass: turns chunks of examples into rows of scores and edges."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from attattr_batch.choices import Target
from attattr_batch.data.records import Chunk
from attattr_batch.engine.attribution import Method, attribute_layers
from attattr_batch.engine.families import Encoder, check_trace, collate
from attattr_batch.engine.path import Items
from attattr_batch.engine.statistics import (
    Columns,
    EdgeLimits,
    ItemNames,
    full_scores,
    head_rows,
    layer_rows,
    tree_tops,
)
from attattr_batch.passes.model_work import ModelWork


@dataclass(frozen=True, kw_only=True)
class AttributeWork(ModelWork):
    """Settings of an attribution worker.

    Attributes:
        method: How to integrate.
        edge_limits: Which edges are kept.
        target: Class whose probability is attributed.
    """

    method: Method
    edge_limits: EdgeLimits
    target: Target

    def worker(self, encoder: Encoder) -> AttributeWorker:
        """The worker, once its model is loaded."""
        return AttributeWorker(self, encoder)

    def on_cpu(self, batch_tokens: int) -> AttributeWork:
        """The same work on a CPU, in batches of its own size."""
        return replace(self, device="cpu", method=replace(self.method, batch_tokens=batch_tokens))


class AttributeWorker:
    """Computes attribution chunks with one loaded model."""

    def __init__(self, work: AttributeWork, encoder: Encoder):
        self._work = work
        self._encoder = encoder
        self._outputs = torch.tensor(work.outputs, device=encoder.device)
        self._checked = False

    def compute(self, chunk: Chunk) -> dict[str, pa.Table]:
        """Attributes a chunk.

        Returns:
            Rows of `predictions`, `target_scores`, `head_scores`, `layer_scores`, `edges`, `layer_edges`.
        """
        batch = collate(chunk.examples, self._encoder.pad_token_id, self._encoder.device)
        trace = self._encoder.trace(batch)
        if not self._checked:
            check_trace(self._encoder, trace)
            self._checked = True
        # `predicted` and `labels` are the dataset's label ids; items name outputs of the model.
        probabilities = trace.logits.detach().float().softmax(-1)[:, self._outputs]
        predicted = probabilities.argmax(1)
        items, names, labels = self._items(chunk, predicted)
        parts: defaultdict[str, list[Columns]] = defaultdict(list)
        n_tokens = batch.input_ids.shape[1]
        total = trace.logits.new_zeros((len(items), n_tokens, n_tokens))
        for result in attribute_layers(trace, items, self._work.method):
            scores = full_scores(result)
            summed = scores.sum(1)
            total += summed
            last = result.layer == self._encoder.n_layers - 1
            heads, edges = head_rows(result, scores, batch, names, self._work.edge_limits)
            layers, layer_edges = layer_rows(result, summed, batch, names, self._work.edge_limits, last)
            new = {"head_scores": heads, "edges": edges, "layer_scores": layers, "layer_edges": layer_edges}
            for table, columns in new.items():
                parts[table].append(columns)
        parts["target_scores"] = [_target_columns(names, labels, total)]
        parts["predictions"] = [_prediction_columns(chunk, probabilities, predicted)]
        return {table: _arrow(columns) for table, columns in parts.items()}

    def _items(self, chunk: Chunk, predicted: Tensor) -> tuple[Items, ItemNames, Tensor]:
        """One item per (example, class): gold and predicted are one item where they coincide."""
        rows = torch.arange(len(chunk.examples), device=predicted.device)
        if self._work.target == "predicted":
            labels, targets = predicted, ["predicted"] * len(rows)
        else:
            labels = torch.tensor([example.gold for example in chunk.examples]).to(predicted.device)
            targets = ["gold"] * len(rows)
            if self._work.target == "both":
                wrong = (labels != predicted).nonzero().squeeze(1)
                targets = ["both" if same else "gold" for same in (labels == predicted).tolist()]
                targets += ["predicted"] * len(wrong)
                rows, labels = torch.cat([rows, wrong]), torch.cat([labels, predicted[wrong]])
        example_ids = np.array(chunk.example_ids, np.uint32)[rows.cpu().numpy()]
        return Items(rows, self._outputs[labels]), ItemNames(example_ids, targets, rows), labels


def _target_columns(names: ItemNames, labels: Tensor, total: Tensor) -> Columns:
    top, mass = tree_tops(total)
    columns = names.columns(np.arange(len(top)), layer=0)
    del columns["layer"]
    return columns | {
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
