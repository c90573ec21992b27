"""The faithfulness board against an independent computation, and what its intervals are worth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.worksheet import Worksheet
from numpy.typing import NDArray
from scipy import special, stats
from sqlalchemy import Connection

from attattr_batch.store.database.connection import arrow_rows, raw
from attattr_batch.store.writing.jobs import prepare, query_rows, replace_table

Numbers = NDArray[np.float64]
MEASURES = ("prob_gold", "margin_gold", "prob_predicted", "margin_predicted")
WIDTHS = np.array([0.05, *[0.1] * 9, 0.05])
HEADS = 6


@pytest.fixture(scope="module")
def worksheet() -> Worksheet:
    return Worksheet()


def insert(connection: Connection, table: str, columns: Mapping[str, Any]) -> None:
    with arrow_rows(connection, "given_rows", pa.table(columns)):
        raw(connection).execute(f"INSERT INTO {table} BY NAME FROM given_rows")


class Made:
    """Made-up answers of one run.

    Attributes:
        logits: [order, step, row, label]; the orders are attattr, taylor, and random ones.
        gold: Gold label [row].
        predicted: The whole model's answer [row].
        importance: [order, head] of the first two.
        effect: What removing a head alone takes from each row [head, row].
    """

    def __init__(self, seed: int, n: int = 40, draws: int = 3):
        chance = np.random.default_rng(seed)
        self.draws, labels = draws, 3
        self.gold = chance.integers(0, labels, n)
        start = chance.normal(0, 1, (n, labels)) + 2 * np.eye(labels)[self.gold]
        end = chance.normal(0, 0.3, (n, labels))
        between = np.linspace(1, 0, 11)[None, :, None, None] ** chance.uniform(0.3, 2, (draws + 2, 1, 1, 1))
        noise = chance.normal(0, 0.3, (draws + 2, 11, n, labels))
        noise[:, [0, 10]] = 0
        self.logits = (between * start + (1 - between) * end + noise).astype(np.float32)
        self.predicted = self.logits[0, 0].argmax(-1)
        self.importance = chance.normal(0, 1, (2, HEADS)).round(1)
        self.effect = chance.normal(0, 0.1, (HEADS, n))

    def measures(self) -> dict[str, Numbers]:
        """Each measure [order, step, row]."""
        found, rows = {}, np.arange(len(self.gold))
        scores = self.logits.astype(float)
        for which, label in (("gold", self.gold), ("predicted", self.predicted)):
            others = scores.copy()
            others[:, :, rows, label] = -np.inf
            found[f"margin_{which}"] = scores[:, :, rows, label] - others.max(-1)
            found[f"prob_{which}"] = special.softmax(scores, -1)[:, :, rows, label]
        return found

    def fill(self, connection: Connection, run_id: int = 1) -> None:
        n, names = len(self.gold), ["attattr", "taylor", *["random"] * self.draws]
        order, step, row = np.indices(self.logits.shape[:3]).reshape(3, -1)
        masked = {
            "run_id": np.full(len(row), run_id),
            "job": ["pruned_accuracy"] * len(row),
            "example_id": row,
            "criterion": np.array(names)[order],
            "draw": np.maximum(order - 2, 0),
            "step": step,
            "predicted": self.logits.argmax(-1).ravel(),
            "logits": list(self.logits.reshape(-1, self.logits.shape[-1])),
        }
        insert(connection, "masked_answers", masked)
        rows = np.arange(n)
        of_run = np.full(n, run_id)
        insert(connection, "runs", {"run_id": [run_id], "n_layers": [1], "n_heads": [HEADS]})
        insert(
            connection,
            "predictions",
            {"run_id": of_run, "example_id": rows, "gold": self.gold, "predicted": self.predicted},
        )
        split: dict[str, Any] = {"run_id": of_run, "example_id": rows, "purpose": ["pruning"] * n}
        split |= {"part": ["evaluation"] * n}
        insert(connection, "splits", split)
        ranks = np.argsort(np.argsort(self.importance, axis=1, kind="stable"), axis=1)
        for name, values, rank in zip(names, self.importance, ranks, strict=False):
            ties = (values[:, None] == values).sum(1)
            columns: dict[str, Any] = {"criterion": [name] * HEADS, "rank": rank}
            columns |= {"importance": values, "ties": ties}
            columns |= {"run_id": [run_id] * HEADS, "layer": [0] * HEADS, "head": range(HEADS)}
            insert(connection, "pruning_order", {key: list(value) for key, value in columns.items()})
        head, row = np.indices(self.effect.shape).reshape(2, -1)
        effects: dict[str, Any] = {
            "run_id": np.full(len(row), run_id),
            "example_id": row,
            "layer": np.zeros(len(row), int),
        }
        effects |= {"criterion": ["probability_difference"] * len(row), "head": head}
        insert(connection, "head_values", effects | {"value": self.effect.ravel()})


def board(worksheet: Worksheet, connection: Connection, **values: int) -> list[dict[str, Any]]:
    """Builds the curve, and what the board says of it."""
    runs = [run_id for (run_id,) in raw(connection).execute("SELECT run_id FROM runs").fetchall()]
    prepare(connection, runs)
    curve = worksheet.catalogue.job("faithfulness_curve").file.query
    replace_table(connection, "faithfulness_curve", curve, {}, runs)
    query = worksheet.catalogue.job("faithfulness").file.query
    return list(query_rows(connection, query, {"min_rows": 30} | values).to_pylist())


GIVEN = {"head_values": "run_id"}


def test_the_board_equals_an_independent_computation(worksheet: Worksheet) -> None:
    made = Made(0)
    with worksheet.filled(GIVEN) as connection:
        made.fill(connection)
        found = {(row["criterion"], row["measure"]): row for row in board(worksheet, connection)}
        curve = raw(connection).execute(
            "SELECT criterion, measure, faithfulness, kept FROM faithfulness_curve ORDER BY kept DESC"
        )
        curves: dict[tuple[str, str], list[float]] = {}
        for criterion, measure, faithfulness, _ in curve.fetchall():
            curves.setdefault((criterion, measure), []).append(faithfulness)
    assert len(found) == 2 * len(MEASURES), "the control has no importances, so this store has no row of it"
    for measure, values in made.measures().items():
        mean = values.mean(2)
        f = (mean - mean[:, -1:]) / (mean[:, :1] - mean[:, -1:])
        cpr, cmd = f @ WIDTHS, abs(1 - f) @ WIDTHS
        for place, criterion in enumerate(("attattr", "taylor")):
            row = found[criterion, measure]
            np.testing.assert_allclose(curves[criterion, measure], f[place], atol=1e-9)
            assert (curves[criterion, measure][0], curves[criterion, measure][-1]) == (1, 0)
            assert row["cpr"] == pytest.approx(cpr[place], abs=1e-9)
            assert row["cmd"] == pytest.approx(cmd[place], abs=1e-9)
            assert row["cpr_over_random"] == pytest.approx(cpr[place] - cpr[2:].mean(), abs=1e-9)
            assert row["cmd_over_random"] == pytest.approx(cmd[place] - cmd[2:].mean(), abs=1e-9)
            agreement = stats.spearmanr(made.importance[place], made.effect.mean(1)).statistic
            assert row["rank_agreement"] == pytest.approx(agreement, abs=1e-9)
        assert found["taylor", measure]["cpr_over_attattr"] == pytest.approx(cpr[1] - cpr[0], abs=1e-9)
        assert found["attattr", measure]["cpr_over_attattr"] is None
        np.testing.assert_allclose(curves["random", measure], f[2:].mean(0), atol=1e-9)


def test_an_interval_is_that_of_the_jackknife(worksheet: Worksheet) -> None:
    """The linear approximation of a ratio's error, against leaving out one row at a time."""
    made = Made(1, n=120)
    with worksheet.filled(GIVEN) as connection:
        made.fill(connection)
        rows = board(worksheet, connection)
    found = {(row["criterion"], row["measure"]): row for row in rows}
    for measure, values in made.measures().items():
        others = (values.sum(2)[:, :, None] - values) / (values.shape[2] - 1)
        f = (others - others[:, -1:]) / (others[:, :1] - others[:, -1:])
        for column, areas in (("cpr", f), ("cmd", abs(1 - f))):
            left_out = np.einsum("s,osr->or", WIDTHS, areas)[:2]
            n = left_out.shape[1]
            error = left_out.std(1) * np.sqrt(n - 1)
            for place, criterion in enumerate(("attattr", "taylor")):
                row = found[criterion, measure]
                half = (row[f"{column}_high"] - row[f"{column}_low"]) / 2
                assert half == pytest.approx(error[place] * stats.t.ppf(0.975, n - 1), rel=0.05)
            beyond = (left_out[1] - left_out[0]).std() * np.sqrt(n - 1)
            half = (
                found["taylor", measure][f"{column}_over_attattr_high"]
                - found["taylor", measure][f"{column}_over_attattr_low"]
            ) / 2
            assert half == pytest.approx(beyond * stats.t.ppf(0.975, n - 1), rel=0.05)


@pytest.mark.parametrize(
    ("change", "note"),
    [
        ("UPDATE masked_answers SET logits = NULL", "no answers with class scores"),
        (
            "INSERT INTO splits SELECT run_id, purpose, example_id, 'ranking' FROM splits",
            "ranked on the rows",
        ),
        ("DELETE FROM masked_answers WHERE example_id >= 29", "fewer evaluation rows than 30"),
        ("UPDATE pruning_order SET importance = 1, ties = 6", "all heads are equally important"),
        ("UPDATE masked_answers SET logits = [example_id, 1, 0]", "does not change the measure"),
    ],
)
def test_what_cannot_be_told_is_said(worksheet: Worksheet, change: str, note: str) -> None:
    with worksheet.filled(GIVEN) as connection:
        Made(2).fill(connection)
        raw(connection).execute(change)
        rows = board(worksheet, connection)
    assert len(rows) == 8
    for row in rows:
        assert note in row["note"]
        assert all(row[name] is None for name in row if name.startswith(("cpr", "cmd")))


def test_a_board_may_be_asked_of_fewer_rows(worksheet: Worksheet) -> None:
    with worksheet.filled(GIVEN) as connection:
        Made(2, n=12).fill(connection)
        assert all(row["note"] for row in board(worksheet, connection))
        assert not any(row["note"] for row in board(worksheet, connection, min_rows=12))


REPEATS = 1000


@pytest.mark.slow
@pytest.mark.parametrize("n", [40, 200])
def test_intervals_hold_the_truth(worksheet: Worksheet, n: int) -> None:
    """Rows differ in what all heads do for them and in how much of it each ranking keeps; binary labels.

    The margin of the gold class is made; of two labels it is the difference of the class scores.
    """
    chance = np.random.default_rng(n)
    kept = np.linspace(1, 0, 11)
    shapes = np.stack([kept**0.5, kept**0.8])  # of the mean curve of either ranking

    def rows(repeats: int, size: int) -> Numbers:
        """The margin [repeat, ranking, step, row], 0 with no head kept."""
        whole = chance.gamma(2, 1, (repeats, 1, 1, size))
        shared, own = (
            chance.normal(0, 0.3, (repeats, 1, 1, size)),
            chance.normal(0, 0.2, (repeats, 2, 1, size)),
        )
        bend = (kept * (1 - kept))[None, None, :, None]
        return whole * (shapes[None, :, :, None] + bend * (shared + own))

    margins = rows(REPEATS, n)
    mean = 2 * shapes  # of whole times shape; the rest has mean 0
    truth = {"cpr": (mean / 2) @ WIDTHS, "cmd": abs(1 - mean / 2) @ WIDTHS}
    run, ranking, step, row = (one.ravel() for one in np.indices(margins.shape))
    values = {
        "run_id": run,
        "criterion": np.array(["attattr", "taylor"])[ranking],
        "draw": np.zeros(len(run), int),
        "step": step,
        "example_id": row,
        "measure": ["margin_gold"] * len(run),
        "value": margins.ravel(),
    }
    runs = np.repeat(np.arange(REPEATS), 2)
    order = {"run_id": runs, "criterion": ["attattr", "taylor"] * REPEATS, "importance": [0.0] * len(runs)}
    order |= {"layer": [0] * len(runs), "ties": [1] * len(runs), "head": [0] * len(runs)}
    other = order | {"head": [1] * len(runs), "importance": [1.0] * len(runs)}
    with worksheet.filled(GIVEN | {"pruned_values": "run_id"}) as connection:
        insert(connection, "runs", {"run_id": np.arange(REPEATS), "n_layers": [1] * REPEATS})
        insert(connection, "pruned_values", values)
        for part in (order, other):
            insert(connection, "pruning_order", part)
        prepare(connection, range(REPEATS))
        query = worksheet.catalogue.job("faithfulness").file.query
        found = query_rows(connection, query, {"min_rows": 30}).to_pylist()
    found = [row for row in found if row["cpr"] is not None]
    assert len(found) == 2 * REPEATS
    for column, expected in truth.items():
        for place, criterion in enumerate(("attattr", "taylor")):
            mine = [row for row in found if row["criterion"] == criterion]
            inside = [row[f"{column}_low"] <= expected[place] <= row[f"{column}_high"] for row in mine]
            assert 0.93 <= np.mean(inside) <= 0.97, (column, criterion, np.mean(inside))
        beyond, mine = expected[1] - expected[0], [row for row in found if row["criterion"] == "taylor"]
        name = f"{column}_over_attattr"
        inside = [row[f"{name}_low"] <= beyond <= row[f"{name}_high"] for row in mine]
        assert 0.93 <= np.mean(inside) <= 0.97, (name, np.mean(inside))
