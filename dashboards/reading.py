"""What every page shares: short reads of the store, figures, and messages instead of tracebacks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import altair as alt
import pyarrow as pa
import streamlit as st

from attattr_batch.analysis.questions import ask
from attattr_batch.errors import AttattrError, UserError
from attattr_batch.report.figures import figure_rows, find_figure
from attattr_batch.report.palette import CRITERION_COLOURS
from attattr_batch.report.theme import Chart
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.jobs import table_names

_WAIT_S = 10.0
_KEPT_RESULTS = 200
_MOST_RUNS = 8


def store_path() -> Path:
    """The store that is shown; `attattr dashboard --db` sets it."""
    return Path(os.environ.get("ATTATTR_DB", "attattr.duckdb"))


def asked(work: Callable[..., Any], /, *arguments: Any, **options: Any) -> Any:
    """What `work(store, ...)` returns, which is called once for each state of the file.

    Raises:
        StoreError: the store cannot be read.
    """
    return _kept(work.__qualname__, arguments, options, _state(), work)


@st.cache_data(show_spinner=False, max_entries=_KEPT_RESULTS)
def _kept(
    name: str,
    arguments: tuple[Any, ...],
    options: dict[str, Any],
    state: tuple[int, ...],
    _work: Callable[..., Any],
) -> Any:
    return _work(Store(store_path(), timeout_s=_WAIT_S), *arguments, **options)


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


def rows(name: str, /, **values: Any) -> pa.Table:
    """Rows that answer a question (`questions/summary`, say), with the values of its parameters."""
    return asked(_rows, name, values)


def records(name: str, /, **values: Any) -> list[dict[str, Any]]:
    """The same as dictionaries."""
    return rows(name, **values).to_pylist()


def _rows(store: Store, name: str, values: dict[str, Any]) -> pa.Table:
    with store.read() as connection:
        return ask(connection, name, **values)


def has(*names: str) -> bool:
    """Whether the store has these tables or views."""
    return asked(_names).issuperset(names)


def _names(store: Store) -> set[str]:
    with store.read() as connection:
        return set(table_names(connection))


def tokens_of(store: Store, run_id: int, example_id: int) -> list[str]:
    """Tokens of an example, special ones included."""
    with store.read() as connection:
        found = ask(connection, "example_tokens", run_id=run_id, example_id=example_id)
    return found["token"].to_pylist()  # type: ignore[no-any-return]  # pyarrow is untyped


def show_figure(
    name: str, run_ids: Sequence[int], *, criterion: str = "attattr", most: int = _MOST_RUNS
) -> None:
    """Heading, chart and numbers of a figure; or what has to be run before it can be drawn.

    Of many runs the newest are shown: nobody reads more panels than these, and drawing them takes seconds.
    """
    figure = find_figure(name)
    st.subheader(figure.title)
    st.caption(figure.query.description)
    shown = run_ids[-most:]
    if len(shown) < len(run_ids):
        st.caption(f"The {len(shown)} newest of {len(run_ids)} runs; pick others in the sidebar.")
    with messages():
        found, drawn = asked(_drawn, name, tuple(shown), criterion)
        st.vega_lite_chart(drawn, width="content", key=f"figure-{name}")
        show_numbers(found, name)


def _drawn(
    store: Store, name: str, run_ids: Sequence[int], criterion: str
) -> tuple[pa.Table, dict[str, Any]]:
    """Rows of a figure, and its Vega-Lite specification: Altair takes a second for many panels."""
    figure = find_figure(name)
    with store.read() as connection:
        found = figure_rows(connection, figure, run_ids, criterion=criterion)
    # Figures of ours are valid, and their look is the page's own.
    drawn = _as_row(figure.draw(found)).to_dict(validate=False)
    return found, {key: value for key, value in drawn.items() if key != "config"}


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
    except AttattrError as error:
        show = st.info if isinstance(error, UserError) else st.error
        # A code block: names and texts of a data set must not be read as markup.
        show("```text\n" + str(error).replace("```", "'''") + "\n```")


def built_criteria(*run_ids: int) -> list[str]:
    """Criteria by which the job `head_importance` ranked the heads of each of the runs, the paper's first."""
    if not has("head_importance"):
        return []
    built = {row["criterion"] for row in records("questions/criteria", runs=list(run_ids))}
    return [criterion for criterion in CRITERION_COLOURS if criterion in built]


def choose_run(chosen: Sequence[dict[str, Any]], key: str, label: str = "run") -> dict[str, Any]:
    """A box to choose one run, kept in the address of the page."""
    names = {run["name"]: run for run in chosen}
    picked = st.selectbox(label, list(names), key=key, bind="query-params")
    return names[picked] if picked in names else next(iter(names.values()))


def choose_pair(chosen: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Two boxes side by side to choose two runs."""
    first, second = st.columns(2)
    with first:
        run_a = choose_run(chosen, "run_a", "run a")
    with second:
        run_b = choose_run([run for run in chosen if run != run_a], "run_b", "run b")
    return run_a, run_b
