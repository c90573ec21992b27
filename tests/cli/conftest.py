"""A toy model and data, and a command line over a store that every refusal must leave as it is."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers.calling import Cli, fill
from helpers.fabricate import INTEGRITY
from helpers.toy import rows_of, toy_model, toy_rows, write_sst2

N_COMMITTED = 6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy_model(tmp_path_factory.mktemp("models") / "toy")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sst2(tmp_path_factory.mktemp("glue"), dev=toy_rows(20, seed=1))


@pytest.fixture(scope="module")
def filled(model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of `N_COMMITTED` examples."""
    db = tmp_path_factory.mktemp("filled") / "store.duckdb"
    fill(db, model, data, N_COMMITTED)
    return db


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], filled: Path, tmp_path: Path) -> Iterator[Cli]:
    """The command line over a copy of the filled store, which every refusal must leave as it is."""
    db = tmp_path / "store.duckdb"
    shutil.copy(filled, db)
    yield Cli(capsys, db)
    assert rows_of(db, "SELECT count(*) FROM runs") == [(1,)]
    assert rows_of(db, f"SELECT committed, ok FROM {INTEGRITY}") == [(N_COMMITTED, True)]
