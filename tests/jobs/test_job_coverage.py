"""What the jobs' 95 % intervals and p values are worth: how often they are right, on made-up data.

Every made-up run is one repetition, so that one query computes hundreds of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.worksheet import Worksheet
from numpy.typing import NDArray
from sqlalchemy import Connection

from attattr_batch.store.database.connection import arrow_rows, raw
from attattr_batch.store.writing.jobs import prepare, query_rows

Numbers = NDArray[np.float64]


@pytest.fixture(scope="module")
def worksheet() -> Worksheet:
    return Worksheet()


def insert(connection: Connection, **tables: Mapping[str, Any]) -> None:
    """Fills tables from columns, each of which is an array or one value for all rows."""
    for name, columns in tables.items():
        length = max(np.size(column) for column in columns.values() if not isinstance(column, str))
        arrow = {key: np.broadcast_to(np.asarray(column), length) for key, column in columns.items()}
        with arrow_rows(connection, "given_rows", pa.table(arrow)):
            raw(connection).execute(f"INSERT INTO {name} BY NAME FROM given_rows")


def share_inside(rows: Iterable[Mapping[str, Any]], low: str, high: str, truth: float) -> float:
    """Share of the intervals that hold the truth."""
    inside = [row[low] <= truth <= row[high] for row in rows]
    return sum(inside) / len(inside)


def answers(chance: np.random.Generator, repeats: int, n: int, draws: int) -> tuple[Numbers, Numbers]:
    """Correct answers of a criterion [repeat, row] and of its random twins [repeat, row, draw].

    Rows differ in how easy they are, draws in how much they do (SD 0.1, as measured on real data); the means
    are 0.7 and 0.5.
    """
    rows = chance.uniform(-0.2, 0.2, (repeats, n, 1))
    twins = 0.5 + rows + chance.normal(0, 0.1, (repeats, 1, draws))
    return (
        (chance.random((repeats, n)) < 0.7 + rows[..., 0]).astype(float),
        (chance.random((repeats, n, draws)) < twins).astype(float),
    )


def rows_alone(criterion: Numbers, twins: Numbers) -> float:
    """How often the interval over rows alone, draws taken as given, holds the truth."""
    beyond = criterion - twins.mean(2)
    half = 1.96 * beyond.std(1, ddof=1) / np.sqrt(beyond.shape[1])
    return float((abs(beyond.mean(1) - 0.2) <= half).mean())


REPEATS = 160


@pytest.mark.parametrize("draws", [5, 20])
def test_areas_over_random_count_the_spread_of_random_orders(worksheet: Worksheet, draws: int) -> None:
    criterion, twins = answers(np.random.default_rng(0), REPEATS, 150, draws)
    run, row, draw = np.indices(twins.shape).reshape(3, -1)
    single = np.indices(criterion.shape).reshape(2, -1)
    # One point of the curve, which weighs a tenth.
    outcomes = {
        "run_id": np.concatenate([single[0], run]),
        "job": "pruned_accuracy",
        "example_id": np.concatenate([single[1], row]),
        "criterion": np.repeat(["attattr", "random"], [criterion.size, draw.size]),
        "draw": np.concatenate([np.zeros(criterion.size, int), draw]),
        "step": 5,
        "predicted": np.concatenate([criterion.ravel(), twins.ravel()]).astype(int),
    }
    with worksheet.filled({}) as connection:
        insert(
            connection,
            runs={"run_id": np.arange(REPEATS)},
            predictions={"run_id": single[0], "example_id": single[1], "gold": 1},
            masked_answers=outcomes,
        )
        prepare(connection, range(REPEATS))
        job = worksheet.catalogue.job("pruning_area")
        found = query_rows(connection, job.file.query, {}).to_pylist()
    found = [row for row in found if row["criterion"] == "attattr" and row["measure"] == "accuracy"]
    assert len(found) == REPEATS
    covered = share_inside(found, "over_random_low", "over_random_high", 0.02)
    assert 0.92 <= covered <= 0.99, covered
    assert rows_alone(criterion, twins) < covered - (0.08 if draws == 5 else 0.01)


@pytest.mark.slow
def test_areas_and_their_differences_hold_the_truth(worksheet: Worksheet) -> None:
    """Two classes, one rare and harder; `taylor` keeps more answers than `attattr`, on the same rows."""
    chance, repeats, n = np.random.default_rng(4), 1000, 120
    gold = (chance.random((repeats, n)) < 0.3).astype(int)
    easy = np.where(gold, 0.5, 0.8) + chance.uniform(-0.2, 0.2, gold.shape)
    means = np.array([0.0, 0.1])
    correct = chance.random((2, *gold.shape)) < (easy + means[:, None, None])
    prob = np.clip(easy + means[:, None, None] + chance.normal(0, 0.1, correct.shape), -2, 2)
    criterion, run, row = (one.ravel() for one in np.indices(correct.shape))
    label = np.where(correct, gold, 1 - gold).ravel()
    answered = {"run_id": run, "job": "pruned_accuracy", "example_id": row, "draw": 0, "step": 5}
    answered |= {"criterion": np.array(["attattr", "taylor"])[criterion]}
    answered |= {"predicted": label, "prob_gold": prob.ravel()}
    own = criterion == 0
    control = {key: np.broadcast_to(value, len(run))[own] for key, value in answered.items()}
    with worksheet.filled({}) as connection:
        insert(
            connection,
            runs={"run_id": np.arange(repeats)},
            predictions={"run_id": run[own], "example_id": row[own], "gold": gold.ravel()},
        )
        insert(connection, masked_answers=answered)
        insert(connection, masked_answers=control | {"criterion": np.repeat("random", own.sum())})
        prepare(connection, range(repeats))
        job = worksheet.catalogue.job("pruning_area")
        found = query_rows(connection, job.file.query, {}).to_pylist()
    truths = {
        "accuracy": 0.071,
        "balanced_accuracy": 0.065,
        "prob_gold": 0.071,
    }  # of attattr, at this one point
    for measure, truth in truths.items():
        of = {
            name: [r for r in found if (r["criterion"], r["measure"]) == (name, measure)]
            for name in ("attattr", "taylor")
        }
        covered = share_inside(of["attattr"], "ci_low", "ci_high", truth)
        assert 0.93 <= covered <= 0.97, (measure, covered)
        covered = share_inside(of["taylor"], "over_attattr_low", "over_attattr_high", 0.01)
        assert 0.93 <= covered <= 0.97, (measure, covered)


@pytest.mark.slow
@pytest.mark.parametrize("same_rows", [False, True])
@pytest.mark.parametrize("truth", [0.1, 0.7, 0.95])
def test_correlations_hold_the_truth(worksheet: Worksheet, truth: float, same_rows: bool) -> None:
    """Importances of two runs, known from 100 examples; on the same rows the runs share much of the noise."""
    chance, repeats, n, heads, replicates = np.random.default_rng(7), 400, 100, 40, 100
    importances = chance.normal(size=(repeats, 2, 1, heads))
    importances[:, 1] = truth * importances[:, 0] + np.sqrt(1 - truth**2) * importances[:, 1]
    # The correlation of these very heads is what an interval over examples is about.
    truths = [float(np.corrcoef(one[:, 0])[0, 1]) for one in importances]
    shared, own = 3 * chance.normal(size=(2, repeats, 2, n, heads))
    if same_rows:
        shared[:, 1] = shared[:, 0]
    values = importances + shared + own
    weights = chance.poisson(1, (repeats, 2, replicates, n))
    if same_rows:
        weights[:, 1] = weights[:, 0]
    drawn = (weights @ values) / weights.sum(-1, keepdims=True)
    pair, which, replicate, head = (one.ravel() for one in np.indices(drawn.shape))
    of_heads = {"criterion": "attattr", "layer": 0}
    run = np.arange(2 * repeats)
    family = np.char.add("f", (run // 2).astype(str))  # so that no others are compared
    task = np.char.add("t", (run // 2 if same_rows else run).astype(str))
    with worksheet.filled({}) as connection:
        insert(
            connection,
            runs={"run_id": run, "family": family, "n_layers": 1, "n_heads": heads, "task": task},
            head_replicates=of_heads
            | {"run_id": 2 * pair + which, "replicate": replicate, "head": head, "importance": drawn.ravel()},
            head_importance=of_heads
            | {
                "run_id": np.repeat(run, heads),
                "head": np.tile(np.arange(heads), len(run)),
                "importance": values.mean(2).ravel(),
            },
        )
        prepare(connection, run.tolist())
        job = worksheet.catalogue.job("head_universality")
        rows = query_rows(connection, job.file.query, {"top_k": 10}).to_pylist()
    rows = sorted((row for row in rows if row["run_a"] < row["run_b"]), key=lambda row: row["run_a"])
    assert [row["pair"] for row in rows] == ["settings" if same_rows else "data"] * repeats
    inside = [row["ci_low"] <= true <= row["ci_high"] for row, true in zip(rows, truths, strict=True)]
    # Near 1, where the interval ends, it holds the truth more often than it says.
    assert 0.93 <= np.mean(inside) <= (0.98 if truth < 0.9 else 1), np.mean(inside)
    bias = [
        np.mean([row[name] - true for row, true in zip(rows, truths, strict=True)])
        for name in ("corrected", "pearson")
    ]
    assert abs(bias[0]) < 0.015
    if truth > 0.5 and not same_rows:
        assert bias[1] < -0.05, "noise hides likeness, so that it has to be taken out"


@pytest.fixture(scope="module")
def effects(worksheet: Worksheet) -> list[dict[str, Any]]:
    """Effects of patterns that do 0.2 more than random tokens, and of as many that are random tokens."""
    chance = np.random.default_rng(1)
    strong, twins = answers(chance, REPEATS, 60, 20)
    _, random = answers(chance, REPEATS, 60, 21)
    patterns = np.concatenate([strong, random[..., 0]])
    controls = np.concatenate([twins, random[..., 1:]])
    run, row, draw = np.indices(controls.shape).reshape(3, -1)
    single = np.indices(patterns.shape).reshape(2, -1)
    outcomes = {
        "run_id": np.concatenate([single[0], run]),
        "job": "trigger_report",
        "example_id": np.concatenate([single[1], row]),
        "pattern": 7,
        "control": np.repeat([False, True], [patterns.size, draw.size]),
        "draw": np.concatenate([np.zeros(patterns.size, int), draw]),
        "predicted": np.concatenate([patterns.ravel(), controls.ravel()]).astype(int),
    }
    runs = np.arange(len(patterns))
    with worksheet.filled({}) as connection:
        insert(
            connection,
            runs={"run_id": runs},
            predictions={"run_id": single[0], "example_id": single[1], "gold": 0, "predicted": 0},
            trigger_patterns={"run_id": runs, "pattern": 7},
            trigger_choice={
                "run_id": runs,
                "source": "attribution",
                "ranking": "push",
                "label": 1,
                "place": 0,
                "pattern": 7,
            },
            attacked_answers=outcomes,
        )
        prepare(connection, runs.tolist())
        job = worksheet.catalogue.job("trigger_effects")
        return list(query_rows(connection, job.file.query, {}).to_pylist())


def test_effects_of_triggers_count_the_spread_of_random_tokens(effects: list[dict[str, Any]]) -> None:
    strong = [row for row in effects if row["run_id"] < REPEATS]
    covered = share_inside(strong, "ci_low", "ci_high", 0.2)
    assert 0.92 <= covered <= 0.99, covered


def test_p_of_a_pattern_that_is_random_tokens_is_uniform(effects: list[dict[str, Any]]) -> None:
    p = np.array([row["p"] for row in effects if row["run_id"] >= REPEATS])
    for level in (1 / 21, 0.2, 0.5):
        # Ties with a twin make it larger, never smaller.
        assert (p <= level + 1e-9).mean() <= level + 2.5 * np.sqrt(level * (1 - level) / REPEATS)
    assert p.mean() == pytest.approx(0.5, abs=0.08)
    assert np.mean([row["p"] for row in effects if row["run_id"] < REPEATS]) < 0.15


def benjamini_hochberg(p: list[float]) -> list[float]:
    """Adjusted p values, as the step-up procedure is told."""
    order = sorted(range(len(p)), key=lambda index: -p[index])
    adjusted, least = [0.0] * len(p), 1.0
    for place, index in enumerate(order):
        least = min(least, p[index] * len(p) / (len(p) - place))
        adjusted[index] = least
    return adjusted


def test_p_is_adjusted_as_benjamini_and_hochberg_say(worksheet: Worksheet) -> None:
    chance = np.random.default_rng(2)
    n_patterns, n_draws, n_rows = 12, 19, 30
    push = chance.random((n_patterns, 1, 1)) * 0.5
    pushed = chance.random((n_patterns, n_draws + 1, n_rows)) < 0.4
    pushed[:, :1] |= chance.random((n_patterns, 1, n_rows)) < push
    pattern, draw, row = np.indices(pushed.shape).reshape(3, -1)
    numbers = np.arange(n_patterns)
    with worksheet.filled({}) as connection:
        insert(
            connection,
            runs={"run_id": np.array([1])},
            predictions={"run_id": 1, "example_id": np.arange(n_rows), "gold": 0, "predicted": 0},
            trigger_patterns={"run_id": 1, "pattern": numbers},
            trigger_choice={
                "run_id": 1,
                "source": "attribution",
                "ranking": "push",
                "label": 1,
                "place": numbers,
                "pattern": numbers,
            },
            attacked_answers={
                "run_id": 1,
                "job": "trigger_report",
                "example_id": row,
                "pattern": pattern,
                "control": draw > 0,
                "draw": draw,
                "predicted": pushed.ravel().astype(int),
            },
        )
        prepare(connection, [1])
        job = worksheet.catalogue.job("trigger_effects")
        found = query_rows(connection, job.file.query, {}).to_pylist()
    shares = pushed.mean(2)
    as_strong = (shares[:, 1:] >= shares[:, :1]).sum(1)
    expected = ((1 + as_strong) / (1 + n_draws)).tolist()
    by_place = {row["place"]: row for row in found}
    assert [by_place[place]["p"] for place in range(n_patterns)] == pytest.approx(expected)
    adjusted = [by_place[place]["p_adjusted"] for place in range(n_patterns)]
    assert adjusted == pytest.approx(benjamini_hochberg(expected))
    assert len({round(one, 9) for one in adjusted}) > 3


def skewed(sigma: float) -> Any:
    def values(chance: np.random.Generator, shape: tuple[int, int]) -> Numbers:
        return chance.lognormal(-(sigma**2) / 2, sigma, shape)

    return values


VALUES = {
    "normal": lambda chance, shape: chance.normal(1, 1, shape),
    "exponential": lambda chance, shape: chance.exponential(1, shape),
    "skewed": skewed(1.0),
    "very skewed": skewed(1.5),
}
"""Distributions of mean 1."""

LEAST = {"normal": 0.92, "exponential": 0.92, "skewed": 0.9, "very skewed": 0.84}
"""Share of intervals that must hold the mean; docs/jobs.md has what more repetitions gave."""


@pytest.mark.parametrize(
    ("kind", "n", "repeats"), [*((kind, 20, 480) for kind in VALUES), ("skewed", 100, 160)]
)
def test_intervals_of_importance_hold_the_mean(worksheet: Worksheet, kind: str, n: int, repeats: int) -> None:
    sources = 8
    values = VALUES[kind](np.random.default_rng(n), (repeats, n))
    run, example = np.indices(values.shape).reshape(2, -1)
    runs = np.arange(repeats)
    with worksheet.filled({"head_values": "run_id"}) as connection:
        insert(
            connection,
            # Runs of one split are resampled alike.
            runs={"run_id": runs, "task": "t", "split": (runs % sources).astype(str)},
            head_values={
                "run_id": run,
                "criterion": "attattr",
                "example_id": example,
                "layer": 0,
                "head": 0,
                "value": values.ravel(),
            },
        )
        prepare(connection, runs.tolist())
        job = worksheet.catalogue.job("head_replicates")
        parameters = {name: one.default for name, one in job.parameters.items()}
        replicates = query_rows(connection, job.file.query, parameters)
        with arrow_rows(connection, "given_rows", replicates):
            raw(connection).execute("INSERT INTO head_replicates BY NAME FROM given_rows")
        job = worksheet.catalogue.job("head_importance")
        found = query_rows(connection, job.file.query, {"seed": 0}).to_pylist()
    found = [row for row in found if row["criterion"] == "attattr"]
    assert len(found) == repeats
    covered = share_inside(found, "ci_low", "ci_high", 1.0)
    assert LEAST[kind] <= covered <= 0.99, covered
