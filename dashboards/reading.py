"""What every page shares: short reads of the store, figures, and messages instead of tracebacks."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt
import pyarrow as pa
import streamlit as st

from attattr_batch.analysis.diff import diff_runs
from attattr_batch.analysis.examples import stored_tokens
from attattr_batch.errors import AttattrError, UserError
from attattr_batch.report.figures import figure_rows, find_figure, with_criterion
from attattr_batch.report.theme import CRITERION_COLOURS, Chart
from attattr_batch.store.database.connection import Store, arrow_result
from attattr_batch.store.writing.jobs import define_macros, table_names

_WAIT_S = 10.0
_KEPT_RESULTS = 200
_MOST_RUNS = 8


def store_path() -> Path:
    """The store that is shown; `attattr dashboard --db` sets it."""
    return Path(os.environ.get("ATTATTR_DB", "attattr.duckdb"))


def rows(sql: str, *values: Any) -> pa.Table:
    """Rows of a query; `?` stands for the values. Asked once for each state of the file.

    The query may use the macros of jobs (jobs/macros.sql).

    Raises:
        StoreError: the store cannot be read.
    """
    return _rows(sql, values, _state())


def records(sql: str, *values: Any) -> list[dict[str, Any]]:
    """The same as dictionaries."""
    return rows(sql, *values).to_pylist()


def has(*names: str) -> bool:
    """Whether the store has these tables or views."""
    return _names(_state()).issuperset(names)


def figure_table(name: str, run_ids: Sequence[int]) -> pa.Table:
    """Rows of a figure.

    Raises:
        UserError: a job has to be run first, or there is nothing about these runs.
    """
    return _figure_rows(name, tuple(run_ids), _state())


def example_tokens(run_id: int, example_id: int) -> list[str]:
    """Tokens of an example, special ones included.

    Raises:
        StoreError: the store cannot be read.
    """
    return _example_tokens(run_id, example_id, _state())


def differences(run_a: int, run_b: int) -> pa.Table:
    """What changed between two runs.

    Raises:
        StoreError: the store cannot be read.
    """
    return _differences(run_a, run_b, _state())


def show_figure(name: str, run_ids: Sequence[int], *, criterion: str | None = None) -> None:
    """Heading, chart and numbers of a figure; or what has to be run before it can be drawn.

    Of many runs the newest are shown: nobody reads more panels than these, and drawing them takes seconds.
    """
    figure = find_figure(name)
    st.subheader(figure.title)
    st.caption(figure.query.description)
    shown = run_ids[-_MOST_RUNS:]
    if len(shown) < len(run_ids):
        st.caption(f"The {len(shown)} newest of {len(run_ids)} runs; pick others in the sidebar.")
    with messages():
        found, drawn = _drawn_figure(name, tuple(shown), criterion, _state())
        st.vega_lite_chart(drawn, width="content", key=f"figure-{name}")
        show_numbers(found, name)


def show_chart(chart: Chart, *, key: str, **options: Any) -> None:
    """The chart at its own size; `options` are those of `st.altair_chart`."""
    st.altair_chart(_as_row(chart), width="content", key=key, **options)


def _as_row(chart: Chart) -> Chart:
    # Streamlit squeezes a single view, legend and all, into the size meant for its marks; no row of one.
    return alt.hconcat(chart) if isinstance(chart, alt.Chart | alt.LayerChart) else chart


def show_numbers(table: pa.Table, name: str) -> None:
    """The rows behind a chart, folded away."""
    with st.expander(f"The numbers ({table.num_rows} rows)"):
        st.dataframe(table, hide_index=True, key=f"numbers-{name}")


@contextmanager
def messages() -> Iterator[None]:
    """Shows what the user can mend as a message in the page."""
    try:
        yield
    except UserError as error:
        st.info(_as_markdown(error))
    except AttattrError as error:
        st.error(_as_markdown(error))


def all_runs() -> list[dict[str, Any]]:
    """Every run: id, name, task, labels, layers, heads, target, status; oldest first."""
    return records(
        "SELECT run_id, name, task, labels, n_layers, n_heads, n_examples, target, status"
        " FROM runs ORDER BY run_id"
    )


def built_criteria(*run_ids: int) -> list[str]:
    """Criteria by which the job `head_importance` ranked the heads of each of the runs, the paper's first."""
    if not has("head_importance"):
        return []
    found = records(
        "SELECT criterion FROM head_importance WHERE list_contains(?, run_id)"
        " GROUP BY criterion HAVING count(DISTINCT run_id) = ?",
        list(run_ids),
        len(run_ids),
    )
    built = {row["criterion"] for row in found} - {"random"}
    return [criterion for criterion in CRITERION_COLOURS if criterion in built]


def choose_run(chosen: Sequence[dict[str, Any]], key: str, label: str = "run") -> dict[str, Any]:
    """A box to choose one run, kept in the address of the page."""
    names = {run["name"]: run for run in chosen}
    picked = st.selectbox(label, list(names), key=key, bind="query-params")
    return names[picked] if picked in names else next(iter(names.values()))


def _as_markdown(error: AttattrError) -> str:
    # A code block: names and texts of a data set must not be read as markup.
    return "```text\n" + str(error).replace("```", "'''") + "\n```"


def _state() -> tuple[int, ...]:
    """Changes whenever the file or its log does."""
    found = []
    for path in (store_path(), Path(f"{store_path()}.wal")):
        try:
            stat = path.stat()
        except FileNotFoundError:
            found += [0, 0]
        else:
            found += [stat.st_mtime_ns, stat.st_size]
    return tuple(found)


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _rows(sql: str, values: tuple[Any, ...], state: tuple[int, ...]) -> pa.Table:
    with Store(store_path(), timeout_s=_WAIT_S).read() as connection:
        define_macros(connection)
        return arrow_result(connection, sql, values)


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _names(state: tuple[int, ...]) -> set[str]:
    with Store(store_path(), timeout_s=_WAIT_S).read() as connection:
        return set(table_names(connection))


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _example_tokens(run_id: int, example_id: int, state: tuple[int, ...]) -> list[str]:
    with Store(store_path(), timeout_s=_WAIT_S).read() as connection:
        return [token for token, _ in stored_tokens(connection, run_id, example_id)]


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _differences(run_a: int, run_b: int, state: tuple[int, ...]) -> pa.Table:
    return diff_runs(Store(store_path(), timeout_s=_WAIT_S), run_a, run_b)


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _drawn_figure(
    name: str, run_ids: tuple[int, ...], criterion: str | None, state: tuple[int, ...]
) -> tuple[pa.Table, dict[str, Any]]:
    """Rows of a figure, and its Vega-Lite specification: Altair takes a second for many panels."""
    found = _figure_rows(name, run_ids, state)
    if criterion is not None:
        found = with_criterion(found, criterion)
    # Figures of ours are valid, and their look is the page's own.
    drawn = _as_row(find_figure(name).draw(found)).to_dict(validate=False)
    return found, {key: value for key, value in drawn.items() if key != "config"}


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _figure_rows(name: str, run_ids: tuple[int, ...], state: tuple[int, ...]) -> pa.Table:
    with Store(store_path(), timeout_s=_WAIT_S).read() as connection:
        return figure_rows(connection, find_figure(name), run_ids)
