"""The console's child process: one query on a database with every door shut.

Reads a request (JSON) from stdin. Writes the rows as an Arrow IPC stream to stdout and ends with 0, or a
message to stderr and ends with another code; rows written before an error then do not count.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from attattr_batch.errors import AttattrError, UserError
from attattr_batch.store.database.opening import open_duckdb

FAILED = 3
"""Exit code for a query that failed; DuckDB's message is on stderr."""

REFUSED = 4
"""Exit code for a query that we refuse; the message for the user is on stderr."""

TIMED_OUT = 5
"""Exit code for a query that took too long."""

_BATCH_ROWS = 2048
_SLACK_BYTES = 2**30

# A statement that reads can hide one that writes (WITH x AS (COPY ...)): the shut doors are the protection,
# this list only gives a clearer message. MULTI is PIVOT.
_READING = ("SELECT", "EXPLAIN", "MULTI")


def main() -> None:
    """Runs the request on stdin and ends the process."""
    try:
        _run(json.load(sys.stdin))
    except AttattrError as error:
        _end(REFUSED, str(error))
    except (duckdb.Error, OSError, MemoryError, UnicodeError) as error:
        message = str(error) or "Out of Memory Error"
        # Once rows are streaming, DuckDB's errors arrive as OSError: only the text tells.
        _end(TIMED_OUT if "exceeded maximum execution time" in message else FAILED, message)


def _end(code: int, message: str) -> None:
    sys.stderr.write(message)
    sys.exit(code)


def open_locked(path: Path, memory_mib: int, timeout_s: float) -> duckdb.DuckDBPyConnection:
    """Opens a database so that no statement can reach beyond it, change it, or undo these settings."""
    deadline = time.monotonic() + timeout_s
    settings = {"temp_directory": "", "memory_limit": f"{memory_mib}MiB", "threads": 2}
    connection = open_duckdb(path, read_only=True, timeout_s=timeout_s, settings=settings)
    remaining_ms = max(int((deadline - time.monotonic()) * 1000), 1)
    connection.execute(f"SET max_execution_time = {remaining_ms}")
    connection.execute("SET enable_progress_bar = false")  # it would be drawn into the answer
    connection.execute("SET lock_configuration = true")
    return connection


def _run(request: dict[str, Any]) -> None:
    _check_statement(request["sql"])
    connection = open_locked(Path(request["path"]), request["memory_mib"], request["timeout_s"])
    for statement in request["views"]:
        connection.execute(statement)
    _limit_address_space(request["memory_mib"] * 2**20 + _SLACK_BYTES)
    _send(connection.sql(request["sql"]).to_arrow_reader(_BATCH_ROWS), request["max_rows"])


def _check_statement(sql: str) -> None:
    sql.encode()  # says which character is not valid Unicode; DuckDB would not
    statements = duckdb.extract_statements(sql)
    if len(statements) != 1:
        raise UserError("give one statement", got=f"{len(statements)} statements")
    try:
        kind = statements[0].type.name
    except ValueError:  # newer than the list of kinds in DuckDB's Python package: UPDATE EXTENSIONS, for one
        kind = "another kind of statement"
    if kind not in _READING:
        allowed = "SELECT, FROM, WITH, PIVOT, DESCRIBE, SUMMARIZE, SHOW, EXPLAIN"
        raise UserError("only queries that read are allowed", got=kind, allowed=allowed)


def _limit_address_space(more: int) -> None:
    """Lets the process grow by `more` bytes; DuckDB's own limit does not cover single large values."""
    statm = Path("/proc/self/statm")
    if statm.exists():  # Linux; elsewhere DuckDB's limit and the deadline remain
        limit = int(statm.read_text().split()[0]) * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def _send(rows: pa.RecordBatchReader, max_rows: int | None) -> None:
    """Writes the rows to stdout; one more than `max_rows`, so that the reader sees that there are more."""
    left = None if max_rows is None else max_rows + 1
    with pa.ipc.new_stream(sys.stdout.buffer, rows.schema) as sink:
        for batch in rows:
            sink.write_batch(batch if left is None else batch.slice(0, left))
            if left is not None:
                left -= batch.num_rows
                if left <= 0:
                    return
