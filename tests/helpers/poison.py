"""A store with markup wherever a data set, a model or a job can put text."""

from __future__ import annotations

from attattr_batch.store.database.connection import Store
from helpers.fabricate import execute

HOSTILE = "<img src=x onerror='window.attacked=1'></script><script>window.attacked=1</script>"
"""Runs a script where it is taken for markup."""


def poisoned(store: Store) -> Store:
    """Puts it into the store, which is returned."""
    quoted = HOSTILE.replace("'", "''")
    execute(
        store,
        f"UPDATE vocabulary SET token = '{quoted}' || token",
        f"UPDATE examples SET text_a = '{quoted}', text_b = '{quoted}'",
        f"UPDATE runs SET labels = ['{quoted}', 'b{quoted}'], model = '{quoted}', task = '{quoted}',"
        f" split = '{quoted}'",
    )
    return store
