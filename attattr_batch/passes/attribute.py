"""The attribution pass: turns chunks of examples into rows of scores and edges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from attattr_batch.choices import Target
from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.engine.attribution import attribute_layers
from attattr_batch.engine.families import Encoder, Trace, collate
from attattr_batch.engine.path import Items
from attattr_batch.engine.precision import arithmetic
from attattr_batch.engine.rows import Columns, ItemNames, head_rows, layer_rows, peak_rows
from attattr_batch.engine.statistics import Statistics, Told
from attattr_batch.engine.transfer import to_device, to_host
from attattr_batch.passes.model_work import ModelWork
from attattr_batch.passes.work import Rows, RowsLater
from attattr_batch.spec import MethodSettings


@dataclass(frozen=True, kw_only=True)
class AttributeWork(ModelWork):
    """Settings of an attribution worker.

    Attributes:
        method: How to integrate, which class, and which edges are kept.
    """

    method: MethodSettings

    @property
    def dtype(self) -> str:
        """Arithmetic of the replays."""
        return self.method.dtype

    def compute(self, encoder: Encoder, chunk: Chunk) -> RowsLater:
        """Attributes a chunk.

        Returns:
            What makes the rows of `predictions`, `target_scores`, `head_scores`, `layer_scores`, `edges`,
            `layer_edges` and `attention_peaks`, of numbers that are on the host.
        """
        with arithmetic("float32", encoder.device):
            trace = encoder.trace(collate(chunk.examples, encoder.pad_token_id, encoder.device))
            (answers,) = to_host([trace.logits.detach().float().softmax(-1)])
            probabilities = answers[:, list(self.outputs)]
            rows, labels, targets = _items(chunk, probabilities.argmax(1), self.method.target)
            told = self._statistics(trace, rows, labels)
        last = encoder.n_layers - 1

        def make_rows() -> Rows:
            examples = [chunk.examples[row] for row in rows]
            example_ids = np.array([one.example_id for one in examples], np.uint32)
            names = ItemNames(example_ids, targets, _tokens(examples))
            # The last layer keeps all positive edges: `greedy` trees start there, with threshold 0.
            floors = np.where(told["layer"] == last, 0.0, self.method.edge_floor)
            heads, edges = head_rows(told, names, self.method.top_k)
            layers, layer_edges = layer_rows(told, names, floors)
            peaks = peak_rows(told, np.array(chunk.example_ids, np.uint32), names.tokens.shape[1])
            return {
                "attention_peaks": _arrow(peaks),
                "head_scores": _arrow(heads),
                "edges": _arrow(edges),
                "layer_scores": _arrow(layers),
                "layer_edges": _arrow(layer_edges),
                "target_scores": _arrow(_target_columns(names, labels, told)),
                "predictions": _arrow(_prediction_columns(chunk, probabilities)),
            }

        return make_rows

    def _statistics(self, trace: Trace, rows: NDArray[np.intp], labels: NDArray[np.intp]) -> Told:
        """Attributes each row's label; labels are the dataset's, and items name outputs of the model."""
        device, method = trace.logits.device, self.method
        classes = np.array(self.outputs)[labels]
        items = Items(to_device(rows, device), to_device(classes, device))
        statistics = Statistics(trace.batch, items.rows, method.top_k, method.edge_cap)
        for result in attribute_layers(trace, items, method, self.batch_tokens):
            statistics.add(result)
        return statistics.told()


def _items(
    chunk: Chunk, predicted: NDArray[np.intp], target: Target
) -> tuple[NDArray[np.intp], NDArray[np.intp], list[str]]:
    """Row, label and target of each item: an (example, class), one where gold and predicted coincide."""
    rows = np.arange(len(chunk.examples))
    if target == "predicted":
        return rows, predicted, ["predicted"] * len(rows)
    gold = np.array([example.gold for example in chunk.examples])
    if target == "gold":
        return rows, gold, ["gold"] * len(rows)
    wrong = np.flatnonzero(gold != predicted)
    targets = ["both" if same else "gold" for same in gold == predicted] + ["predicted"] * len(wrong)
    return np.concatenate([rows, wrong]), np.concatenate([gold, predicted[wrong]]), targets


def _tokens(examples: Sequence[EncodedExample]) -> NDArray[np.uint32]:
    """Token ids of the examples, 0 at padding."""
    tokens = np.zeros((len(examples), max(example.n_tokens for example in examples)), np.uint32)
    for line, example in zip(tokens, examples, strict=True):
        line[: example.n_tokens] = example.input_ids
    return tokens


def _target_columns(names: ItemNames, labels: NDArray[np.intp], told: Told) -> Columns:
    return {
        "example_id": names.example_ids,
        "target": np.asarray(names.targets),
        "label": labels.astype(np.uint16),
        "tree_top": np.ma.masked_less(told["tree_top"].astype(np.int32), 0),
        "tree_top_mass": told["tree_top_mass"],
    }


def _prediction_columns(chunk: Chunk, probabilities: NDArray[np.float32]) -> Columns:
    best = probabilities.argmax(1)
    gold = np.array([-1 if example.gold is None else example.gold for example in chunk.examples])
    rows = np.arange(len(gold))
    return {
        "example_id": np.array(chunk.example_ids, np.uint32),
        "gold": np.ma.masked_array(gold, mask=gold < 0),
        "predicted": best,
        "prob_gold": np.ma.masked_array(probabilities[rows, np.maximum(gold, 0)], mask=gold < 0),
        "prob_predicted": probabilities[rows, best],
        "probabilities": probabilities,
        "n_tokens": np.array([example.n_tokens for example in chunk.examples], np.uint16),
        "truncated": np.array([example.truncated for example in chunk.examples]),
    }


def _arrow(columns: Columns) -> pa.Table:
    return pa.table({name: _column(values) for name, values in columns.items()})


def _column(values: np.ndarray) -> pa.Array:
    if values.ndim == 2:
        return pa.array(list(values))
    if isinstance(values, np.ma.MaskedArray):
        return pa.array(values.data, mask=np.ma.getmaskarray(values))
    # Not pa.array(from_pandas=True): a NaN score must reach the store's check instead of becoming null.
    return pa.array(values)
