"""What every test shares: checked shapes in the engine, one thread, versions in the header, real data."""

from __future__ import annotations

import fcntl
import importlib
import logging
import os
import shutil
import sys
from collections.abc import Callable
from importlib.abc import MetaPathFinder
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

import hypothesis
import pytest
from jaxtyping import install_import_hook

if TYPE_CHECKING:
    from attattr_batch.store.database.connection import Store

# Before anything imports torch: tests run beside each other, and tiny models gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")


# A busy machine is slow, not wrong; pytest-timeout ends what hangs.
hypothesis.settings.register_profile("ours", deadline=None)
hypothesis.settings.load_profile("ours")


class _LibrariesFirst(MetaPathFinder):
    """Imports transformers before the engine does, but not for tests that need neither.

    What a hooked module imports while it loads misses its bytecode cache, which would cost ten seconds.
    """

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "attattr_batch.engine":
            importlib.import_module("transformers.modeling_utils")


# Before anything imports the engine: the shapes in its annotations are checked at every call.
install_import_hook("attattr_batch.engine", "beartype.beartype")
sys.meta_path.insert(0, _LibrariesFirst())


def pytest_report_header() -> str:
    """Versions that decide numbers; the tests of the engine need neither duckdb nor ray."""
    found = []
    for name in ("torch", "transformers", "duckdb", "ray"):
        try:
            found.append(f"{name} {version(name)}")
        except PackageNotFoundError:
            found.append(f"{name} missing")
    return ", ".join(found)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """`-n auto` starts one process more than there are cores: a third of the time tests only wait."""
    return (os.cpu_count() or 1) + 1


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with slow tests come first, or one core would wait for them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@pytest.fixture(autouse=True)
def _log_as_imported() -> None:
    """Undoes what a command run in this process did to the package's log: caplog would see nothing of it."""
    logger = logging.getLogger("attattr_batch")
    for handler in logger.handlers:
        handler.close()
    logger.handlers.clear()
    logger.setLevel(logging.NOTSET)
    logger.propagate = True


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with real GLUE files, fine-tuned models and reference outputs."""
    folder = os.environ.get("ATTATTR_REAL_DATA")
    if not folder:
        pytest.skip("ATTATTR_REAL_DATA is not set")
    return Path(folder)


def _made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """A file that one process makes; the others of pytest-xdist wait for it and use the same."""
    base = factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent  # each process has a folder of its own in this one
    path, unfinished = base / name / f"{name}.duckdb", base / f"{name}-unfinished"
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished / path.name)
            unfinished.rename(path.parent)
    return path


@pytest.fixture(scope="session")
def built_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with two small runs of the bundled data and every job, made once; tests take copies."""
    return _made_once(tmp_path_factory, "built", _build)


def _build(db: Path) -> None:
    from helpers.calling import build_jobs

    from attattr_batch.cli.main import run_command_line

    for task in ("sst2", "mrpc"):
        run = ["run", "--task", task, "--model", "bundled", "--data-dir", "bundled", "--limit", "12"]
        assert run_command_line([*run, "--name", task, "--db", str(db), "--quiet"]) == 0
    build_jobs(db)


@pytest.fixture
def built_store(built_file: Path, tmp_path: Path) -> Store:
    """A copy of it for one test."""
    from attattr_batch.store.database.connection import Store

    copy = tmp_path / "built.duckdb"
    shutil.copy(built_file, copy)
    return Store(copy)


@pytest.fixture(scope="session")
def quickstart_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the bundled runs, made once; copy it before you write to it."""
    return _made_once(tmp_path_factory, "quickstart", _run_quickstart)


def _run_quickstart(db: Path) -> None:
    from attattr_batch.files import data_folder
    from attattr_batch.runtime.run import run_spec
    from attattr_batch.spec_file import load_spec
    from attattr_batch.store.database.connection import Store

    store = Store(db, create=True)
    for spec in load_spec(data_folder("jobs") / "runs" / "quickstart.yaml"):
        run_spec(spec, store, lambda progress: None)
    store.checkpoint()
