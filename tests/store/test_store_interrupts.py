"""Ctrl-C inside every call to DuckDB that a commit makes: nothing is lost, doubled or left half done."""

from __future__ import annotations

import _thread
import itertools
import operator
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from helpers.fabricate import INTEGRITY, chunk, facts, new_store, register, rows

from attattr_batch.store.database import connection as module
from attattr_batch.store.database import opening
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.ingest import ChunkFacts, commit_chunk

PER_CHUNK = 2
REPEATED = 1000  # 12,000 edges an example: as many as one of BERT-base may have
TABLES = ("ledger", "edges_dedup")
CALLS = ("execute", "begin", "commit", "rollback", "register", "unregister", "fetchall", "sql")


def pressed_inside(duck: duckdb.DuckDBPyConnection, call: Callable[[], Any]) -> Any:
    """The signal is there when the call begins; DuckDB looks for it, or Python does after the call."""
    press = partial(_thread.interrupt_main, signal.SIGINT)
    both: list[Callable[[], Any]] = [press, call]
    return list(map(operator.call, both))[-1]  # no line of Python between the two


def broken_off(duck: duckdb.DuckDBPyConnection, call: Callable[[], Any]) -> Any:
    """As DuckDB does: its own error, and a transaction in which every statement fails from then on."""
    with pytest.raises(duckdb.Error):
        duck.execute("SELECT error('broken off')").fetchall()
    raise RuntimeError("Query interrupted")


def refused(duck: duckdb.DuckDBPyConnection, call: Callable[[], Any]) -> Any:
    with pytest.raises(duckdb.Error):
        duck.execute("SELECT error('broken off')").fetchall()
    raise duckdb.InterruptException("INTERRUPT Error: Query interrupted")


class Interrupted:
    """A connection on which Ctrl-C is pressed at its n-th call, over all connections."""

    def __init__(self, duck: duckdb.DuckDBPyConnection, count: Iterator[int], at: int, press: Any):
        self._duck, self._count, self._at, self._press = duck, count, at, press

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._duck, name)
        if name not in CALLS:
            return found

        def called(*arguments: Any, **options: Any) -> Any:
            call = partial(found, *arguments, **options)
            if next(self._count) != self._at:
                result = call()
            else:
                result = self._press(self._duck, call)
            return self if result is self._duck else result

        return called


def real_facts(pass_id: int, number: int) -> ChunkFacts:
    ids = list(range(number * PER_CHUNK, (number + 1) * PER_CHUNK))
    tables = facts(ids, "gold")
    edges = pa.concat_tables([tables["edges"]] * REPEATED).combine_chunks()
    return chunk(pass_id, ids, tables={**tables, "edges": edges})


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("press", [pressed_inside, broken_off, refused])
def test_an_interrupt_in_any_call_of_a_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, press: Any
) -> None:
    store = new_store(tmp_path)
    _, pass_id = register(store, 100, targets="gold")
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        trials = list(interrupted_commits(store, pass_id, monkeypatch, press))
    finally:
        signal.signal(signal.SIGINT, before)
    assert trials.count("nothing") > 20, "a commit makes as many calls"
    n = PER_CHUNK * (trials.count("everything") + 1)
    assert rows(store, "SELECT DISTINCT count(*) FROM edges_dedup GROUP BY example_id") == [(12 * REPEATED,)]
    assert rows(store, f"SELECT committed, ok FROM {INTEGRITY}") == [(n, True)]


def interrupted_commits(
    store: Store, pass_id: int, monkeypatch: pytest.MonkeyPatch, press: Any
) -> Iterator[str]:
    """Commits with an interrupt at one call after the other; yields what was there of the chunk afterwards.

    The chunk is the same until it is there, and another one then.
    """
    open_duckdb, number = opening.open_duckdb, 0
    for at in itertools.count():
        given, count = real_facts(pass_id, number), itertools.count()

        def opened(*arguments: Any, at: int = at, count: Any = count, **options: Any) -> Any:
            return Interrupted(open_duckdb(*arguments, **options), count, at, press)

        with monkeypatch.context() as patched:
            patched.setattr(module, "open_duckdb", opened)
            try:
                commit_chunk(store, given)
                if next(count) <= at:
                    return  # it makes no such call any more
                assert press is pressed_inside, "Python drops what falls into its own tidying up"
            except KeyboardInterrupt:
                pass
        chunk_rows = [
            f"(SELECT count(*) FROM {table} WHERE example_id >= {number * PER_CHUNK})" for table in TABLES
        ]
        (there,) = rows(store, f"SELECT {', '.join(chunk_rows)}")
        yield {(0, 0): "nothing", (PER_CHUNK, 12 * REPEATED * PER_CHUNK): "everything"}[there]
        if any(there):
            assert commit_chunk(store, given) == []
            number += 1
