"""Passes that attribute along other paths, from other baselines or with other weights, as a job requests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import torch
from jaxtyping import Bool, Shaped
from torch import Tensor
from torch.nn.functional import pad

from attattr_batch.data.records import Chunk, EncodedExample
from attattr_batch.engine.families import Encoder, collate
from attattr_batch.engine.other_paths import PathScores, attribute_along
from attattr_batch.engine.path import Items
from attattr_batch.engine.precision import arithmetic
from attattr_batch.engine.transfer import to_host
from attattr_batch.engine.variants import CRITERIA, PathVariant
from attattr_batch.passes.answering import AnswerWork
from attattr_batch.spec import MethodSettings

METHOD = MethodSettings()
"""How all paths are integrated, whatever the run was told: adaptively, to a tolerance of 1e-3, in float32."""


@dataclass(frozen=True, kw_only=True)
class PathScoresWork(AnswerWork):
    """Settings of a worker that attributes along other paths."""

    def compute(self, encoder: Encoder, chunk: Chunk) -> dict[str, pa.Table]:
        """Attributes the gold class of every example of a chunk by the criteria requested for it.

        Returns:
            Rows of `path_scores`.
        """
        request, parts = self.request, []
        with arithmetic("float32", encoder.device):
            for criterion in CRITERIA:
                examples = [
                    one
                    for one in chunk.examples
                    if criterion in [request.items[index] for index in request.items_of[one.example_id]]
                ]
                if examples:
                    parts.append(self._rows_of(encoder, examples, criterion))
        return {"path_scores": pa.concat_tables(parts, promote_options="default")}

    def _rows_of(self, encoder: Encoder, examples: Sequence[EncodedExample], criterion: str) -> pa.Table:
        """The rows of some examples by one criterion."""
        variant, device = CRITERIA[criterion], encoder.device
        batch = collate(examples, encoder.pad_token_id, device)
        gold = [self.outputs[one.gold] for one in examples if one.gold is not None]
        items = Items(torch.arange(len(examples), device=device), torch.tensor(gold, device=device))
        means = self.means(encoder) if variant.baseline == "mean" else None
        trace = encoder.trace(batch)
        along = attribute_along(trace, items, [variant], METHOD, self.batch_tokens, means)
        found = [_numbers(scores, batch.attention_mask, variant) for _, scores in along]
        names = list(found[0])
        told = to_host([numbers[name] for numbers in found for name in names])
        columns = {name: np.stack(told[place :: len(names)]) for place, name in enumerate(names)}
        layer, item, head = (one.ravel() for one in np.indices(columns["attr_sum"].shape))
        return pa.table(
            {
                "job": pa.repeat(self.job, len(item)),
                "example_id": np.array([one.example_id for one in examples], np.uint32)[item],
                "criterion": pa.repeat(criterion, len(item)),
                "layer": layer,
                "head": head,
                **{name: numbers.ravel() for name, numbers in columns.items()},
            }
        )


def _numbers(
    found: PathScores, attention_mask: Bool[Tensor, "item token"], variant: PathVariant
) -> dict[str, Shaped[Tensor, "item head"]]:
    """The numbers of each item and head, by column; without those that the variant has not."""
    numbers = {
        "attr_sum": found.scores.sum((2, 3)),
        "f_full": found.f_full[:, None].expand_as(found.f_zero),
        **{name: getattr(found, name) for name in ("f_zero", "path_error", "nodes", "certified")},
    }
    if variant.weights == "ig":
        numbers["completeness_error"] = found.completeness_error
    if variant.baseline != "mean":
        # Queries that cannot reach the classifier have zeros, which count as entries.
        missing = found.scores.shape[3] - found.scores.shape[2]
        whole, padding = pad(found.scores, (0, 0, 0, missing)), ~attention_mask
        outside = (padding[:, :, None] | padding[:, None, :])[:, None]
        numbers["attr_max"] = whole.masked_fill(outside, -torch.inf).amax((2, 3))
        numbers["attr_positive_sum"] = whole.clamp_min(0).sum((2, 3))
    return numbers
