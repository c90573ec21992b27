"""The kinds of figures: what each reads from the store (dashboards/figures/*.sql), and how it is drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Row

from attattr_batch.analysis.catalogue import Job, load_catalogue
from attattr_batch.errors import UserError, unknown_name
from attattr_batch.files import data_folder
from attattr_batch.report.curves import effectiveness_curves, pruning_areas, pruning_curves, trigger_effects
from attattr_batch.report.heads import head_maps, universality_matrix, universality_scatter
from attattr_batch.report.layers import completeness, distance_map, nodes_by_layer
from attattr_batch.report.theme import Chart
from attattr_batch.store.database.connection import raw
from attattr_batch.store.database.sqlfile import SqlFile, load_file
from attattr_batch.store.writing.builds import present_builds
from attattr_batch.store.writing.jobs import table_names
from attattr_batch.store.writing.runs import list_runs, resolve_run, unlabelled_runs


@dataclass(frozen=True)
class Figure:
    """One kind of figure.

    Attributes:
        name: What it is called in `attattr plot`.
        title: Its heading.
        draw: Makes the chart of the query's rows.
        by_criterion: Whether it shows one criterion at a time.
        of_pairs: Whether it shows each run against another.
    """

    name: str
    title: str
    draw: Callable[[pa.Table], Chart]
    by_criterion: bool = False
    of_pairs: bool = False

    @property
    def query(self) -> SqlFile:
        """Its query, which takes `$runs`, a list of run ids; the header describes the figure."""
        return _query(self.name)


FIGURES = {
    figure.name: figure
    for figure in (
        Figure("heads", "Head importance so far", head_maps),
        Figure("importance", "Head importance", head_maps),
        Figure("universality", "Universality of heads", universality_matrix),
        Figure(
            "scatter",
            "Heads of one run against another",
            universality_scatter,
            by_criterion=True,
            of_pairs=True,
        ),
        Figure("pruning", "Pruning heads", pruning_curves),
        Figure("area", "Area under the pruning curves", pruning_areas),
        Figure("effectiveness", "Effectiveness analysis", effectiveness_curves),
        Figure("distance", "Interaction distance", distance_map),
        Figure("triggers", "Trigger patterns", trigger_effects),
        Figure("completeness", "Completeness", completeness),
        Figure("nodes", "Quadrature nodes", nodes_by_layer),
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


def missing_jobs(connection: Connection, figure: Figure) -> list[str]:
    """Jobs to run before the figure can be drawn."""
    known = table_names(connection)
    return [name for name in figure.query.depends if name not in known]


def figure_rows(
    connection: Connection, figure: Figure, run_ids: Sequence[int], path: Path | None = None
) -> pa.Table:
    """Rows that the figure is drawn from.

    Args:
        connection: From `Store.read()`.
        figure: The kind.
        run_ids: Runs to show.
        path: The store's file, for commands in messages; None where they are read elsewhere (the report).

    Raises:
        UserError: a job has to be run first, or there is nothing about these runs.
    """
    missing = missing_jobs(connection, figure)
    if missing:
        raise UserError(
            f"figure {figure.name!r} needs what a job makes",
            got=f"no table {', '.join(missing)} in the store",
            hint=f"attattr jobs run {' '.join(missing)}{_at(path)}",
        )
    rows = raw(connection).sql(figure.query.query, params={"runs": list(run_ids)}).to_arrow_table()
    if rows.num_rows == 0:
        raise _nothing_to_draw(connection, figure, run_ids, path)
    return rows


def _nothing_to_draw(
    connection: Connection, figure: Figure, run_ids: Sequence[int], path: Path | None
) -> UserError:
    catalogue = load_catalogue()
    jobs = [catalogue.jobs[name] for name in figure.query.depends if name in catalogue.jobs]
    runs = [run for run in list_runs(connection) if run.run_id in run_ids]
    if figure.of_pairs and (alone := _no_two_alike(jobs, runs)) is not None:
        hint = "attribute a second run of the same architecture, or choose two (`attattr runs` lists them)"
        message = f"figure {figure.name!r} needs two runs of one architecture"
        return UserError(message, got=alone, hint=hint)
    needed = catalogue.with_dependencies([job.name for job in jobs]) if jobs else []
    lacking = [why for job in needed if (why := job.without_rows(runs)) is not None]
    builds = present_builds(connection)
    unbuilt = [job.name for job in jobs if any((job.name, run.run_id) not in builds for run in runs)]
    names = " ".join(unbuilt or [job.name for job in jobs])
    build = f"attattr jobs run {names}{_at(path)}"
    if lacking:
        hint = f"attribute them with `--target both` (gold needs labels), then {build}"
    elif unbuilt:
        hint = build
    elif not jobs:
        hint = f"attattr status{_at(path)}"
    elif unlabelled := unlabelled_runs(connection, run_ids):
        lacking = [f"runs without gold labels: {', '.join(unlabelled)}"]
        hint = "choose runs of labelled rows, or attribute rows that have labels"
    else:
        lacking = [f"{names} built, with no row about these runs"]
        hint = f"`attattr jobs show {jobs[0].name}` says what its rows are"
    message = f"there is nothing to draw in figure {figure.name!r} for these runs"
    return UserError(message, got="; ".join(lacking) or None, hint=hint)


def _no_two_alike(jobs: Sequence[Job], runs: Sequence[Row[Any]]) -> str | None:
    """Says what the runs are, if no two of them can be compared."""
    columns = list(dict.fromkeys(column for job in jobs for column in job.agree))
    kinds = {run.name: ", ".join(f"{column} {getattr(run, column)}" for column in columns) for run in runs}
    if len(set(kinds.values())) < len(kinds):
        return None
    return "; ".join(f"{name}: {kind}" for name, kind in kinds.items())


def _at(path: Path | None) -> str:
    return "" if path is None else f" --db {path}"


def with_criterion(rows: pa.Table, criterion: str) -> pa.Table:
    """The rows about one criterion.

    Raises:
        UserError: there are none.
    """
    known = sorted(set(rows["criterion"].to_pylist()))
    if criterion not in known:
        raise unknown_name("criterion", criterion, known)
    return rows.filter(pc.field("criterion") == criterion)


def chosen_runs(connection: Connection, names: Sequence[str]) -> list[int]:
    """Ids of the runs named, or of every run.

    Raises:
        StoreError: there is no such run.
        UserError: the store holds no run.
    """
    if names:
        return [int(resolve_run(connection, name).run_id) for name in names]
    runs = [int(run.run_id) for run in list_runs(connection)]
    if not runs:
        raise UserError("the store holds no run yet", hint="attattr run")
    return runs


@functools.cache
def _query(name: str) -> SqlFile:
    return load_file(data_folder("dashboards") / "figures" / f"{name}.sql")
