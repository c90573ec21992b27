"""`attattr doctor`: says what works on this machine."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import typer

from attattr_batch.cli.output import DEFAULT_DB, DbOption, FormatOption, open_store, print_rows
from attattr_batch.errors import StoreError
from attattr_batch.runtime.cpus import usable_cpus

_PACKAGES = (
    "attattr-batch torch transformers datasets duckdb duckdb-sqlalchemy sqlalchemy alembic pyarrow ray"
).split()


def doctor(db: DbOption = DEFAULT_DB, form: FormatOption = "table") -> None:
    """Check versions, devices and the store; exit code 1 if something needed does not work.

    Example:
        attattr doctor --format json
    """
    rows = [("python", "ok", platform.python_version())]
    rows += [(name, *_package(name)) for name in _PACKAGES]
    rows += [("devices", "ok", _devices()), ("store", *_store(db))]
    print_rows(("what", "result", "detail"), rows, form)
    if any(result == "FAILED" for _, result, _ in rows):
        raise typer.Exit(1)


def _package(name: str) -> tuple[str, str]:
    try:
        return "ok", version(name)
    except PackageNotFoundError:
        return "FAILED", "not installed"


def _devices() -> str:
    from attattr_batch.engine.devices import gpu_names

    free = shutil.disk_usage(".").free / 2**30
    return f"{usable_cpus()} CPUs, GPUs: {', '.join(gpu_names()) or 'none'}; {free:.0f} GiB free on disk"


def _store(db: Path) -> tuple[str, str]:

    store = open_store(db)
    if not store.path.parent.is_dir():
        return "FAILED", f"there is no folder {store.path.parent}"
    if not store.path.exists():
        return "ok", f"{db}: not there yet; `attattr run` makes it"
    try:
        with store.read() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one()
    except StoreError as error:
        return "FAILED", str(error)
    return "ok", f"{db}: {count} runs, {store.path.stat().st_size / 2**20:.1f} MiB"
