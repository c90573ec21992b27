"""Passes over a run that is in the store: its model found again, its texts tokenised again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, Row

from attattr_batch.data.encoding import encode
from attattr_batch.data.records import Chunk, Dataset, EncodedExample, make_chunks, tokens_key
from attattr_batch.engine.devices import default_batch_tokens, device_for
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.engine.models import load_config, load_tokenizer, token_limit
from attattr_batch.errors import ModelGoneError, UserError
from attattr_batch.passes.attack import AttackWork
from attattr_batch.passes.masking import MaskedAccuracyWork
from attattr_batch.passes.model_work import ModelWork
from attattr_batch.passes.planning import CHUNK_EXAMPLES
from attattr_batch.passes.requests import Attack, Mask, Request
from attattr_batch.spec import Machine, make_spec
from attattr_batch.store.writing.runs import run_dataset

_CHUNK_TOKENS = 150_000
"""Tokens that a chunk's forward passes have together, about: half a minute's work of one CPU worker."""

_NO_LIMIT = 1 << 30


@dataclass(frozen=True)
class ReopenedRun:
    """A run of the store, ready for more passes.

    Attributes:
        source: Its model.
        dataset: Its rows.
        tokenizer: The model's tokenizer.
        max_length: Tokens in an example at most.
        outputs: Model output index by dataset label id.
        hidden_size: Width of the model.
        n_layers: Layers of the model.
        n_heads: Heads per layer.
    """

    source: ModelSource
    dataset: Dataset
    tokenizer: Any
    max_length: int
    outputs: tuple[int, ...]
    hidden_size: int
    n_layers: int
    n_heads: int


@dataclass(frozen=True)
class RequestPlan:
    """An ordered pass over a run, ready to be registered and executed.

    Attributes:
        run: The run.
        work: What workers need.
        examples: The examples it is about, tokenised as the worker wants them.
        answers_each: Answers per example at most.
        request_key: Hash of what is ordered.
    """

    run: ReopenedRun
    work: ModelWork
    examples: Sequence[EncodedExample]
    answers_each: int
    request_key: str

    @property
    def hidden_size(self) -> int:
        """Width of the model."""
        return self.run.hidden_size

    @property
    def example_ids(self) -> list[int]:
        """The examples, in the order of the split."""
        return [example.example_id for example in self.examples]

    @property
    def unfit(self) -> dict[int, str]:
        """None: what could be attributed can be answered."""
        return {}

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples: like lengths together, so many that a chunk takes about as long."""
        wanted = set(pending)
        examples = [example for example in self.examples if example.example_id in wanted]
        return make_chunks(examples, max(1, _CHUNK_TOKENS // self.answers_each), CHUNK_EXAMPLES)

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Arithmetic of one forward pass for every answer, about."""
        lengths = [example.n_tokens for chunk in chunks for example in chunk.examples]
        tokens = sum(min(length, self.run.max_length) for length in lengths) * self.answers_each
        return 24.0 * tokens * self.run.n_layers * self.hidden_size**2


def reopen_run(connection: Connection, run: Row[Any]) -> ReopenedRun:
    """Finds model and rows of a run again.

    Args:
        connection: From `Store.read()`.
        run: The run's row.

    Raises:
        ModelGoneError: the model is gone, or it or its tokenizer is no longer the one the run was made with.
    """
    identity = json.loads(run.identity)
    spec = make_spec(json.loads(run.config), where=f"run {run.name}")
    try:
        revision = identity["model"].get("commit")
        source = find_model(spec.model, task=spec.task, revision=revision).pinned()
    except UserError as error:
        raise ModelGoneError(f"the model of run {run.name} cannot be found again: {error}") from error
    if source.identity() != identity["model"]:
        raise ModelGoneError(
            f"the model of run {run.name} is no longer the one that the run was made with",
            got=source.folder,
            hint="put the original files back, or make a new run with the present ones",
        )
    config, tokenizer = load_config(source), load_tokenizer(source)
    dataset = run_dataset(connection, run)
    max_length = min(spec.max_length, token_limit(config, tokenizer))
    # Identities before version 4 do not say.
    if identity.get("tokens") not in (None, tokens_key(encode(dataset, tokenizer, max_length))):
        raise ModelGoneError(
            f"the tokenizer of run {run.name} is no longer the one that the run was made with",
            got=f"{source.folder} gives other tokens",
            hint="put the original files back, or make a new run with the present ones",
        )
    return ReopenedRun(
        source=source,
        dataset=dataset,
        tokenizer=tokenizer,
        max_length=max_length,
        outputs=tuple(sorted(range(len(identity["outputs"])), key=identity["outputs"].__getitem__)),
        hidden_size=config.hidden_size,
        n_layers=run.n_layers,
        n_heads=run.n_heads,
    )


def plan_masked_accuracy(run: ReopenedRun, machine: Machine, job: str, order: Request[Mask]) -> RequestPlan:
    """Plans the answers with heads removed that a job has ordered."""
    work = MaskedAccuracyWork(job=job, order=order, **_common(run, machine))
    return _plan(run, work, order, run.max_length)


def plan_attack(run: ReopenedRun, machine: Machine, job: str, order: Request[Attack]) -> RequestPlan:
    """Plans the answers to attacked examples that a job has ordered."""
    work = AttackWork(job=job, order=order, max_length=run.max_length, **_common(run, machine))
    return _plan(run, work, order, _NO_LIMIT)  # truncated after the insertion


def _common(run: ReopenedRun, machine: Machine) -> dict[str, Any]:
    device = device_for(machine)
    tokens = machine.batch_tokens or default_batch_tokens(device, run.hidden_size)
    return {"source": run.source, "device": device, "outputs": run.outputs, "batch_tokens": tokens}


def _plan(run: ReopenedRun, work: ModelWork, order: Request[Any], max_length: int) -> RequestPlan:
    unknown = set(order.of) - {example.example_id for example in run.dataset}
    if unknown:
        raise UserError("a job orders answers for examples that the run lacks", got=min(unknown))
    wanted = tuple(example for example in run.dataset if example.example_id in order.of)
    dataset = Dataset(run.dataset.task, run.dataset.split, run.dataset.source, run.dataset.labels, wanted)
    examples = encode(dataset, run.tokenizer, max_length) if wanted else []
    answers_each = max(map(len, order.of.values()), default=1)
    return RequestPlan(run, work, examples, answers_each, order.key)
