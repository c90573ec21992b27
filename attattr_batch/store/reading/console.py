"""Read-only SQL for people: each query runs in a locked child process.

`read_only` alone would still let a query read any file of the machine and write some. The child therefore
opens the database with every door shut (see console_child.py), is limited in memory, and is killed at the
deadline: inside one process, a query such as `repeat('x', 2e9)` cannot be stopped.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa

from attattr_batch.errors import UserError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.migrate import own_views
from attattr_batch.store.database.opening import default_timeout_s
from attattr_batch.store.reading.console_child import REFUSED, TIMED_OUT

# Not `-m`, and no current folder on the path: a stray duckdb.py or json.py there must not be imported.
_CHILD = "attattr_batch.store.reading.console_child"
_BOOT = f"import sys; sys.path.append(sys.argv[1]); from {_CHILD} import main; main()"
_PACKAGE_PARENT = Path(__file__).resolve().parents[3]
_GRACE_S = 1.0

# By the kernel, and by an allocation that failed where nothing catches it.
_OUT_OF_MEMORY = (-signal.SIGKILL, -signal.SIGABRT)


@dataclass(frozen=True)
class QueryResult:
    """Rows of a query.

    Attributes:
        table: The rows, with DuckDB's types as Arrow types.
        truncated: Whether rows beyond `max_rows` were left out.
    """

    table: pa.Table
    truncated: bool

    @property
    def columns(self) -> list[str]:
        """Column names, as the query gives them (a name may come twice)."""
        return list(self.table.column_names)

    @property
    def rows(self) -> list[tuple[Any, ...]]:
        """Rows as tuples of Python values; sums of integers are ints, intervals time differences."""
        columns = [[plain(value) for value in column.to_pylist()] for column in self.table.columns]
        return list(zip(*columns, strict=True))


def query(
    path: str | Path,
    sql: str,
    *,
    max_rows: int | None = 1000,
    timeout_s: float = 60.0,
    memory_mib: int = 2048,
) -> QueryResult:
    """Runs one read-only statement on a store.

    Args:
        path: The database file.
        sql: One statement that reads.
        max_rows: Rows to return at most; None for all.
        timeout_s: When to give the query up, in seconds, waiting for a writer included.
        memory_mib: Memory the query may use, in MiB.

    Raises:
        StoreError: the database cannot be used (see `Store.read`).
        UserError: the statement is wrong, not allowed, too slow, or needs too much memory.
    """
    started = time.monotonic()
    # Also says in plain words when the file is not a store that this version reads.
    store = Store(path, timeout_s=min(timeout_s, default_timeout_s()))
    with store.read() as connection:
        views = own_views(connection, store.path)
    left_s = max(timeout_s - (time.monotonic() - started), 0.1)
    request = {
        "path": str(path),
        "views": views,
        "sql": sql,
        "max_rows": max_rows,
        "timeout_s": left_s,
        "memory_mib": memory_mib,
    }
    child = _run_child(request, left_s + _GRACE_S)
    if child.returncode != 0:
        raise _explain(child, timeout_s, memory_mib)
    table = pa.ipc.open_stream(pa.py_buffer(child.stdout)).read_all()
    truncated = max_rows is not None and table.num_rows > max_rows
    return QueryResult(table.slice(0, max_rows) if truncated else table, truncated)


def _run_child(request: dict[str, Any], timeout_s: float) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-P", "-c", _BOOT, str(_PACKAGE_PARENT)]
    document = json.dumps(request).encode()
    try:
        return subprocess.run(command, input=document, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, TIMED_OUT, b"", b"")


def _explain(child: subprocess.CompletedProcess[bytes], timeout_s: float, memory_mib: int) -> UserError:
    message = child.stderr.decode(errors="replace").strip()
    if child.returncode == REFUSED:
        return UserError(message)
    if child.returncode == TIMED_OUT:
        hint = "filter on run_id and target, or aggregate"
        return UserError(f"the query ran longer than {timeout_s:g} s and was stopped", hint=hint)
    if "Out of Memory Error" in message or child.returncode in _OUT_OF_MEMORY:
        hint = "select fewer columns or rows, or aggregate"
        return UserError(
            "the query needs more memory than it may use", allowed=f"{memory_mib} MiB", hint=hint
        )
    if child.returncode < 0:
        message = f"its process was ended: {signal.strsignal(-child.returncode)}"
    return UserError("the query failed", got=message)


def plain(value: Any) -> Any:
    """A value of a result as Python has it: sums of integers are ints, intervals time differences."""
    # DuckDB sums integers as 128-bit integers, which Arrow hands over as decimals without a fraction.
    if isinstance(value, Decimal) and value.as_tuple().exponent == 0:
        return int(value)
    if isinstance(value, pa.MonthDayNano):  # with months of 30 days, as DuckDB's own Python values have
        return timedelta(days=30 * value.months + value.days, microseconds=value.nanoseconds // 1000)
    return value
