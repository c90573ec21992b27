"""The kinds of figures: what each reads from the store (dashboards/figures/*.sql), and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.analysis.questions import ask, question
from attattr_batch.errors import UserError, unknown_name
from attattr_batch.report.board import faithfulness_board, stability_curves
from attattr_batch.report.curves import (
    accuracy_drift,
    effectiveness_curves,
    pruning_areas,
    pruning_curves,
    trigger_effects,
)
from attattr_batch.report.heads import head_maps, universality_matrix, universality_scatter
from attattr_batch.report.layers import completeness, distance_map
from attattr_batch.report.theme import Chart
from attattr_batch.store.database.sqlfile import SqlFile
from attattr_batch.store.writing.jobs import table_names
from attattr_batch.store.writing.runs import list_runs, resolve_run, unlabelled_runs


@dataclass(frozen=True)
class Figure:
    """One kind of figure.

    Attributes:
        name: What it is called in `attattr plot`.
        title: Its heading.
        draw: Makes the chart of the query's rows.
        of_pairs: Whether it shows each run against another, by one criterion at a time.
    """

    name: str
    title: str
    draw: Callable[[pa.Table], Chart]
    of_pairs: bool = False

    @property
    def query(self) -> SqlFile:
        """Its query, which takes `$runs`, a list of run ids; the header describes the figure."""
        return question(f"figures/{self.name}")


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("importance", "Head importance", head_maps),
        Figure("heads", "Head importance so far", head_maps),
        Figure("universality", "Universality of heads", universality_matrix),
        Figure("scatter", "Heads of one run against another", universality_scatter, of_pairs=True),
        Figure("pruning", "Pruning heads", pruning_curves),
        Figure("area", "Area under the pruning curves", pruning_areas),
        Figure("faithfulness", "Faithfulness board", faithfulness_board),
        Figure("stability", "Stability of the top heads", stability_curves),
        Figure("effectiveness", "Effectiveness analysis", effectiveness_curves),
        Figure("distance", "Interaction distance", distance_map),
        Figure("triggers", "Trigger patterns", trigger_effects),
        Figure("completeness", "Completeness", completeness),
        Figure("drift", "Drift", accuracy_drift),
    )
}


def find_figure(name: str) -> Figure:
    """The kind of this name.

    Raises:
        UserError: there is none; names the nearest.
    """
    if name not in FIGURES:
        raise unknown_name("kind of figure", name, FIGURES)
    return FIGURES[name]


def figure_rows(
    connection: Connection,
    figure: Figure,
    run_ids: Sequence[int],
    *,
    criterion: str = "attattr",
    path: Path | None = None,
) -> pa.Table:
    """Rows that the figure is drawn from.

    Args:
        connection: From `Store.read()`.
        figure: The kind.
        run_ids: Runs to show.
        criterion: Criterion of importance, for a figure that shows one at a time.
        path: The store's file, for commands in messages; None where they are read elsewhere (the report).

    Raises:
        UserError: a job has to be run first, or there is nothing about these runs or the criterion.
    """
    known = table_names(connection)
    missing = " ".join(name for name in figure.query.depends if name not in known)
    if missing:
        raise UserError(
            f"figure {figure.name!r} needs what a job makes",
            got=f"no table {missing} in the store",
            hint=f"attattr jobs run {missing}{_at(path)}",
        )
    if older := [name for name in figure.query.depends if _lacks_columns(connection, name)]:
        raise UserError(
            f"figure {figure.name!r} needs what a job makes anew",
            got=f"{' '.join(older)}, as an earlier release made it",
            hint=f"attattr jobs run {' '.join(older)}{_at(path)}",
        )
    rows = ask(connection, f"figures/{figure.name}", runs=list(run_ids))
    if rows.num_rows == 0:
        raise _nothing_to_draw(connection, figure, run_ids, path)
    if "note" in rows.column_names and not rows["note"].null_count:
        got = "; ".join(sorted(set(rows["note"].to_pylist())))
        hint = f"attattr jobs show {figure.query.depends[0]}"
        raise UserError(f"figure {figure.name!r} has no numbers to show for these runs", got=got, hint=hint)
    if figure.of_pairs:
        criteria = sorted(set(rows["criterion"].to_pylist()))
        if criterion not in criteria:
            raise unknown_name("criterion", criterion, criteria)
        rows = rows.filter(pc.field("criterion") == criterion)
    return rows


def _lacks_columns(connection: Connection, name: str) -> bool:
    """Whether a job's table was made before the job had all its columns."""
    job = load_catalogue().jobs.get(name)
    if job is None or job.is_pass:
        return False
    # Not by duckdb_columns(), which reads every view of the file, whoever made it.
    return not set(job.file.columns) <= set(connection.execute(text(f"FROM {name} LIMIT 0")).keys())


def _nothing_to_draw(
    connection: Connection, figure: Figure, run_ids: Sequence[int], path: Path | None
) -> UserError:
    message = f"there is nothing to draw in figure {figure.name!r} for these runs"
    catalogue = load_catalogue()
    jobs = [catalogue.jobs[name] for name in figure.query.depends if name in catalogue.jobs]
    if not jobs:
        return UserError(message, hint=f"attattr status{_at(path)}")
    names = [job.name for job in jobs]
    build = f"attattr jobs run {' '.join(names)}{_at(path)}"
    runs = [run for run in list_runs(connection) if run.run_id in run_ids]
    if figure.of_pairs:
        kinds = [f"{run.name}: {run.family} with {run.n_layers} x {run.n_heads} heads" for run in runs]
        hint = f"choose two runs of one architecture (`attattr runs` lists them), then {build}"
        return UserError(message, got="; ".join(kinds), hint=hint)
    unlabelled = unlabelled_runs(connection, run_ids)
    for job in catalogue.with_dependencies(names):
        if (why := job.without_rows(runs, unlabelled)) is not None:
            hint = f"choose runs of labelled rows, attributed with `--target both`, then {build}"
            return UserError(message, got=why, hint=hint)
    hint = f"{build}; where that changes nothing, `attattr jobs show {names[0]}` says what its rows are"
    return UserError(message, hint=hint)


def _at(path: Path | None) -> str:
    return "" if path is None else f" --db {path}"


def chosen_runs(connection: Connection, names: Sequence[str]) -> list[int]:
    """Ids of the runs named, or of every run.

    Raises:
        UserError: there is no such run, or the store holds none.
    """
    if names:
        return [int(resolve_run(connection, name).run_id) for name in names]
    runs = [int(run.run_id) for run in list_runs(connection)]
    if not runs:
        raise UserError("the store holds no run yet", hint="attattr run")
    return runs
