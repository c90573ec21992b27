"""`attattr doctor`: what works here."""

from __future__ import annotations

import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from attattr_batch.cli.output import DEFAULT_DB, DbOption, Format, FormatOption, print_rows
from attattr_batch.runtime.cpus import usable_cpus

_PACKAGES = (
    "attattr-batch torch transformers datasets duckdb duckdb-sqlalchemy sqlalchemy alembic pyarrow ray"
).split()


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(epilog="Example:  attattr doctor --format json")(doctor)


def doctor(
    db: DbOption = DEFAULT_DB,
    form: FormatOption = Format.table,
    start_ray: Annotated[bool, typer.Option("--ray", help="Also start Ray once (10 seconds).")] = False,
) -> None:
    """Check versions, devices, the store and Ray; exit code 1 if something needed does not work."""
    rows = [("python", "ok", platform.python_version())]
    rows += [_package(name) for name in _PACKAGES]
    rows += [_devices(), _bundled(), _store(db)]
    if start_ray:
        rows.append(_ray())
    print_rows(("what", "result", "detail"), rows, form)
    if any(result == "FAILED" for _, result, _ in rows):
        raise typer.Exit(1)


def _package(name: str) -> tuple[str, str, str]:
    try:
        return name, "ok", version(name)
    except PackageNotFoundError:
        return name, "FAILED", "not installed"


def _devices() -> tuple[str, str, str]:
    from attattr_batch.engine.devices import gpu_names

    gpus = gpu_names()
    memory = shutil.disk_usage(".").free / 2**30
    return (
        "devices",
        "ok",
        f"{usable_cpus()} CPUs, GPUs: {', '.join(gpus) or 'none'}; {memory:.0f} GiB free on disk",
    )


def _bundled() -> tuple[str, str, str]:
    from attattr_batch.files import bundled_folder

    models = sorted(path.name for path in (bundled_folder() / "models").glob("*") if path.is_dir())
    return "bundled data", "ok" if models else "FAILED", ", ".join(models) or "missing: reinstall the package"


def _store(db: object) -> tuple[str, str, str]:
    from attattr_batch.errors import StoreError
    from attattr_batch.store.database.connection import Store

    store = Store(str(db))
    if not store.path.parent.is_dir():
        return "store", "FAILED", f"there is no folder {store.path.parent}"
    if not store.path.exists():
        return "store", "ok", f"{db}: not there yet; `attattr run` makes it"
    try:
        with store.read() as connection:
            count = connection.exec_driver_sql("SELECT count(*) FROM runs").scalar_one()
    except StoreError as error:
        return "store", "FAILED", str(error)
    return "store", "ok", f"{db}: {count} runs, {store.path.stat().st_size / 2**20:.1f} MiB"


def _ray() -> tuple[str, str, str]:
    from attattr_batch.errors import AttattrError
    from attattr_batch.runtime.executors.ray_session import check_ray

    try:
        return "ray", "ok", check_ray()
    except AttattrError as error:
        return "ray", "FAILED", str(error)
