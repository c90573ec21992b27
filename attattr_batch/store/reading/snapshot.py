"""A consistent copy of a store while others read it.

DuckDB makes the copy itself: a process that opens and closes the file by other means loses its lock on it.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import duckdb

from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import Store, raw
from attattr_batch.store.database.opening import STORAGE_VERSION, explain, log_of, open_duckdb
from attattr_batch.store.database.sqlfile import literal


def snapshot(store: Store, destination: str | Path) -> Path:
    """Writes a compact, consistent copy of the store; readers go on meanwhile, writers wait.

    Args:
        store: What to copy, of this release or an earlier one.
        destination: The copy's path. A store there, of this release or an earlier one, is replaced in one
            step; any other file is left alone.

    Returns:
        The copy's path.

    Raises:
        StoreError: the store cannot be read, or the destination must not be replaced or cannot be written.
    """
    target = Path(destination)
    aside = target.resolve().with_name(f".{target.name}.{os.getpid()}.unfinished")
    with store.read_earlier(folder=aside) as connection:
        _check_destination(store, target)
        try:
            aside.mkdir()
            _copy(raw(connection), aside / "copy")
            _clear_log(target)
            os.replace(aside / "copy", target)
        except (OSError, duckdb.IOException, duckdb.TransactionException) as error:
            raise explain(error, target) from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return target


def _copy(source: duckdb.DuckDBPyConnection, path: Path) -> None:
    (name,) = source.execute("SELECT current_database()").fetchall()[0]
    source.execute(
        f"ATTACH {literal(str(path))} AS the_copy (READ_WRITE, STORAGE_VERSION '{STORAGE_VERSION}')"
    )
    source.execute(f'COPY FROM DATABASE "{name.replace(chr(34), chr(34) * 2)}" TO the_copy')
    source.execute("DETACH the_copy")


def _clear_log(target: Path) -> None:
    """Removes the log of the store to be replaced: beside the copy it would stop every opening.

    The log goes into its file first: should the process be killed before it is replaced, the store is whole.
    """
    log = log_of(target)
    if target.exists() and log.exists():
        open_duckdb(target, read_only=False, timeout_s=0.0).close()
    log.unlink(missing_ok=True)


def _check_destination(store: Store, target: Path) -> None:
    if target.is_dir() or not target.parent.is_dir():
        raise StoreError("a snapshot is a file in a folder that exists", got=target)
    if not target.exists():
        return
    if target.samefile(store.path):
        raise StoreError("a snapshot cannot replace the store it is taken of", got=target)
    try:
        with Store(target, timeout_s=0.0).read_earlier():
            pass
    except StoreError as error:
        raise StoreError(
            "a file that is no store of ours, or in use, is in the way of the snapshot",
            got=f"{target}: {str(error).splitlines()[0]}",
            hint="give another path, or move the file away",
        ) from error
