"""One run from spec to sealed results: plan it, register it, complete its pass, sum it up."""

from __future__ import annotations

import logging
import platform
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Row, text

from attattr_batch.errors import StoreError, UserError
from attattr_batch.markup import escape
from attattr_batch.passes.inputs import RunInputs, find_inputs, installed_version
from attattr_batch.runtime.driver import Progress, Reporter
from attattr_batch.spec import RunSpec
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.tables import ledger
from attattr_batch.store.writing.passes import count_examples, register_pass
from attattr_batch.store.writing.runs import (
    INPUTS_KEY,
    default_name,
    delete_run,
    find_finished_run,
    find_run,
    free_name,
    register_run,
)

if TYPE_CHECKING:
    from attattr_batch.passes.planning import AttributionPlan

log = logging.getLogger(__name__)

_VERSIONS = ("attattr-batch", "torch", "transformers", "numpy", "duckdb", "ray", "datasets")

_GOLD_LABELS = """
SELECT count(*), min(n)
FROM (SELECT count(*) AS n FROM predictions WHERE run_id = :run AND gold IS NOT NULL GROUP BY gold)
"""


@dataclass(frozen=True)
class RunSummary:
    """The state of a run after a call: its row of the view `run_summary`, and what the call did.

    Attributes:
        run_id: Number of the run in the store.
        name: Its name.
        n_examples: Examples of the run.
        committed: Examples committed, by this call or earlier.
        quarantined: Examples that failed every attempt.
        newly_committed: Examples committed by this call.
        newly_quarantined: Examples that failed every attempt in this call. If nothing is newly committed
            either, there was nothing to do.
        correct: Committed examples whose predicted label is the gold one.
        labelled: Committed examples with a gold label.
        accuracy: correct / labelled; None without labels.
        truncated: Committed examples that lost tokens to the length limit.
        uncertified: Stored (example, layer, target) rows of an adaptive run that miss its tolerance even with
            the largest rule (see `layer_scores.certified`).
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
    newly_quarantined: int
    correct: int
    labelled: int
    accuracy: float | None
    truncated: int
    uncertified: int
    worst_completeness_error: float | None
    seconds: float
    resumed: bool

    def __str__(self) -> str:
        """One sentence for people: `run sst2 (1): 872 of 872 examples, accuracy 0.8888; ...`."""
        text = f"run {self.name} ({self.run_id}): "
        if not (self.newly_committed or self.newly_quarantined):
            text += "complete, nothing to do; "
        elif self.resumed:
            text += "resumed; "
        text += f"{self.committed} of {self.n_examples} examples"
        if self.accuracy is not None:
            text += f", accuracy {self.accuracy:.4f}"
        elif self.committed:
            text += ", no gold labels"
        if self.newly_committed:
            rate = self.newly_committed / self.seconds
            text += f"; {self.newly_committed} now in {self.seconds:.0f} s ({rate:.1f}/s)"
        if self.worst_completeness_error is not None:
            text += f"; largest completeness error {self.worst_completeness_error:.1g}"
        return text

    def findings(self) -> dict[str, str]:
        """What needs attention, with the command that shows it: `{"3 examples quarantined": "status"}`."""
        counts = {
            f"{self.uncertified} rows missed the tolerance": (self.uncertified, "verify"),
            f"{self.quarantined} examples quarantined": (self.quarantined, "status"),
        }
        return {finding: command for finding, (count, command) in counts.items() if count}

    def _repr_html_(self) -> str:
        lines = [str(self), *self.findings()]
        return "".join(f"<p>{escape(line)}</p>" for line in lines)


def run_spec(spec: RunSpec, store: Store, report: Reporter, *, retry_errors: bool = False) -> RunSummary:
    """Computes a run, or the rest of it; a complete run is left as it is.

    Args:
        spec: The settings.
        store: Where results go; must be allowed to create the file.
        report: Called after every commit.
        retry_errors: Whether to try quarantined examples again.

    Raises:
        UserError: the settings, model, data or store cannot be used. What is committed stays.
        TerminalError: no example can be computed, or the model's outputs are not what they must be.
    """
    inputs = find_inputs(spec)
    if not retry_errors and (finished := _finished(inputs, store)) is not None:
        return finished
    return _compute(inputs, store, report, retry_errors=retry_errors)


def _finished(inputs: RunInputs, store: Store) -> RunSummary | None:
    """The summary of the run that was planned from the same inputs, if it is finished: nothing is loaded."""
    if not store.path.exists():
        return None
    with store.write() as connection:  # not `read`: the file may be of an earlier release
        known = find_finished_run(connection, inputs.key())
    if known is None:
        return None
    _say_known(inputs.spec, known)
    nothing_new = Progress(known.n_examples, 0, 0)
    return _summarise(store.patient(), known.run_id, len(known.labels), nothing_new, resumed=True)


def _say_known(spec: RunSpec, known: Row[Any]) -> None:
    if spec.name not in (None, known.name):
        log.warning("these settings are run %r already; the name %r is not used", known.name, spec.name)


def _compute(inputs: RunInputs, store: Store, report: Reporter, *, retry_errors: bool) -> RunSummary:
    # Both import torch and transformers, which take seconds; a finished run does without.
    from attattr_batch.passes.planning import plan_attribution
    from attattr_batch.runtime.execution import ExecutionSettings, complete_pass

    spec, plan = inputs.spec, plan_attribution(inputs.spec, inputs)
    for warning in plan.warnings:
        log.warning(warning)
    tables = plan.tables()  # before the file is locked: millions of tokens take a while
    with store.write() as connection:
        known = find_run(connection, plan.run_key)
        record = _record(connection, plan, inputs.key())
        run_id = register_run(connection, record, tables)
        pass_id = register_pass(connection, run_id, "attribute", plan.run_key, {}, len(plan.examples))
    if known is not None:
        _say_known(spec, known)
    try:
        title = record["name"] if known is None else known.name
        progress = complete_pass(
            store, pass_id, title, plan, ExecutionSettings(spec.machine, report, retry_errors)
        )
    except UserError as error:
        if known is None and not isinstance(error, StoreError):
            _forget_unstarted(store, run_id, pass_id)
        raise
    n_labels = len(plan.dataset.labels)
    return _summarise(store.patient(), run_id, n_labels, progress, resumed=known is not None)


def _record(connection: Connection, plan: AttributionPlan, inputs_key: str) -> dict[str, Any]:
    """Returns the run's values by column of `runs`."""
    spec, (family, n_layers, n_heads) = plan.spec, plan.architecture
    return dict(
        name=spec.name or _free_name(connection, plan),
        run_key=plan.run_key,
        labels=plan.dataset.labels,
        task=plan.dataset.task,
        split=plan.dataset.split,
        model=spec.model,
        family=family,
        n_layers=n_layers,
        n_heads=n_heads,
        n_examples=len(plan.examples),
        targets=plan.work.method.target,
        quadrature=spec.method.quadrature,
        fixed_nodes=spec.method.nodes,
        tolerance=spec.method.tolerance,
        dtype=spec.method.dtype,
        tokenizer_key=plan.tokenizer_key,
        # Absolute, so that jobs find the model from wherever they are started.
        config=spec.flat() | {"model": plan.work.source.address},
        identity=plan.identity,
        provenance={
            "versions": {name: installed_version(name) for name in _VERSIONS},
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": plan.work.device,
            INPUTS_KEY: inputs_key,
        },
    )


def _free_name(connection: Connection, plan: AttributionPlan) -> str:
    """Returns `task-model`, of a part with its number; if that is taken, with the start of the run key."""
    part = plan.spec.data.part
    of_part = f"-part-{part.replace('/', '-of-')}" if part else ""
    name = default_name(plan.dataset.task, plan.spec.model) + of_part
    return free_name(connection, name, plan.run_key)


def _forget_unstarted(store: Store, run_id: int, pass_id: int) -> None:
    """Deletes a run that could not start (weights missing, say), so that the mended one can have its name."""
    with store.write() as connection:
        if not count_examples(connection, ledger, pass_id):
            delete_run(connection, run_id)


def _summarise(store: Store, run_id: int, n_labels: int, progress: Progress, *, resumed: bool) -> RunSummary:
    with store.read() as connection:
        facts = connection.execute(
            text("SELECT * FROM run_summary WHERE run_id = :run"), {"run": run_id}
        ).one()
        if below_chance(connection, run_id, n_labels, facts.correct):
            log.warning(
                "accuracy is below chance: the model's label order may differ from the dataset's;"
                " set `label_map` in the spec"
            )
    found = {
        **facts._mapping,
        "newly_committed": progress.newly_committed,
        "newly_quarantined": progress.newly_quarantined,
        "seconds": progress.seconds if progress.newly_committed else 0.0,
        "resumed": resumed,
    }
    return RunSummary(**{one.name: found[one.name] for one in fields(RunSummary)})


def below_chance(connection: Connection, run_id: int, n_labels: int, correct: int) -> bool:
    """Whether accuracy is below that of always answering the rarest label: a sign of permuted labels.

    Where the rows lack a label, because they are few or of one class, nothing can be said.
    """
    present, rarest = connection.execute(text(_GOLD_LABELS), {"run": run_id}).one()
    return bool(present == n_labels and correct < rarest)
