"""Further passes over a run of the store: finds its model again and tokenises its texts again."""

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
from attattr_batch.passes.answering import AnswerWork
from attattr_batch.passes.attack import AttackedAnswersWork
from attattr_batch.passes.masking import MaskedAnswersWork
from attattr_batch.passes.planning import CHUNK_EXAMPLES
from attattr_batch.passes.requests import Request
from attattr_batch.spec import MachineSettings, make_spec
from attattr_batch.store.writing.passes import PassKind
from attattr_batch.store.writing.runs import run_dataset

_CHUNK_TOKENS = 150_000
"""Tokens of all answers of a chunk together, about: half a minute's work of one CPU worker."""

_NO_LIMIT = 1 << 30

_SETTINGS = ("model", "task", "dataset", "max_length")
"""The settings of a run that its later passes need."""


@dataclass(frozen=True)
class ReopenedRun:
    """A run of the store, ready for further passes.

    Attributes:
        source: Its model.
        dataset: Its rows.
        tokenizer: The model's tokenizer.
        max_length: Tokens in an example at most.
        outputs: Model output index by dataset label id.
        hidden_size: Width of the model.
        n_layers: Layers of the model.
    """

    source: ModelSource
    dataset: Dataset
    tokenizer: Any
    max_length: int
    outputs: tuple[int, ...]
    hidden_size: int
    n_layers: int


@dataclass(frozen=True)
class RequestPlan:
    """The answers that a job requests of a run, ready to be registered and computed.

    Attributes:
        run: The run.
        work: What workers need.
        examples: The examples it is about, tokenised as the worker wants them.
    """

    run: ReopenedRun
    work: AnswerWork
    examples: Sequence[EncodedExample]

    @property
    def answers_each(self) -> int:
        """Answers per example at most."""
        return max(map(len, self.work.request.of.values()), default=1)

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
        """Empty: an example that was attributed can be answered."""
        return {}

    def chunks(self, pending: Sequence[int]) -> list[Chunk]:
        """Plans the pending examples: like lengths together, and about equal work in each chunk."""
        wanted = set(pending)
        examples = [example for example in self.examples if example.example_id in wanted]
        return make_chunks(examples, max(1, _CHUNK_TOKENS // self.answers_each), CHUNK_EXAMPLES)

    def flop(self, chunks: Sequence[Chunk]) -> float:
        """Roughly the arithmetic of a forward computation for every answer."""
        lengths = [example.n_tokens for chunk in chunks for example in chunk.examples]
        tokens = sum(min(length, self.run.max_length) for length in lengths) * self.answers_each
        return 24.0 * tokens * self.run.n_layers * self.hidden_size**2


def reopen_run(connection: Connection, run: Row[Any]) -> ReopenedRun:
    """Finds the model and the rows of a run again.

    Args:
        connection: From `Store.read()`.
        run: The run's row.

    Raises:
        ModelGoneError: the model is gone, or it or its tokenizer is no longer the one the run was made with.
    """
    identity = json.loads(run.identity)
    # Not all of them: the method's may be some that only an earlier release allowed.
    settings = {key: value for key, value in json.loads(run.config).items() if key in _SETTINGS}
    spec = make_spec(settings, where=f"run {run.name}")
    try:
        revision = identity["model"].get("commit")
        source = find_model(spec.model, task=spec.data.task, revision=revision).pinned()
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
    max_length = min(spec.method.max_length, token_limit(config, tokenizer))
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
    )


def plan_request(
    run: ReopenedRun, machine: MachineSettings, kind: PassKind, job: str, request: Request[Any]
) -> RequestPlan:
    """Plans the answers that a job requests of a run.

    Raises:
        UserError: it requests answers for examples that the run lacks, or needs a GPU that is not there.
    """
    unknown = set(request.of) - {example.example_id for example in run.dataset}
    if unknown:
        raise UserError("a job requests answers for examples that the run lacks", got=min(unknown))
    device = device_for(machine)
    common: dict[str, Any] = {
        "source": run.source,
        "device": device,
        "outputs": run.outputs,
        "job": job,
        "request": request,
        "batch_tokens": machine.batch_tokens or default_batch_tokens(device, run.hidden_size),
    }
    work: AnswerWork
    if kind == "masked_answers":
        work, max_length = MaskedAnswersWork(**common), run.max_length
    else:
        # The texts are cut after the insertion.
        work, max_length = AttackedAnswersWork(max_length=run.max_length, **common), _NO_LIMIT
    wanted = tuple(example for example in run.dataset if example.example_id in request.of)
    dataset = Dataset(run.dataset.task, run.dataset.split, run.dataset.source, run.dataset.labels, wanted)
    return RequestPlan(run, work, encode(dataset, run.tokenizer, max_length) if wanted else [])
