"""A console for SQL that reads. Each query runs in a locked process of its own with a deadline."""

from __future__ import annotations

import pyarrow as pa
import streamlit as st
from reading import messages, store_path

from attattr_batch.files import csv_lines, data_folder, distinct_names
from attattr_batch.store.database.sqlfile import load_folder
from attattr_batch.store.reading.console import QueryResult, plain, query

_MAX_ROWS = 1000
_DEADLINE_S = 20.0
_MEMORY_MIB = 1024


def take_saved() -> None:
    """Writes the saved query that was chosen into the box."""
    if st.session_state["saved"] in saved:
        st.session_state["query"] = saved[st.session_state["saved"]].query


def show(result: QueryResult) -> None:
    """Table, and file to download."""
    if result.truncated:
        st.warning(f"Only the first {_MAX_ROWS} rows are shown.")
    st.caption(f"{result.table.num_rows} rows")
    st.dataframe(readable(result.table), hide_index=True, key="result")
    file = "".join(csv_lines(result.columns, result.rows))
    st.download_button("Download CSV", file, "result.csv", "text/csv")


def readable(table: pa.Table) -> pa.Table:
    """The rows with columns of numbers, times and texts alone: any other value is a text.

    A browser's table shows intervals as wrong numbers and of unions nothing.
    """
    columns = [column if is_simple(column.type) else texts(column) for column in table.columns]
    return pa.table(columns, names=distinct_names(table.column_names))


def is_simple(kind: pa.DataType) -> bool:
    """Whether the browser's table shows such values as they are. Intervals are primitive to Arrow."""
    return (pa.types.is_primitive(kind) or pa.types.is_decimal(kind)) and not pa.types.is_interval(kind)


def texts(column: pa.ChunkedArray) -> pa.Array:
    """The values as texts."""
    return pa.array([None if one is None else str(plain(one)) for one in column.to_pylist()], pa.string())


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
