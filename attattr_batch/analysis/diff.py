"""What changed between two runs: settings, accuracy, and the importance of heads, with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Row

from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.analysis.questions import ask
from attattr_batch.choices import RowTarget
from attattr_batch.errors import UserError
from attattr_batch.spec import MachineSettings
from attattr_batch.store.database.connection import Store, arrow_result
from attattr_batch.store.writing.jobs import explained, make_temporary, prepare
from attattr_batch.store.writing.runs import resolve_run

_SCHEMA = pa.schema(
    [(name, pa.string()) for name in ("part", "name", "a", "b")]
    + [(name, pa.float64()) for name in ("value", "ci_low", "ci_high")]
)


def diff_runs(store: Store, run_a: str | int, run_b: str | int, *, top: int = 10) -> pa.Table:
    """Compares two runs.

    Args:
        store: The store; nothing is written to it, and no job needs to be built.
        run_a: Name or id of a run.
        run_b: Name or id of another.
        top: Heads to list, those whose importance (ATTATTR) moved most.

    Returns:
        Rows (part, name, a, b, value, ci_low, ci_high). Parts: `setting` (keys of the run specs that differ,
        but not where it was computed), `identity` (what else makes them two runs, contents as hashes),
        `accuracy` (value: b - a), `answers` (of the same rows: share that changed), `correlation` of head
        importance by criterion, `head` (importance of a head; value: b - a). Intervals are at 95 %: of
        accuracies Agresti and Min's (same rows) or Newcombe's (other rows), of the rest bootstrap over
        examples.
        Heads are compared by the attributions of a class that both runs have: gold, or else predicted.

    Raises:
        UserError: there is no such run, or `top` is negative.
    """
    if top < 0:
        raise UserError("cannot list a negative number of heads", got=top, allowed="0 or more")
    with store.read() as connection:
        a, b = resolve_run(connection, run_a), resolve_run(connection, run_b)
        pair = {"run_a": a.run_id, "run_b": b.run_id}
        prepare(connection, list(pair.values()))
        same_rows = json.loads(a.identity)["dataset"] == json.loads(b.identity)["dataset"]
        rows = _settings_rows(a, b)
        rows += ask(connection, f"accuracy_of_{'same' if same_rows else 'other'}_rows", **pair).to_pylist()
        target, _ = _common_target(connection, a, b)
        if target is not None:
            _build_importance(connection, target)
            rows += ask(connection, "importance_correlation", **pair).to_pylist()
            rows += ask(connection, "importance_moved", **pair, top=top).to_pylist()
    return pa.Table.from_pylist(rows, _SCHEMA)


def why_no_heads(store: Store, run_a: str | int, run_b: str | int) -> str:
    """Says why `diff_runs` has no rows about the heads of two runs."""
    with store.read() as connection:
        _, why = _common_target(connection, resolve_run(connection, run_a), resolve_run(connection, run_b))
    return f"heads are not compared: {why}"


def _common_target(connection: Connection, a: Row[Any], b: Row[Any]) -> tuple[RowTarget | None, str]:
    """The class by which heads of both runs can be compared, gold before predicted; if none, why."""
    if (a.family, a.n_layers, a.n_heads) != (b.family, b.n_layers, b.n_heads):
        had = " and ".join(f"{run.family} with {run.n_layers} x {run.n_heads} heads" for run in (a, b))
        return None, f"the architectures differ ({had})"
    if {a.targets, b.targets} == {"gold", "predicted"}:
        had = ", ".join(f"{run.name} has the {run.targets} class alone" for run in (a, b))
        return None, f"no class is attributed by both runs ({had})"
    target: RowTarget = "predicted" if "predicted" in (a.targets, b.targets) else "gold"
    query = "SELECT 1 FROM head_scores WHERE run_id = ? AND target = ? LIMIT 1"
    lacking = [
        run.name for run in (a, b) if not arrow_result(connection, query, [run.run_id, target]).num_rows
    ]
    if lacking:
        missing = f"no attributions of {' and '.join(lacking)} for the {target} class"
        return None, f"{missing}; `attattr status` says what is committed"
    return target, ""


def _settings_rows(a: Row[Any], b: Row[Any]) -> list[dict[str, Any]]:
    """Settings as they were given, and what of the identity they do not say already."""
    unsaid = {"name", *MachineSettings.model_fields}
    specs = [json.loads(run.config) for run in (a, b)]
    given = _differences(*({key: spec[key] for key in spec if key not in unsaid} for spec in specs))
    found = _differences(json.loads(a.identity), json.loads(b.identity))
    parts = {"setting": given, "identity": [row for row in found if row not in given]}
    return [{"part": part, **row} for part, rows in parts.items() for row in rows]


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"name": key, "a": _shown(a.get(key)), "b": _shown(b.get(key))}
        for key in sorted(a.keys() | b.keys())
        if a.get(key) != b.get(key)
    ]


def _shown(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value)


def _build_importance(connection: Connection, target: RowTarget) -> None:
    """Builds the jobs of head importance for the selected runs, for this connection alone."""
    catalogue = load_catalogue()
    # `head_values` takes gold of a run that has both classes, also beside one that has predicted alone.
    said = f"SELECT * REPLACE ('{target}' AS targets) FROM selected_runs"
    make_temporary(connection, "view", "runs", said, {})
    for name in ("head_values", "head_replicates", "head_importance", "head_universality"):
        job = catalogue.job(name)
        with explained(name):
            make_temporary(connection, job.materialized, name, job.file.query, job.defaults)
