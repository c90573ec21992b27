"""Further passes over a run of the store: finds its model again and tokenises its texts again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Row

from attattr_batch.data.encoding import encode
from attattr_batch.data.labels import outputs_by_label
from attattr_batch.data.records import EncodedExample, tokens_key
from attattr_batch.engine.devices import default_batch_tokens, device_for
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.engine.models import load_config, load_tokenizer, token_limit
from attattr_batch.engine.variants import CRITERIA
from attattr_batch.errors import ModelGoneError, UserError
from attattr_batch.passes.answering import AnswerWork, AttackedAnswersWork, MaskedAnswersWork
from attattr_batch.passes.laboratory import PathScoresWork
from attattr_batch.passes.model_work import CHUNK_EXAMPLES, Plan, chunk_limits
from attattr_batch.passes.requests import Request
from attattr_batch.spec import MachineSettings, RunSpec, make_spec
from attattr_batch.store.writing.passes import PassKind
from attattr_batch.store.writing.runs import run_dataset

_CHUNK_TOKENS = 150_000
"""Tokens of all answers of a chunk together, about: half a minute's work of one CPU worker. Where a chunk may
have more examples, because only GPUs compute, it may have as many times more answers."""

_NO_LIMIT = 1 << 30

_WORK: dict[PassKind, type[AnswerWork]] = {
    "masked_answers": MaskedAnswersWork,
    "attacked_answers": AttackedAnswersWork,
    "path_scores": PathScoresWork,
}

_SETTINGS = ("model", "task", "dataset", "max_length")
"""The settings of a run that its later passes need."""


def plan_request(
    connection: Connection,
    run: Row[Any],
    machine: MachineSettings,
    kind: PassKind,
    job: str,
    request: Request,
) -> Plan:
    """Plans the answers that a job requests of a run.

    Args:
        connection: From `Store.read()`.
        run: The run's row.
        machine: Where the answers are to be computed.
        kind: Kind of the pass.
        job: The job's name.
        request: What the job requests.

    Raises:
        ModelGoneError: the model is gone, or it or its tokenizer is no longer the one the run was made with.
        UserError: the request names examples that the run lacks, or needs a GPU that is not there.
    """
    (spec, source), identity = _model_of(run), json.loads(run.identity)
    config, tokenizer = load_config(source), load_tokenizer(source)
    dataset = run_dataset(connection, run)
    max_length = min(spec.method.max_length, token_limit(config, tokenizer))
    examples = encode(dataset, tokenizer, max_length)
    # Identities before version 4 do not say; that of a part (`--part`) also has the key of its own tokens.
    if identity.get("part", identity).get("tokens") not in (None, tokens_key(examples)):
        raise _changed(run, "tokenizer", f"{source.folder} gives other tokens")
    _check_examples(examples, request, kind)
    device = device_for(machine)
    work = _WORK[kind](
        source=source,
        device=device,
        outputs=outputs_by_label(identity["outputs"]),
        batch_tokens=machine.batch_tokens or default_batch_tokens(device, config.hidden_size, run.n_layers),
        job=job,
        request=request,
        max_length=max_length,
        mean_examples=tuple(one for one in examples if one.example_id in set(request.mean_over)),
    )
    if kind == "attacked_answers":  # the texts are cut after the insertion
        examples = encode(dataset, tokenizer, _NO_LIMIT)
    answers_each = _answers_each(request, run, kind)
    limits = chunk_limits(work, machine, config.hidden_size, run.n_layers)
    return Plan(
        work=work,
        examples=[example for example in examples if example.example_id in request.items_of],
        hidden_size=config.hidden_size,
        chunk_tokens=_chunk_tokens(device, limits, answers_each),
        chunk_examples=limits[1],
        flop_per_token=24.0 * answers_each * run.n_layers * config.hidden_size**2,
    )


def _check_examples(examples: Sequence[EncodedExample], request: Request, kind: PassKind) -> None:
    """Checks that the run has the examples of a request, with gold labels where these are attributed.

    Raises:
        UserError: it has not.
    """
    gold = {example.example_id: example.gold for example in examples}
    if unknown := {*request.items_of, *request.mean_over} - gold.keys():
        raise UserError("a job requests answers for examples that the run lacks", got=min(unknown))
    if kind == "path_scores" and (bare := [one for one in request.items_of if gold[one] is None]):
        raise UserError("a job attributes the gold class of examples without a gold label", got=min(bare))


def _answers_each(request: Request, run: Row[Any], kind: PassKind) -> int:
    """Forward passes that an example needs at most, about."""
    if kind != "path_scores":
        return max(map(len, request.items_of.values()), default=1)
    # At each layer four nodes, forward and backward, through half of the layers.
    once = 4 * 3 * run.n_layers // 2
    times = {name: run.n_heads if one.path == "head" else 1 for name, one in CRITERIA.items()}
    return once * max(
        (sum(times[request.items[one]] for one in of) for of in request.items_of.values()), default=1
    )


def _chunk_tokens(device: str, limits: tuple[int, int], answers_each: int) -> int:
    """Tokens of a chunk, each example of which needs so many answers; the limits are of `chunk_limits`."""
    tokens, examples = limits
    of_answers = _CHUNK_TOKENS * (examples // CHUNK_EXAMPLES) // answers_each
    return max(1, of_answers if device == "cpu" else min(of_answers, tokens))


def _model_of(run: Row[Any]) -> tuple[RunSpec, ModelSource]:
    """The settings of a run that its later passes need, and its model."""
    # Not all of them: the method's may be some that only an earlier release allowed.
    settings = {key: value for key, value in json.loads(run.config).items() if key in _SETTINGS}
    spec = make_spec(settings, where=f"run {run.name}")
    identity = json.loads(run.identity)["model"]
    try:
        source = find_model(spec.model, task=spec.data.task, revision=identity.get("commit")).pinned()
    except UserError as error:
        raise ModelGoneError(f"the model of run {run.name} cannot be found again: {error}") from error
    if source.identity() != identity:
        raise _changed(run, "model", str(source.folder))
    return spec, source


def _changed(run: Row[Any], what: str, got: str) -> ModelGoneError:
    return ModelGoneError(
        f"the {what} of run {run.name} is no longer the one that the run was made with",
        got=got,
        hint="put the original files back, or make a new run with the present ones",
    )
