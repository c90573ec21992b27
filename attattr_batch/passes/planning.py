"""Plans an attribution run: whatever can be known, checked and refused before work starts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa

from attattr_batch.choices import Target
from attattr_batch.data.encoding import check_vocabulary, encode, lacks_text
from attattr_batch.data.labels import LabelMatch, match_labels
from attattr_batch.data.records import Chunk, Dataset, EncodedExample, make_chunks, tokens_key
from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.attribution import Method
from attattr_batch.engine.devices import default_batch_tokens, device_for
from attattr_batch.engine.families import check_family, layers_run
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.engine.models import check_outputs, load_config, load_tokenizer, token_limit
from attattr_batch.engine.statistics import EdgeLimits
from attattr_batch.identity import content_key, run_key
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.spec import MethodSettings, RunSpec

CHUNK_EXAMPLES = 64
"""Examples in a chunk at most: what one transaction commits, and what one crash can cost."""

_DECIDING = ("quadrature", "nodes", "dtype", "top_k", "edge_floor", "edge_cap")
"""Settings that change numbers, and are part of the identity as they are written."""


@dataclass(frozen=True)
class AttributionPlan:
    """A run, ready to be registered and executed.

    Attributes:
        spec: The settings.
        dataset: The rows.
        encoded: The rows, tokenised.
        identity: What makes this run the same run.
        work: What workers need.
        unfit: Examples that cannot be attributed, to be quarantined, and why, by example id.
        warnings: What the user should know before trusting the numbers.
        architecture: Family, layers and heads of the model.
        hidden_size: Width of the model.
        tokenizer_key: Key of the vocabulary that the token ids belong to.
        vocabulary: Token string by id.
    """

    spec: RunSpec
    dataset: Dataset
    encoded: Sequence[EncodedExample]
    identity: dict[str, Any]
    work: AttributeWork
    unfit: dict[int, str]
    warnings: Sequence[str]
    architecture: tuple[str, int, int]
    hidden_size: int
    tokenizer_key: str
    vocabulary: dict[int, str]

    @property
    def run_key(self) -> str:
        """Key of the run's identity."""
        return run_key(self.identity)

    @property
    def example_ids(self) -> list[int]:
        """The examples, in the order of the split."""
        return [example.example_id for example in self.encoded]

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples: like lengths together, within the token budget."""
        wanted = set(pending)
        examples = [example for example in self.encoded if example.example_id in wanted]
        return make_chunks(examples, self.work.method.batch_tokens, CHUNK_EXAMPLES)

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Estimated floating-point operations: forward and backward from each layer upward, at six nodes."""
        _, n_layers, _ = self.architecture
        tokens = sum(example.n_tokens for chunk in chunks for example in chunk.examples)
        return tokens * n_layers * (n_layers - 1) * 6 * 24 * self.hidden_size**2

    def tables(self) -> dict[str, pa.Table]:
        """The run's data: rows of `examples`, `tokens` and `vocabulary`, which the store casts."""
        return {
            "examples": _example_rows(self.dataset),
            "tokens": _token_rows(self.encoded),
            "vocabulary": pa.table(
                {"token_id": list(self.vocabulary), "token": list(self.vocabulary.values())}
            ),
        }


def plan_attribution(spec: RunSpec) -> AttributionPlan:
    """Finds and checks model, tokenizer, data and labels of a run.

    Raises:
        UserError: one of them cannot be used; nothing was started.
    """
    source = find_model(spec.model, task=spec.data.task, revision=spec.revision).pinned()
    config, tokenizer = load_config(source), load_tokenizer(source)
    check_family(config)
    check_outputs(config)
    dataset = load_dataset_for(spec.data)
    match = match_labels(dataset.labels, config.id2label, spec.label_map)
    max_length = min(spec.method.max_length, token_limit(config, tokenizer))
    encoded = encode(dataset, tokenizer, max_length)
    check_vocabulary(encoded, config.vocab_size)
    labelled = any(example.gold is not None for example in dataset)
    target: Target = spec.method.target if labelled else "predicted"
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    tokenizer_key = content_key(sorted(vocabulary.items()))
    return AttributionPlan(
        spec=spec,
        dataset=dataset,
        encoded=encoded,
        identity={
            **_identity(spec.method, source, dataset),
            "tokens": tokens_key(encoded),
            "max_length": max_length,
            "outputs": list(match.mapping),
            "target": target,
        },
        work=_work(spec, source, config.hidden_size, target, match),
        unfit=_unfit(dataset, encoded, target),
        warnings=_warnings(spec, target, match, dataset),
        architecture=(config.model_type, layers_run(config), config.num_attention_heads),
        hidden_size=config.hidden_size,
        tokenizer_key=tokenizer_key,
        vocabulary=vocabulary,
    )


def _work(
    spec: RunSpec, source: ModelSource, hidden_size: int, target: Target, match: LabelMatch
) -> AttributeWork:
    method, device = spec.method, device_for(spec.machine)
    tokens = spec.machine.batch_tokens or default_batch_tokens(device, hidden_size)
    return AttributeWork(
        source=source,
        device=device,
        method=Method(method.quadrature, method.nodes, method.tolerance, method.dtype, tokens),
        edge_limits=EdgeLimits(method.top_k, method.edge_floor, method.edge_cap),
        target=target,
        outputs=tuple(sorted(range(len(match.mapping)), key=match.mapping.__getitem__)),
    )


def _identity(method: MethodSettings, source: ModelSource, dataset: Dataset) -> dict[str, Any]:
    return {
        "kind": "attribute",
        "model": source.identity(),
        "task": dataset.task,
        "split": dataset.split,
        "dataset": dataset.fingerprint(),
        "dataset_revision": dataset.revision,
        "tolerance": method.tolerance if method.quadrature == "adaptive" else None,
        **{name: getattr(method, name) for name in _DECIDING},
    }


def _warnings(spec: RunSpec, target: Target, match: LabelMatch, dataset: Dataset) -> list[str]:
    warnings = []
    if target != spec.method.target:
        warnings.append("the split has no gold labels: the predicted class alone is attributed")
    if not match.by_name:
        order = ", ".join(dataset.labels)
        warnings.append(
            "the model does not name its labels; they are taken to be in the dataset's order"
            f" ({order}). If accuracy comes out below chance, set `label_map` in the spec"
        )
    return warnings


def _unfit(dataset: Dataset, encoded: Sequence[EncodedExample], target: Target) -> dict[int, str]:
    reasons = {}
    for example, tokens in zip(dataset, encoded, strict=True):
        blank = not example.text_a.strip() or (example.text_b is not None and not example.text_b.strip())
        if blank or lacks_text(example, tokens):
            reasons[example.example_id] = "empty text"
        elif example.gold is None and target != "predicted":
            reasons[example.example_id] = "no gold label (attribute such rows with `target: predicted`)"
    return reasons


def _example_rows(dataset: Dataset) -> pa.Table:
    columns = ("example_id", "text_a", "text_b", "gold")
    return pa.table({name: [getattr(example, name) for example in dataset] for name in columns})


def _token_rows(encoded: Sequence[EncodedExample]) -> pa.Table:
    lengths = [example.n_tokens for example in encoded]
    return pa.table(
        {
            "example_id": np.repeat([example.example_id for example in encoded], lengths),
            "position": list(chain.from_iterable(map(range, lengths))),
            "token_id": list(chain.from_iterable(example.input_ids for example in encoded)),
            "segment": list(chain.from_iterable(example.segments for example in encoded)),
        }
    )
