"""A console for SQL that reads. Each query runs in a locked process of its own with a deadline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import streamlit as st
from reading import messages, store_path

from attattr_batch.files import data_folder, distinct_names
from attattr_batch.report.saving import csv_file, flat
from attattr_batch.store.database.sqlfile import load_folder
from attattr_batch.store.reading.console import QueryResult, query

_MAX_ROWS = 1000
_DEADLINE_S = 20.0
_MEMORY_MIB = 1024
_CHARTS: dict[str, Callable[..., Any]] = {
    "bars": st.bar_chart,
    "points": st.scatter_chart,
    "line": st.line_chart,
}


def take_saved() -> None:
    """Writes the saved query that was chosen into the box."""
    if st.session_state["saved"] in saved:
        st.session_state["query"] = saved[st.session_state["saved"]].query


def show(result: QueryResult) -> None:
    """Table, file to download, chart."""
    if result.truncated:
        st.warning(f"Only the first {_MAX_ROWS} rows are shown.")
    table = flat(result.table).rename_columns(distinct_names(result.columns))
    st.caption(f"{table.num_rows} rows")
    st.dataframe(table, hide_index=True, key="result")
    st.download_button("Download CSV", csv_file(table), "result.csv", "text/csv")
    numbers = [
        field.name
        for field in table.schema
        if pa.types.is_floating(field.type)
        or pa.types.is_integer(field.type)
        or pa.types.is_decimal(field.type)
    ]
    if not numbers or not table.num_rows:
        return
    st.subheader("As a chart")
    first, second, third = st.columns(3)
    x = first.selectbox("x", table.column_names, key="x", bind="query-params")
    y = second.selectbox("y", numbers, index=len(numbers) - 1, key="y", bind="query-params")
    mark = third.selectbox("drawn as", list(_CHARTS), key="mark", bind="query-params")
    kind = pa.float64() if x in numbers and mark != "bars" else pa.string()
    # Under names of ours: a column's name may hold what Vega reads as a path.
    data = pa.table({"x": table[x].cast(kind), "y": table[y].cast(pa.float64())})
    _CHARTS[mark](data, x="x", y="y", x_label=x, y_label=y)


saved = {file.name.replace("_", " "): file for file in load_folder(data_folder("dashboards") / "queries")}
st.selectbox(
    "Saved queries", [*saved], index=None, key="saved", on_change=take_saved, placeholder="choose one"
)
if st.session_state["saved"] in saved:
    st.caption(saved[st.session_state["saved"]].description)
text = st.text_area(
    "One statement that reads", "SELECT * FROM run_summary", height=170, key="query", bind="query-params"
)
if st.button("Run", type="primary"):
    st.session_state.pop("result", None)
    with messages(), st.spinner("running"):
        st.session_state["result"] = query(
            store_path(), text, max_rows=_MAX_ROWS, timeout_s=_DEADLINE_S, memory_mib=_MEMORY_MIB
        )
if "result" in st.session_state:
    show(st.session_state["result"])
