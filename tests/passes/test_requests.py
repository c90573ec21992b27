"""What a job's query may request: anything else is refused in words before a worker starts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from attattr_batch.data.insertion import INSERTION_VERSION, Trigger
from attattr_batch.engine.variants import PATHS_VERSION
from attattr_batch.errors import UserError
from attattr_batch.passes.requests import attack_request, mask_request, path_request

MASK = {"criterion": "m", "draw": 3, "example_ids": [4, 7], "heads": [0, 5]}
PLACES = {"tokens": [8, 9], "segments": [0, 1], "ratios": [0.5, 1.0]}
ATTACK = {"pattern": 17, "control": True, "draw": 2, "example_ids": [4], **PLACES}


def table(row: dict[str, Any], **changes: Any) -> pa.Table:
    return pa.Table.from_pylist([{**row, **changes}])


def test_a_request_says_what_every_example_gets() -> None:
    rows = pa.Table.from_pylist([MASK, {**MASK, "draw": 4, "example_ids": [7], "heads": []}])
    request = mask_request(rows, 2, 3)
    assert request.items == ((0, 5), ())
    assert request.names.select(["criterion", "draw", "layer"]).to_pylist() == [
        {"criterion": "m", "draw": 3, "layer": None},
        {"criterion": "m", "draw": 4, "layer": None},
    ]
    assert request.items_of == {4: (0,), 7: (0, 1)}
    assert request.key == mask_request(rows.take([1, 0]), 2, 3).key, "in any order of rows"
    assert request.key != mask_request(rows.slice(0, 1), 2, 3).key
    assert request.key != mask_request(rows.append_column("layer", [[1, 1]]), 2, 3).key


def test_an_attack_is_a_trigger_with_a_name() -> None:
    request = attack_request(table(ATTACK))
    assert request.items == (Trigger((8, 9), (0, 1), (0.5, 1.0)),)
    assert request.names.to_pylist() == [{"pattern": 17, "control": True, "draw": 2}]


def test_answers_to_attacks_serve_for_the_rule_they_were_inserted_by(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, mask = attack_request(table(ATTACK)).key, mask_request(table(MASK), 2, 3).key
    monkeypatch.setattr("attattr_batch.passes.requests.INSERTION_VERSION", INSERTION_VERSION - 1)
    assert attack_request(table(ATTACK)).key != attack
    assert mask_request(table(MASK), 2, 3).key == mask, "no token is inserted there"


def test_keys_of_requests_are_those_of_the_release() -> None:
    """A key that moves has every stored answer computed again; one that stays serves wrong ones."""
    assert mask_request(table(MASK), 2, 3).key.startswith("b7a5f3ab9cde")
    assert attack_request(table(ATTACK)).key.startswith("20b4895e6cb9")


PATH = {"criterion": "attattr_mean", "example_ids": [4, 7], "mean_over": [1, 2]}


def test_a_path_is_a_criterion_and_may_need_means() -> None:
    rows = pa.Table.from_pylist([PATH, {"criterion": "attattr_head", "example_ids": [7]}])
    request = path_request(rows)
    assert request.items == ("attattr_head", "attattr_mean")
    assert request.items_of == {7: (0, 1), 4: (1,)}
    assert request.mean_over == (1, 2)
    assert request.key == path_request(rows.take([1, 0])).key
    assert request.key != path_request(table(PATH)).key
    assert path_request(table(PATH, mean_over=[1, 3])).key != path_request(table(PATH)).key


def test_paths_serve_for_the_rule_they_were_laid_by(monkeypatch: pytest.MonkeyPatch) -> None:
    means = {"mean_over": [1]}
    keys = [path_request(table(PATH)).key, mask_request(table(MASK, **means), 2, 3).key]
    monkeypatch.setattr("attattr_batch.passes.requests.PATHS_VERSION", PATHS_VERSION + 1)
    assert path_request(table(PATH)).key != keys[0]
    assert mask_request(table(MASK, **means), 2, 3).key != keys[1]


def test_one_row_of_a_request_names_the_means_for_all() -> None:
    rows = pa.Table.from_pylist([{**MASK, "mean_over": None}, {**MASK, "draw": 4, "mean_over": [5, 6]}])
    request = mask_request(rows, 2, 3)
    assert request.mean_over == (5, 6)
    assert request.key != mask_request(rows.drop_columns("mean_over"), 2, 3).key
    nothing = rows.set_column(rows.column_names.index("mean_over"), "mean_over", pa.nulls(2))
    assert mask_request(nothing, 2, 3).key == mask_request(rows.drop_columns("mean_over"), 2, 3).key


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"criterion": "attattr_maen"}, r"criterion of other paths\D*attattr_maen"),
        ({"mean_over": None}, "needs examples to take means over"),
        ({"mean_over": list(range(257))}, r"too many examples\n.*257\n.*at most 256"),
        ({"mean_over": ["first"]}, r"wrong type\n.*mean_over"),
        ({"example_ids": [4, 4]}, "twice for one example"),
    ],
)
def test_paths_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        path_request(table(PATH, **changes))


def test_means_over_different_examples_are_refused() -> None:
    rows = pa.Table.from_pylist([PATH, {**PATH, "criterion": "attattr_idg", "mean_over": [3]}])
    with pytest.raises(UserError, match="over different examples"):
        path_request(rows)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": [6]}, r"a head that the model lacks\n.*6\n.*layer \* 3 \+ head, below 6"),
        ({"heads": [-1]}, "a head that the model lacks"),
        ({"heads": ["first"]}, r"wrong type\n.*heads: list<item: string>"),
        ({"heads": [1, None]}, r"holds nulls\n.*heads"),
        ({"heads": None}, r"(wrong type|holds nulls)\n.*heads"),
        ({"draw": "first"}, r"wrong type\n.*draw: string"),
        ({"draw": -1}, r"negative\D*draw"),
        ({"layer": 1 << 20}, r"wrong type\n.*layer"),
        ({"example_ids": [4, 4]}, r"twice for one example\n.*criterion m, draw 3, example 4"),
    ],
)
def test_masks_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mask_request(table(MASK, **changes), 2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratios": [0.5]}, r"one length\n.*pattern 17"),
        ({"ratios": [0.5, 0.0]}, "in no place of a text"),
        ({"ratios": [0.5, 1.5]}, "in no place of a text"),
        ({"segments": [0, 2]}, "in no place of a text"),
        ({"pattern": None}, r"holds nulls\n.*pattern"),
        ({"control": None}, r"holds nulls\n.*control"),
    ],
)
def test_attacks_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attack_request(table(ATTACK, **changes))


@pytest.mark.parametrize("column", ["example_ids", "pattern", "control", "segments"])
def test_a_query_that_lacks_a_column(column: str) -> None:
    with pytest.raises(UserError, match=f"lacks the column {column}"):
        attack_request(table(ATTACK).drop_columns([column]))


def test_what_a_mask_is_may_be_left_unsaid() -> None:
    rows = pa.Table.from_pylist([{"example_ids": [1], "heads": [2]}])
    assert set(mask_request(rows, 2, 3).names.to_pylist()[0].values()) == {None}
