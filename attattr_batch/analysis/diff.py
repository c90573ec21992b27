"""What changed between two runs: settings, accuracy, and the importance of heads, with intervals."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
from sqlalchemy import Connection, Row

from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.choices import RowTarget
from attattr_batch.errors import UserError
from attattr_batch.spec import MachineSettings
from attattr_batch.store.database.connection import Store, arrow_result
from attattr_batch.store.writing import jobs as built
from attattr_batch.store.writing.runs import resolve_run

_SCHEMA = pa.schema(
    [
        ("part", pa.string()),
        ("name", pa.string()),
        ("a", pa.string()),
        ("b", pa.string()),
        ("value", pa.float64()),
        ("ci_low", pa.float64()),
        ("ci_high", pa.float64()),
    ]
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
        runs = resolve_run(connection, run_a), resolve_run(connection, run_b)
        built.prepare(connection, [run.run_id for run in runs])
        rows = _settings_rows(*runs) + _accuracy_rows(connection, *runs)
        target = _common_target(*runs)
        if _alike(*runs) and target is not None:
            _importance(connection, target)
            rows += arrow_result(connection, _CORRELATION, [run.run_id for run in runs]).to_pylist()
            rows += arrow_result(connection, _HEADS, [*(run.run_id for run in runs), top]).to_pylist()
    return pa.Table.from_pylist(rows, _SCHEMA)


def why_no_heads(store: Store, run_a: str | int, run_b: str | int) -> str:
    """Says why `diff_runs` has no rows about the heads of two runs."""
    with store.read() as connection:
        runs = resolve_run(connection, run_a), resolve_run(connection, run_b)
        if not _alike(*runs):
            had = " and ".join(f"{run.family} with {run.n_layers} x {run.n_heads} heads" for run in runs)
            return f"the runs' architectures differ ({had}), so their heads cannot be compared"
        target = _common_target(*runs)
        if target is None:
            had = ", ".join(f"{run.name} has the {run.targets} class alone" for run in runs)
            return f"heads are not compared: no class is attributed by both runs ({had})"
        lacking = [run.name for run in runs if not _has_scores(connection, run, target)]
    return (
        f"heads are not compared: no attributions of {' and '.join(lacking)} for the {target} class;"
        " `attattr status` says what is committed"
    )


def _alike(a: Row[Any], b: Row[Any]) -> bool:
    return (a.family, a.n_layers, a.n_heads) == (b.family, b.n_layers, b.n_heads)


def _common_target(a: Row[Any], b: Row[Any]) -> RowTarget | None:
    """The class that both runs attribute, gold before predicted."""
    targets = {a.targets, b.targets}
    if "predicted" not in targets:
        return "gold"
    return None if "gold" in targets else "predicted"


def _has_scores(connection: Connection, run: Row[Any], target: RowTarget) -> bool:
    query = "SELECT 1 FROM head_scores WHERE run_id = ? AND target = ? LIMIT 1"
    return arrow_result(connection, query, [run.run_id, target]).num_rows > 0


def _settings_rows(a: Row[Any], b: Row[Any]) -> list[dict[str, Any]]:
    """Settings as they were given, and what of the identity they do not say already."""
    unsaid = {"name", *MachineSettings.model_fields}
    specs = [json.loads(run.config) for run in (a, b)]
    given = _differences(*({key: spec[key] for key in spec if key not in unsaid} for spec in specs))
    found = _differences(json.loads(a.identity), json.loads(b.identity))
    parts = {"setting": given, "identity": [row for row in found if row not in given]}
    return [{"part": part, **row} for part, rows in parts.items() for row in rows]


def _differences(a: Mapping[str, Any], b: Mapping[str, Any]) -> list[dict[str, Any]]:
    first, second = _flat(a), _flat(b)
    return [
        {"name": key, "a": first.get(key), "b": second.get(key)}
        for key in sorted(first.keys() | second.keys())
        if first.get(key) != second.get(key)
    ]


def _flat(identity: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in identity.items():
        if isinstance(value, Mapping):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _accuracy_rows(connection: Connection, a: Row[Any], b: Row[Any]) -> list[dict[str, Any]]:
    """Accuracy; paired where both runs are about the same rows."""
    same = json.loads(a.identity)["dataset"] == json.loads(b.identity)["dataset"]
    query = _PAIRED if same else _UNPAIRED
    return [
        row
        for row in arrow_result(connection, query, [a.run_id, b.run_id]).to_pylist()
        if row["a"] is not None
    ]


def _importance(connection: Connection, target: RowTarget) -> None:
    """Builds the jobs of head importance for the selected runs, for this connection alone."""
    catalogue = load_catalogue()
    # `head_values` takes gold of a run that has both classes, also beside one that has predicted alone.
    said = f"SELECT * REPLACE ('{target}' AS targets) FROM selected_runs"
    built.make_temporary(connection, "runs", said, {}, is_view=True)
    for name in ("head_values", "head_replicates", "head_importance", "head_universality"):
        job = catalogue.job(name)
        values = {one.name: one.default for one in job.parameters.values()}
        with built.explained(name):
            is_view = job.materialized == "view"
            built.make_temporary(connection, name, job.file.query, values, is_view=is_view)


# Newcombe's interval of a difference, from the two Wilson intervals.
_UNPAIRED = """
WITH counted AS (
    SELECT run_id, count(*) AS n, count(*) FILTER (predicted = gold) AS correct
    FROM predictions
    WHERE gold IS NOT NULL
    GROUP BY run_id
),
shares AS (
    SELECT run_id, correct / n AS accuracy, wilson_low(correct, n) AS low, wilson_high(correct, n) AS high
    FROM counted
)
SELECT
    'accuracy' AS part,
    'unpaired' AS name,
    printf('%.6f', a.accuracy) AS a,
    printf('%.6f', b.accuracy) AS b,
    b.accuracy - a.accuracy AS value,
    value - sqrt((b.accuracy - b.low) ** 2 + (a.high - a.accuracy) ** 2) AS ci_low,
    value + sqrt((b.high - b.accuracy) ** 2 + (a.accuracy - a.low) ** 2) AS ci_high
FROM shares AS a
JOIN shares AS b ON a.run_id = ? AND b.run_id = ?
"""

# Agresti and Min's interval of a paired difference, with half a row added to each of the four outcomes.
_PAIRED = """
WITH answers AS (
    SELECT
        (a.predicted = a.gold)::INTEGER AS correct_a,
        (b.predicted = b.gold)::INTEGER AS correct_b,
        (a.predicted <> b.predicted)::INTEGER AS changed
    FROM predictions AS a
    JOIN predictions AS b USING (example_id)
    WHERE a.run_id = ? AND b.run_id = ?
),
counted AS (
    SELECT
        avg(correct_a) AS accuracy_a,
        avg(correct_b) AS accuracy_b,
        count(*) FILTER (correct_b > correct_a) AS gained,
        count(*) FILTER (correct_b < correct_a) AS lost,
        count(correct_a) + 2 AS n,  -- rows with a label, and the two added
        sum(changed) AS changed,
        count(*) AS n_answers
    FROM answers
),
spread AS (
    SELECT *, 1.959964 * sqrt(gained + lost + 1 - (gained - lost) ** 2 / n) / n AS half FROM counted
)
SELECT
    'accuracy' AS part,
    'same rows' AS name,
    printf('%.6f', accuracy_a) AS a,
    printf('%.6f', accuracy_b) AS b,
    accuracy_b - accuracy_a AS value,
    greatest(-1, (gained - lost) / n - half) AS ci_low,
    least(1, (gained - lost) / n + half) AS ci_high
FROM spread
UNION ALL
SELECT 'answers', 'changed', changed::VARCHAR, n_answers::VARCHAR, changed / n_answers, NULL, NULL
FROM spread
"""

_CORRELATION = """
WITH pair AS (
    SELECT * FROM head_universality WHERE run_a = ? AND run_b = ?
)
SELECT
    'correlation' AS part,
    criterion || ' pearson' AS name,
    NULL AS a,
    NULL AS b,
    pearson AS value,
    ci_low,
    ci_high
FROM pair
UNION ALL
SELECT 'correlation', criterion || ' spearman', NULL, NULL, spearman, NULL, NULL
FROM pair
ORDER BY name
"""

_HEADS = """
WITH importance AS (
    SELECT * FROM head_importance WHERE criterion = 'attattr'
),
moved AS (
    SELECT
        a.layer,
        a.head,
        quantile_cont(b.importance - a.importance, 0.025) AS ci_low,
        quantile_cont(b.importance - a.importance, 0.975) AS ci_high,
        any_value(a.run_id) AS run_a,
        any_value(b.run_id) AS run_b
    FROM head_replicates AS a
    JOIN head_replicates AS b USING (criterion, layer, head, replicate)
    WHERE a.criterion = 'attattr' AND a.run_id = ? AND b.run_id = ?
    GROUP BY ALL
)
SELECT
    'head' AS part,
    m.layer || '/' || m.head AS name,
    printf('%.6g', a.importance) AS a,
    printf('%.6g', b.importance) AS b,
    b.importance - a.importance AS value,
    m.ci_low,
    m.ci_high
FROM moved AS m
JOIN importance AS a ON a.run_id = m.run_a AND a.layer = m.layer AND a.head = m.head
JOIN importance AS b ON b.run_id = m.run_b AND b.layer = m.layer AND b.head = m.head
ORDER BY abs(b.importance - a.importance) DESC, m.layer, m.head
LIMIT ?
"""
