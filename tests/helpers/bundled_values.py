"""Numbers of the bundled models that must not drift: `python -m helpers.bundled_values`, in tests/, writes
them.

Only a change of the mathematics, of the models or of what is stored may change them.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import make_spec
from attattr_batch.store.database.connection import Store

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bundled.json"
TASKS = ("sst2", "mrpc", "rte", "mnli")
EXAMPLES = 3

Values = dict[str, dict[str, list[Any]]]
"""By task and quantity: its values, in the order of example, layer, head."""

_QUANTITIES = {
    "predicted": "SELECT predicted FROM predictions WHERE run_id = ? ORDER BY example_id",
    "probability of gold": "SELECT prob_gold FROM predictions WHERE run_id = ? ORDER BY example_id",
    "F(0)": "SELECT f_zero FROM layer_scores WHERE run_id = ? AND target = 'gold' ORDER BY example_id, layer",
    "largest attribution": (
        "SELECT attr_max FROM head_scores WHERE run_id = ? AND target = 'gold'"
        " ORDER BY example_id, layer, head"
    ),
    "where it is": (
        "SELECT [attr_max_query, attr_max_key] FROM head_scores WHERE run_id = ? AND target = 'gold'"
        " AND layer = 0 ORDER BY example_id, head"
    ),
    "summed attribution": (
        "SELECT attr_sum FROM head_scores WHERE run_id = ? AND target = 'gold'"
        " ORDER BY example_id, layer, head"
    ),
    "Taylor score": (
        "SELECT taylor FROM head_scores WHERE run_id = ? AND target = 'gold' ORDER BY example_id, layer, head"
    ),
    "Taylor score as released": (
        "SELECT taylor_released FROM head_scores WHERE run_id = ? AND target = 'gold'"
        " ORDER BY example_id, layer, head"
    ),
}


def compute(folder: Path, **settings: Any) -> tuple[Values, Store]:
    """The values as they are now, and the store they are in.

    Args:
        folder: Where to make the store.
        settings: More settings of the runs.
    """
    store = Store(folder / "golden.duckdb", create=True)
    values: Values = {}
    for task in TASKS:
        spec = {"task": task, "model": "bundled", "data_dir": "bundled", "limit": EXAMPLES, "device": "cpu"}
        run_id = run_spec(make_spec({**spec, **settings}), store, lambda progress: None).run_id
        with store.read() as connection:
            values[task] = {
                name: [value for (value,) in connection.exec_driver_sql(query, (run_id,)).all()]
                for name, query in _QUANTITIES.items()
            }
    return values, store


def golden() -> Mapping[str, Mapping[str, list[Any]]]:
    """The values as they were written down."""
    values: Values = json.loads(GOLDEN.read_text(encoding="utf-8"))
    return values


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        found, _ = compute(Path(made), quadrature="gauss-legendre", nodes=32)
    GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
