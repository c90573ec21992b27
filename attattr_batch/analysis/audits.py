"""Audits: queries that return offending rows; empty means good."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from attattr_batch.resources import data_folder
from attattr_batch.store.connection import Store
from attattr_batch.store.sqlfile import load_folder

SHOWN_ROWS = 20


@dataclass(frozen=True)
class AuditResult:
    """What one audit found.

    Attributes:
        name: Name of the audit.
        description: What it promises.
        columns: Column names of the offending rows.
        rows: The first `SHOWN_ROWS` of them.
        n_rows: How many there are.
    """

    name: str
    description: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Any, ...], ...]
    n_rows: int

    @property
    def passed(self) -> bool:
        """Whether nothing offends."""
        return self.n_rows == 0


def run_audits(store: Store, folder: Path | None = None) -> list[AuditResult]:
    """Runs every audit over one consistent state of the store.

    Args:
        store: The store.
        folder: Folder of audit files; the package's own by default.

    Raises:
        StoreError: the store cannot be read.
    """
    results = []
    with store.read() as connection:
        for audit in load_folder(folder or data_folder("jobs") / "audits"):
            found = connection.exec_driver_sql(audit.query)
            columns, rows = tuple(found.keys()), [tuple(row) for row in found.all()]
            results.append(
                AuditResult(audit.name, audit.description, columns, tuple(rows[:SHOWN_ROWS]), len(rows))
            )
    return results
