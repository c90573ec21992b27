"""A consistent copy of a store while others read it.

The copy is made by DuckDB itself: a process that opens and closes the file by other means loses its lock.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

from attattr_batch.errors import StoreError
from attattr_batch.store.database.connection import Store
from attattr_batch.store.database.interrupts import keyboard_interrupts
from attattr_batch.store.database.opening import (
    STORAGE_VERSION,
    explain,
    is_lock_error,
    log_of,
    open_duckdb,
)


def snapshot(store: Store, destination: str | Path, *, overwrite: bool = False) -> Path:
    """Writes a compact, consistent copy of the store; readers go on meanwhile, writers wait.

    Args:
        store: What to copy, of this release or an earlier one.
        destination: The copy's path. A store there, of this release or an earlier one, is replaced in one
            step.
        overwrite: Whether to replace a file there that is no store of ours as well.

    Returns:
        The copy's path.

    Raises:
        StoreError: the store cannot be read, the destination must not be replaced or cannot be written.
    """
    target = Path(destination)
    store.check_ours()
    _check_destination(store, target, overwrite)
    unfinished = target.resolve().with_name(f".{target.name}.{os.getpid()}.unfinished")
    source = open_duckdb(store.path, read_only=True, timeout_s=store.timeout_s, files=[unfinished])
    try:
        with keyboard_interrupts():
            _copy(source, unfinished)
        _clear_log(target)
        os.replace(unfinished, target)
    except (duckdb.IOException, duckdb.TransactionException) as error:
        raise explain(error, target) from error
    finally:
        source.close()
        for leftover in (unfinished, log_of(unfinished)):
            leftover.unlink(missing_ok=True)
    return target


def _copy(source: duckdb.DuckDBPyConnection, path: Path) -> None:
    (name,) = source.execute("SELECT current_database()").fetchall()[0]
    quoted = str(path).replace("'", "''")
    source.execute(f"ATTACH '{quoted}' AS the_copy (READ_WRITE, STORAGE_VERSION '{STORAGE_VERSION}')")
    source.execute(f'COPY FROM DATABASE "{name.replace(chr(34), chr(34) * 2)}" TO the_copy')
    source.execute("DETACH the_copy")


def _clear_log(target: Path) -> None:
    """Sees to it that no log of what stands there stays behind: beside the copy it would stop every opening.

    The log goes into its file first, which is whole if the process is killed before it is replaced.
    """
    log = log_of(target)
    if target.exists() and log.exists():
        try:
            open_duckdb(target, read_only=False, timeout_s=0.0).close()
        except StoreError as error:
            if error.__cause__ is not None and is_lock_error(error.__cause__):
                raise
    log.unlink(missing_ok=True)


def _check_destination(store: Store, target: Path, overwrite: bool) -> None:
    if target.is_dir():
        raise StoreError("a snapshot is a file", got=f"{target} (a folder)", hint="give a file's path")
    if not target.parent.is_dir():
        raise StoreError(
            "the folder for the snapshot does not exist", got=target.parent, hint="make it first"
        )
    if not target.exists():
        return
    if target.samefile(store.path):
        raise StoreError("a snapshot cannot replace the store it is taken of", got=target)
    if overwrite:
        return
    try:
        Store(target, timeout_s=0.0).check_ours()
    except StoreError as error:
        raise StoreError(
            "a file that is no store of ours, or in use, is in the way of the snapshot",
            got=f"{target}: {str(error).splitlines()[0]}",
            hint="give another path, or move the file away (--overwrite replaces what is no store)",
        ) from error
