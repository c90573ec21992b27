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
from attattr_batch.data.labels import LabelMatch, match_labels, outputs_by_label
from attattr_batch.data.records import Dataset, EncodedExample, tokens_key
from attattr_batch.engine.devices import check_dtype, default_batch_tokens, device_for
from attattr_batch.engine.families import check_family, layers_run
from attattr_batch.engine.models import check_outputs, load_config, load_tokenizer, token_limit
from attattr_batch.errors import UserError
from attattr_batch.identity import content_key, run_key
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.passes.inputs import RunInputs, find_inputs
from attattr_batch.passes.model_work import Plan, chunk_limits
from attattr_batch.spec import RunSpec

_DECIDING = ("target", "quadrature", "nodes", "dtype", "top_k", "edge_floor", "edge_cap")
"""Settings that change numbers, and are part of the identity as they are written."""


@dataclass(frozen=True, kw_only=True)
class AttributionPlan(Plan):
    """A run, ready to be registered and computed.

    Attributes:
        spec: The settings.
        dataset: The rows, of which `examples` has the tokens.
        identity: What makes this run the same run.
        work: What workers need.
        warnings: What the user should know before trusting the numbers.
        architecture: Family, layers and heads of the model.
        tokenizer_key: Key of the vocabulary that the token ids belong to.
        vocabulary: Token string by id.
    """

    spec: RunSpec
    dataset: Dataset
    identity: dict[str, Any]
    work: AttributeWork
    warnings: Sequence[str]
    architecture: tuple[str, int, int]
    tokenizer_key: str
    vocabulary: dict[int, str]

    @property
    def run_key(self) -> str:
        """Key of the run's identity."""
        return run_key(self.identity)

    def tables(self) -> dict[str, pa.Table]:
        """The run's data: rows of `examples`, `tokens` and `vocabulary`, which the store casts."""
        columns = ("example_id", "text_a", "text_b", "gold")
        return {
            "examples": pa.table({name: [getattr(one, name) for one in self.dataset] for name in columns}),
            "tokens": _token_rows(self.examples),
            "vocabulary": pa.table(
                {"token_id": list(self.vocabulary), "token": list(self.vocabulary.values())}
            ),
        }


def plan_attribution(spec: RunSpec, inputs: RunInputs | None = None) -> AttributionPlan:
    """Finds and checks model, tokenizer, data, labels and device of a run.

    Args:
        spec: The settings.
        inputs: The model and the rows, if they have been found already.

    Raises:
        UserError: one of them cannot be used; nothing was started.
    """
    inputs = find_inputs(spec) if inputs is None else inputs
    source, dataset = inputs.source, inputs.dataset
    config, tokenizer = load_config(source), load_tokenizer(source)
    check_family(config)
    check_outputs(config)
    match = match_labels(dataset.labels, config.id2label, spec.label_map)
    max_length = min(spec.method.max_length, token_limit(config, tokenizer))
    examples = encode(dataset, tokenizer, max_length)
    check_vocabulary(examples, config.vocab_size)
    labelled = any(example.gold is not None for example in dataset)
    method = spec.method if labelled else spec.method.model_copy(update={"target": "predicted"})
    vocabulary = {index: token for token, index in tokenizer.get_vocab().items()}
    n_layers, width, device = layers_run(config), config.hidden_size, _device(spec)
    work = AttributeWork(
        source=source,
        device=device,
        outputs=outputs_by_label(match.mapping),
        batch_tokens=spec.machine.batch_tokens or default_batch_tokens(device, width, n_layers),
        method=method,
    )
    chunk_tokens, chunk_examples = chunk_limits(work, spec.machine, width, n_layers)
    identity = _identity(work, dataset, match, tokens_key(examples), max_length)
    if spec.data.part is not None:
        dataset, examples, identity["part"] = _take_part(spec.data.part, dataset, examples)
    return AttributionPlan(
        spec=spec,
        dataset=dataset,
        examples=examples,
        identity=identity,
        work=work,
        unfit=_unfit(dataset, examples, method.target),
        warnings=_warnings(spec, method.target, match, dataset),
        architecture=(config.model_type, n_layers, config.num_attention_heads),
        hidden_size=width,
        chunk_tokens=chunk_tokens,
        chunk_examples=chunk_examples,
        # Forward and backward from each layer upward, at six nodes.
        flop_per_token=n_layers * (n_layers - 1) * 6 * 24 * width**2,
        tokenizer_key=content_key(sorted(vocabulary.items())),
        vocabulary=vocabulary,
    )


def _device(spec: RunSpec) -> str:
    """The device of the run's workers; refuses an arithmetic that it, or a pool without GPUs, cannot do."""
    machine, device = spec.machine, device_for(spec.machine)
    if device == "cpu" or machine.address is None:  # workers elsewhere check their own GPU when they start
        check_dtype(spec.method.dtype, device)
    if isinstance(machine.workers, list) and not all(pool.gpus for pool in machine.workers):
        check_dtype(spec.method.dtype, "cpu")
    return device


def _identity(
    work: AttributeWork, dataset: Dataset, match: LabelMatch, tokens: str, max_length: int
) -> dict[str, Any]:
    method = work.method
    return {
        "kind": "attribute",
        "model": work.source.identity(),
        "task": dataset.task,
        "split": dataset.split,
        "dataset": dataset.fingerprint(),
        "dataset_revision": dataset.revision,
        "tolerance": method.tolerance if method.quadrature == "adaptive" else None,
        **{name: getattr(method, name) for name in _DECIDING},
        "tokens": tokens,
        "max_length": max_length,
        "outputs": list(match.mapping),
    }


def _take_part(
    part: str, whole: Dataset, encoded: Sequence[EncodedExample]
) -> tuple[Dataset, list[EncodedExample], dict[str, Any]]:
    """The rows of a part, their tokens, and what its identity says beyond the whole run's.

    Labels, targets and hashes are those of all rows, so that the parts of a run agree in them.

    Raises:
        UserError: the part has no rows.
    """
    number, of = map(int, part.split("/"))
    dataset = whole.part(number, of)
    if not dataset.examples:
        raise UserError(
            "the part has no rows",
            got=f"part {part} of {len(whole)} rows",
            allowed=f"0/{of} to {len(whole) - 1}/{of}",
            hint="leave this part out, or cut the rows into fewer parts",
        )
    examples = [example for example in encoded if example.example_id % of == number]
    return dataset, examples, {"part": part, "n_examples": len(whole), "tokens": tokens_key(examples)}


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


def _token_rows(encoded: Sequence[EncodedExample]) -> pa.Table:
    lengths = [example.n_tokens for example in encoded]
    return pa.table(
        {
            "example_id": np.repeat([example.example_id for example in encoded], lengths),
            "position": list(chain.from_iterable(map(range, lengths))),
            "token_id": list(chain.from_iterable(example.input_ids for example in encoded)),
            "segment": list(chain.from_iterable(example.segments for example in encoded)),
            "word": list(chain.from_iterable(example.words for example in encoded)),
        }
    )
