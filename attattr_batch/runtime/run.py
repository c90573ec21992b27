"""One run from spec to sealed results: plan, register, execute what is pending, seal, summarise."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath

from sqlalchemy import Connection, text

from attattr_batch.errors import StoreError, UserError
from attattr_batch.markup import notebook_table
from attattr_batch.passes.plan import (
    AttributionPlan,
    below_chance,
    default_batch_tokens,
    plan_attribution,
    provenance,
)
from attattr_batch.records import Chunk
from attattr_batch.runtime.driver import Progress, Reporter
from attattr_batch.runtime.execution import Load, execute_pass
from attattr_batch.spec import RunSpec
from attattr_batch.store.connection import Store
from attattr_batch.store.ingest import Failure, record_failures
from attattr_batch.store.runs import (
    RunRecord,
    clear_failures,
    count_failures,
    delete_run,
    find_run,
    list_runs,
    pending_example_ids,
    register_pass,
    register_run,
    seal_pass,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        run_id: Number of the run in the store.
        name: Its name.
        n_examples: Examples of the run.
        committed: Examples committed, now or earlier.
        quarantined: Examples that failed every attempt.
        newly_committed: Examples committed by this call; 0 where there was nothing to do.
        correct: Committed examples whose predicted label is the gold one.
        labelled: Committed examples with a gold label.
        accuracy: correct / labelled; None without labels.
        uncertified: Stored (example, layer, target) rows of an adaptive run that missed the tolerance even
            with the largest rule.
        worst_completeness_error: Largest absolute completeness error of the run.
        seconds: Wall time of this call's computation.
        resumed: Whether the run was in the store before.
    """

    run_id: int
    name: str
    n_examples: int
    committed: int
    quarantined: int
    newly_committed: int
    correct: int
    labelled: int
    accuracy: float | None
    uncertified: int
    worst_completeness_error: float | None
    seconds: float
    resumed: bool

    def _repr_html_(self) -> str:
        rows = [
            ("examples", f"{self.committed} of {self.n_examples} committed, {self.quarantined} quarantined"),
            ("by this call", f"{self.newly_committed} in {self.seconds:.1f} s"),
            ("accuracy", self.accuracy),
            ("largest completeness error", self.worst_completeness_error),
            ("rows that miss the tolerance", self.uncertified),
        ]
        return notebook_table(("run", self.name), [row for row in rows if row[1] is not None])


def run_spec(spec: RunSpec, store: Store, report: Reporter, *, retry_errors: bool = False) -> RunSummary:
    """Executes a run, or the rest of it; a complete run is left as it is.

    Args:
        spec: The settings.
        store: Where results go; must be allowed to create the file.
        report: Called after every commit.
        retry_errors: Whether to try quarantined examples again.

    Raises:
        UserError: the settings, model, data or store cannot be used. What is committed stays.
    """
    plan = plan_attribution(spec)
    for warning in plan.warnings:
        log.warning(warning)
    with store.write() as connection:
        resumed = find_run(connection, plan.run_key) is not None
        run_id = register_run(connection, _record(connection, plan), {} if resumed else plan.tables())
        n_examples = len(plan.encoded)
        pass_id = register_pass(connection, run_id, "attribute", plan.run_key, {}, n_examples)
        if retry_errors:
            clear_failures(connection, pass_id)
        pending = pending_example_ids(connection, pass_id)
    _quarantine_unfit(store, pass_id, plan, pending)
    with store.read() as connection:
        quarantined = count_failures(connection, pass_id)
    fit = [example_id for example_id in pending if example_id not in plan.unfit]
    progress = Progress(n_examples, n_examples - len(fit) - quarantined, quarantined)
    try:
        chunks = plan.chunks(fit)
        cpu_tokens = spec.batch_tokens or default_batch_tokens("cpu", plan.hidden_size)
        load = Load(plan.work, chunks, _estimated_flop(plan, chunks), cpu_tokens)
        execute_pass(store, pass_id, load, spec, progress, report)
    except StoreError:
        raise
    except UserError:
        if not resumed:
            _forget_unstarted(store, run_id, pass_id)
        raise
    seal_pass(store, pass_id)
    return _summarise(store, run_id, progress, resumed=resumed)


def _estimated_flop(plan: AttributionPlan, chunks: Sequence[Chunk]) -> float:
    """A rough cost: replays from each layer upward, forward and backward, at about six nodes."""
    _, n_layers, _ = plan.architecture
    tokens = sum(example.n_tokens for chunk in chunks for example in chunk.examples)
    return tokens * n_layers * (n_layers - 1) * 6 * 24 * plan.hidden_size**2


def _record(connection: Connection, plan: AttributionPlan) -> RunRecord:
    spec, (family, n_layers, n_heads) = plan.spec, plan.architecture
    return RunRecord(
        name=spec.name or _free_name(connection, plan),
        run_key=plan.run_key,
        labels=plan.dataset.labels,
        task=plan.dataset.task,
        split=plan.dataset.split,
        model=spec.model,
        family=family,
        n_layers=n_layers,
        n_heads=n_heads,
        n_examples=len(plan.encoded),
        target=plan.target,
        quadrature=spec.quadrature,
        nodes=spec.nodes,
        tolerance=spec.tolerance,
        dtype=spec.dtype,
        tokenizer_key=plan.tokenizer_key,
        # Absolute, so that jobs find the model from wherever they are started.
        config=spec.model_dump(mode="json") | {"model": plan.source.address},
        identity=plan.identity,
        provenance=provenance(plan.work.device),
    )


def _free_name(connection: Connection, plan: AttributionPlan) -> str:
    """`task-model`, with the start of the run key behind it where that is taken."""
    name = f"{plan.dataset.task}-{PurePath(plan.spec.model).name}"
    taken = {run.name for run in list_runs(connection)}
    return f"{name}-{plan.run_key[:6]}" if name in taken else name


def _quarantine_unfit(store: Store, pass_id: int, plan: AttributionPlan, pending: Sequence[int]) -> None:
    unfit = [
        Failure(example_id=example_id, kind="UnfitExample", message=plan.unfit[example_id], attempts=0)
        for example_id in pending
        if example_id in plan.unfit
    ]
    if unfit:
        record_failures(store, pass_id, unfit)


def _forget_unstarted(store: Store, run_id: int, pass_id: int) -> None:
    """Deletes a run that could not start (weights missing, say): the mended one will want its name."""
    if _count(store, "ledger", pass_id) == 0:
        with store.write() as connection:
            delete_run(connection, run_id)


def _count(store: Store, table: str, pass_id: int) -> int:
    with store.read() as connection:
        query = text(f"SELECT count(*) FROM {table} WHERE pass_id = :pass_id")
        return int(connection.execute(query, {"pass_id": pass_id}).scalar_one())


def _summarise(store: Store, run_id: int, progress: Progress, *, resumed: bool) -> RunSummary:
    with store.read() as connection:
        facts = connection.execute(
            text("SELECT * FROM run_summary WHERE run_id = :run"), {"run": run_id}
        ).one()
        gold = connection.execute(
            text("SELECT gold FROM predictions WHERE run_id = :run AND gold IS NOT NULL"), {"run": run_id}
        ).scalars()
        if below_chance(list(gold), facts.correct):
            log.warning(
                "accuracy is below chance: the model's label order may differ from the dataset's;"
                " set `label_map` in the spec"
            )
    return RunSummary(
        run_id=run_id,
        name=facts.name,
        n_examples=facts.n_examples,
        committed=facts.committed,
        quarantined=facts.quarantined,
        newly_committed=progress.committed,
        correct=facts.correct,
        labelled=facts.labelled,
        accuracy=facts.accuracy,
        uncertified=facts.uncertified,
        worst_completeness_error=facts.worst_completeness_error,
        seconds=progress.seconds if progress.committed else 0.0,
        resumed=resumed,
    )
