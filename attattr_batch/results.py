"""A store from Python: the object behind `attattr_batch.open`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from attattr_batch.analysis.audits import AuditResult, run_audits
from attattr_batch.analysis.diff import diff_runs
from attattr_batch.analysis.parameters import value_text
from attattr_batch.analysis.runner import JobRequest, JobResult, run_jobs
from attattr_batch.analysis.trees import Tree, attribution_tree
from attattr_batch.choices import RowTarget, Theme, Units, Variant
from attattr_batch.errors import StoreError, UserError, unknown_name
from attattr_batch.markup import escape, html_table
from attattr_batch.report.figures import chosen_runs, figure_rows, find_figure
from attattr_batch.report.theme import Chart, themed
from attattr_batch.runtime.progress import reporting, stderr_console
from attattr_batch.spec import MachineSettings, make_settings, make_spec
from attattr_batch.store.database.connection import Store, arrow_result, statement_errors
from attattr_batch.store.writing.jobs import table_names
from attattr_batch.store.writing.runs import resolve_run

if TYPE_CHECKING:
    from attattr_batch.runtime.run import RunSummary

log = logging.getLogger(__name__)

_RUN_COLUMNS = "name task split model status committed accuracy worst_completeness_error".split()


class Results:
    """A store of attribution results. The file is opened for a moment by each call, so others may use it too.

    Tables are Arrow tables; `table.to_pandas()` gives a data frame.
    """

    def __init__(self, path: str | Path):
        self._store = Store(path, create=True)

    def __repr__(self) -> str:
        return f"attattr_batch.open({str(self._store.path)!r})"

    def _repr_html_(self) -> str:
        try:
            runs = self.runs()
        except StoreError as error:
            return f"<p>{escape(repr(self))}</p><pre>{escape(str(error))}</pre>"
        rows = [tuple(row.values()) for row in runs.select(_RUN_COLUMNS).to_pylist()]
        return f"<p>{escape(repr(self))}</p>{html_table(_RUN_COLUMNS, rows)}"

    def run(self, *, retry_errors: bool = False, **settings: Any) -> RunSummary:
        """Attributes every example of a dataset split, or those that are not committed yet.

        For example `results.run(task="sst2", model="org/name", limit=100)`.

        Args:
            retry_errors: Whether to try quarantined examples again.
            **settings: Keys of a run spec (docs/spec.md).

        Raises:
            UserError: a setting, the model, the data or the store cannot be used.
            TerminalError: no example can be computed.
        """
        from attattr_batch.runtime.run import run_spec  # imports torch, which only computing needs

        spec = make_spec(settings, where="run()")
        with reporting(stderr_console()) as report:
            return run_spec(spec, self._store, report, retry_errors=retry_errors)

    def sql(self, query: str, values: Sequence[Any] = ()) -> pa.Table:
        """Returns the rows of a query, read-only.

        For example `results.sql("SELECT * FROM predictions WHERE run_id = ?", [1])`.

        Args:
            query: One statement.
            values: Values of its `?`, in order.

        Raises:
            StoreError: the store cannot be read.
            UserError: the query is wrong, or would write.
        """
        with statement_errors(), self._store.read() as connection:
            return arrow_result(connection, query, values)

    def runs(self) -> pa.Table:
        """Returns every run, with its size, accuracy and largest completeness error."""
        return self.table("run_summary")

    def table(self, name: str, /, run: str | int | None = None, **equal: Any) -> pa.Table:
        """Returns rows of a table or view: those of one run, or with the given values, if asked for.

        For example `results.table("head_importance", run="sst2", criterion="attattr")`. The data dictionary
        (schema/README.md) lists the store's own tables, `attattr jobs list` those that jobs make.

        Args:
            name: The table.
            run: Name or id of a run; the first run in a table of pairs.
            **equal: Wanted value by column; None selects the rows that have none.

        Raises:
            UserError: there is no such table, column or run, or a column cannot hold the value.
        """
        with statement_errors(), self._store.read() as connection:
            known = table_names(connection)
            if name not in known:
                raise unknown_name("table (a job's table must be built first: `run_jobs`)", name, known)
            columns = arrow_result(connection, f"SELECT * FROM {name} LIMIT 0").column_names
            wanted = dict(equal)
            if run is not None:
                about = next((one for one in ("run_id", "run_a") if one in columns), None)
                if about is None:
                    raise UserError("the table is not about runs", got=name)
                wanted[about] = resolve_run(connection, run).run_id
            for column in wanted:
                if column not in columns:
                    raise unknown_name(f"column of {name}", column, columns)
            conditions = [f'"{column}" IS NOT DISTINCT FROM ?' for column in wanted]  # also finds NULL
            where = " AND ".join(conditions) or "true"
            return arrow_result(connection, f"SELECT * FROM {name} WHERE {where}", list(wanted.values()))

    def run_jobs(
        self,
        *names: str,
        runs: str | int | Sequence[str | int] = (),
        params: Mapping[str, Any] | None = None,
        folder: str | Path | None = None,
        retry_errors: bool = False,
        **machine: Any,
    ) -> list[JobResult]:
        """Builds jobs, after those they depend on.

        If a parameter differs from the last build's, everything built from that job is built again too.

        Args:
            *names: Jobs; none for every job.
            runs: Name or id of the run to build them for, or several; empty for every finished run.
            params: Values of parameters, by `NAME`, or by `JOB.NAME` for one job alone; None is null.
            folder: A folder with jobs of your own.
            retry_errors: Whether to try quarantined examples of passes again.
            **machine: Keys of a run spec that say where passes are computed: `device`, `executor`, ...

        Raises:
            UserError: an unknown job, run, parameter or key, or a run that is not finished.
        """
        request = JobRequest(
            names=names,
            runs=(str(runs),) if isinstance(runs, str | int) else tuple(map(str, runs)),
            params={key: value_text(value) for key, value in (params or {}).items()},
            folder=None if folder is None else Path(folder),
            retry_errors=retry_errors,
            machine=make_settings(MachineSettings, machine, where="run_jobs()"),
        )
        with reporting(stderr_console()) as report:
            return run_jobs(self._store, request, report)

    def tree(
        self,
        run: str | int,
        example_id: int,
        *,
        variant: Variant = "released",
        tau: float = 0.4,
        target: RowTarget = "gold",
        units: Units = "pieces",
    ) -> Tree:
        """Grows the attribution tree of one example; see `analysis.trees.attribution_tree`."""
        return attribution_tree(
            self._store, run, example_id, variant=variant, tau=tau, target=target, units=units
        )

    def plot(
        self,
        kind: str,
        *runs: str | int,
        criterion: str = "attattr",
        theme: Theme = "light",
    ) -> Chart:
        """Draws one figure of the results, as an Altair chart.

        For example `results.plot("universality")` in a notebook, or `results.plot("heads").save("h.svg")`.

        Args:
            kind: As in `attattr plot`: heads, importance, universality, scatter, pruning, area, ...
            *runs: Names or ids of runs; none for every run.
            criterion: Criterion of importance, for figures that show one at a time.
            theme: The page that the figure is for.

        Raises:
            UserError: an unknown kind, run or criterion, or a job has to be run first.
        """
        figure = find_figure(kind)
        with self._store.read() as connection:
            shown = chosen_runs(connection, [str(run) for run in runs])
            rows = figure_rows(connection, figure, shown, criterion=criterion, path=self._store.path)
        return themed(figure.draw(rows), theme)

    def diff(self, run_a: str | int, run_b: str | int, *, top: int = 10) -> pa.Table:
        """Returns what changed between two runs; see `analysis.diff.diff_runs`."""
        return diff_runs(self._store, run_a, run_b, top=top)

    def verify(self) -> list[AuditResult]:
        """Runs every audit; the store is good if each `passed`.

        Audits about jobs that are not built are left out; a warning in the log names them.
        """
        results, left_out = run_audits(self._store)
        if left_out:
            log.warning("left out, about jobs that are not built: %s", ", ".join(left_out))
        return results


def open(path: str | Path) -> Results:
    """Opens a store. If the file does not exist, the first run makes it.

    Args:
        path: The DuckDB file.
    """
    return Results(path)
