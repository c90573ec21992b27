"""A store in which every job is built."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from attattr_batch.store.connection import Store


@pytest.fixture
def built_store(built_file: Path, tmp_path: Path) -> Store:
    """A copy for one test."""
    copy = tmp_path / "built.duckdb"
    shutil.copy(built_file, copy)
    return Store(copy)
