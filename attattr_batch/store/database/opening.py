"""Opens database files, and says in plain words why one cannot be used.

DuckDB lets one process write or many read. Everyone therefore opens the file for a moment only, and tries
again for a while when somebody else has it. The console's child process imports this module, so of other
packages it imports DuckDB alone.
"""

from __future__ import annotations

import os
import shutil
import threading
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import duckdb

from attattr_batch.errors import StoreError, UserError, one_line
from attattr_batch.store.database.turns import give_way, pause, show_sign

STORAGE_VERSION = "v1.5.0"
"""File format of new stores: DuckDB 1.5 and later read it."""

_TIMEOUT_VARIABLE = "ATTATTR_LOCK_TIMEOUT"
_TIMEOUT_S = 30.0

# Everyone in a process must open a file with the same settings, or DuckDB refuses the second connection.
_SETTINGS = {
    "storage_compatibility_version": STORAGE_VERSION,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
_SHUT = {"enable_external_access": False}

_MAGIC = slice(8, 12)
_databases: set[tuple[int, int]] = set()
_looking = threading.Lock()

_HELD_BY_OTHER = "Could not set lock on file"
_HELD_BY_US = "with a different configuration than existing connections"


class HeldError(StoreError):
    """Somebody else has the file open; waiting may help."""


def default_timeout_s() -> float:
    """How long to wait while another process holds a file, in seconds: ATTATTR_LOCK_TIMEOUT, or 30.

    Raises:
        UserError: the variable is not a number of seconds.
    """
    value = os.environ.get(_TIMEOUT_VARIABLE) or _TIMEOUT_S
    try:
        seconds = float(value)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise UserError(
            "the lock timeout is not usable", got=f"{_TIMEOUT_VARIABLE}={value}", allowed="seconds, 0 or more"
        )
    return seconds


def open_duckdb(
    path: Path,
    *,
    read_only: bool,
    timeout_s: float,
    settings: dict[str, Any] | None = None,
    folder: Path | None = None,
) -> duckdb.DuckDBPyConnection:
    """Opens a database file, waiting up to `timeout_s` seconds while another process holds it.

    Whoever made the file may have put a view into it that reads other files. File system, network and
    extensions are therefore shut: no statement reaches anything but the database and `folder`.

    Args:
        path: The file; created when missing and `read_only` is false.
        read_only: Whether to open for reading.
        timeout_s: How long to wait for a lock, in seconds.
        settings: DuckDB settings beyond the usual ones.
        folder: Absolute path of a folder in which statements may read and write files.

    Raises:
        HeldError: somebody else had the file all the time.
        StoreError: the file cannot be opened; says why and what to do.
    """
    if path.is_dir():
        raise StoreError("the database must be a file", got=f"{path} (a folder)", hint="give a file's path")
    if _is_other_file(path):
        raise explain(duckdb.IOException("not a valid DuckDB database file"), path)
    config = {**_SETTINGS, **(settings or {})}
    deadline = time.monotonic() + timeout_s
    if read_only:
        give_way(path, deadline)
    with ExitStack() as signs:
        shown = False
        while True:
            try:
                if not (read_only or path.exists()):
                    _make_blank(path, {**config, **_SHUT})
                return _connect(path, read_only, config, folder)
            except duckdb.Error as error:
                if not (_HELD_BY_OTHER in str(error) or _HELD_BY_US in str(error)):
                    raise explain(error, path) from error
                if time.monotonic() >= deadline:
                    raise _held(error, path, timeout_s) from error
            shown = shown or (not read_only and show_sign(path, signs))
            pause()


def _connect(
    path: Path, read_only: bool, config: dict[str, Any], folder: Path | None
) -> duckdb.DuckDBPyConnection:
    if folder is None:
        return duckdb.connect(str(path), read_only=read_only, config={**config, **_SHUT})
    connection = duckdb.connect(str(path), read_only=read_only, config=config)
    # DuckDB takes the folder only while the file system is open, so not among the settings it is opened with.
    connection.execute("SET allowed_directories = ?", [[str(folder)]])
    connection.execute("SET enable_external_access = false")
    return connection


def identity(path: Path) -> tuple[int, int] | None:
    """Device and inode of the file at a path: the same under every name. None where there is no file."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _is_other_file(path: Path) -> bool:
    """Whether a file is no DuckDB database.

    DuckDB opens data that it can read, such as CSV, as a view in a database in memory: what is written there
    would be lost.
    """
    known = identity(path)
    if known is None or not path.is_file():
        return False
    # Look into a file only once, before this process opens it as a database: closing any descriptor of a file
    # ends the process's locks on it, and another process could write while a thread here still reads.
    with _looking:
        if known in _databases:
            return False
        try:
            with path.open("rb") as file:
                head = file.read(_MAGIC.stop)
        except OSError:
            return False  # DuckDB says why it cannot be read
        if head[_MAGIC] == b"DUCK":
            _databases.add(known)
            return False
    return any(head)


def _make_blank(path: Path, config: dict[str, Any]) -> None:
    """Makes a database file whole or not at all: DuckDB, killed in its first write, leaves an empty file."""
    aside, log = path.with_name(f".{path.name}.{os.getpid()}.new"), log_of(path)
    # A log without its file (deleted by hand, say) would stop every opening of the new one.
    left = identity(log)
    try:
        duckdb.connect(str(aside), config=config).close()
        os.link(aside, path)
        if left is not None and left == identity(log):
            log.unlink(missing_ok=True)
    except OSError:
        pass  # another process was first, or the disk knows no links: then DuckDB makes the file in its place
    finally:
        aside.unlink(missing_ok=True)


def log_of(path: Path) -> Path:
    """The write-ahead log beside a database file: what is committed and not yet in the file itself."""
    return path.with_name(path.name + ".wal")


def concerns_file(error: duckdb.Error) -> bool:
    """Whether an error is about the file, its disk or what it may reach, and not about a statement."""
    if isinstance(error, duckdb.IOException | duckdb.FatalException | duckdb.PermissionException):
        return True
    message = str(error)
    fragments = [fragment for known, _, _ in _EXPLANATIONS for fragment in known]
    return "Corrupt database file" in message or (
        "Failed to commit" in message and any(fragment in message for fragment in fragments)
    )


def explain(error: Exception, path: Path) -> StoreError:
    """Turns DuckDB's error about a file into one that says what is wrong and what to do."""
    message = one_line(error)
    for fragments, what, hint in _EXPLANATIONS:
        if any(fragment in message for fragment in fragments):
            return StoreError(what, got=path, hint=hint.format(path=path, message=message, free=_free(path)))
    return StoreError("the database cannot be used", got=f"{path}: {message}")


# (fragments of DuckDB's message, what is wrong, what to do); the first match wins.
_EXPLANATIONS: tuple[tuple[tuple[str, ...], str, str], ...] = (
    (
        ("Permission Error",),
        "a query, or a view in the database, reaches for what is not in the database, and none may",
        "read your own files beside the store, not through it; a view that you do not know says that the"
        " database is not to be trusted. {message}",
    ),
    (
        ("No space left on device", "File too large", "Disk quota exceeded"),
        "the database cannot grow: the disk is full",
        "make room ({free} free there) and run the same command again; everything committed is kept",
    ),
    (
        ("database does not exist",),
        "there is no database yet",
        "`attattr run --db {path}` makes one; or give the right file with --db",
    ),
    (
        ("No such file or directory",),
        "the folder of the database does not exist",
        "make the folder first, or give another path with --db",
    ),
    (
        ("Permission denied", "Read-only file system"),
        "no permission to use the database there",
        "check who owns the file and its folder (writing needs both), or give another path with --db",
    ),
    (
        ("sqlite_scanner", "not a valid DuckDB database file"),
        "the file is not a DuckDB database",
        "give another path with --db (an empty file left by a crash can be deleted)",
    ),
    (
        ("WAL does not match database file",),
        "the log beside the database belongs to another file, one that stood there before",
        "move {path}.wal away; if the file is a copy, its own log should have come with it",
    ),
    (
        ("Could not read enough bytes", "Corrupt database file", "Failed to load checkpoint"),
        "the database is damaged: it was cut short or changed outside",
        "go back to a snapshot (`attattr snapshot` makes them) or run again into a new file. {message}",
    ),
    (
        ("version number",),
        "the file was written by another version of DuckDB, which this one cannot read",
        "upgrade duckdb. {message}",
    ),
)


def _held(error: duckdb.Error, path: Path, timeout_s: float) -> HeldError:
    if _HELD_BY_US in str(error):
        return HeldError(
            "this program already has the database open in the other mode",
            got=path,
            hint="leave the `with store.read()` or `with store.write()` block before entering another",
        )
    holder = str(error).partition("Conflicting lock is held in ")[2].partition(". See also")[0]
    return HeldError(
        f"another process holds the database; waited {timeout_s:g} s",
        got=f"{path}, held by {holder or 'a process that DuckDB does not name'}",
        hint="wait for it or stop it (programs such as the DuckDB shell hold a file as long as they run)",
    )


def _free(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path(".")
    return f"{shutil.disk_usage(folder).free / 2**20:.0f} MiB"
