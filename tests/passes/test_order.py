"""What a job's query may order: anything else is refused in words before a worker starts."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from attattr_batch.data.insertion import INSERTION_VERSION
from attattr_batch.errors import UserError
from attattr_batch.passes.requests import attack_request, mask_request

MASK = {"mask": "m", "example_ids": [4, 7], "heads": [0, 5]}
ATTACK = {"attack": "a", "example_ids": [4], "tokens": [8, 9], "segments": [0, 1], "ratios": [0.5, 1.0]}


def table(row: dict[str, Any], **changes: Any) -> pa.Table:
    return pa.Table.from_pylist([{**row, **changes}])


def test_an_order_says_what_every_example_gets() -> None:
    rows = pa.Table.from_pylist([MASK, {"mask": "n", "example_ids": [7], "heads": []}])
    order = mask_request(rows, 2, 3)
    assert [(one.name, one.heads) for one in order.items] == [("m", 0b100001), ("n", 0)]
    assert order.of == {4: (0,), 7: (0, 1)}
    assert order.key == mask_request(rows.take([1, 0]), 2, 3).key, "in any order of rows"
    assert order.key != mask_request(rows.slice(0, 1), 2, 3).key


def test_answers_to_attacks_serve_for_the_rule_they_were_inserted_by(monkeypatch: pytest.MonkeyPatch) -> None:
    attack, mask = attack_request(table(ATTACK)).key, mask_request(table(MASK), 2, 3).key
    monkeypatch.setattr("attattr_batch.passes.requests.INSERTION_VERSION", INSERTION_VERSION - 1)
    assert attack_request(table(ATTACK)).key != attack
    assert mask_request(table(MASK), 2, 3).key == mask, "no token is inserted there"


def test_keys_of_orders_are_those_of_the_release() -> None:
    """A key that moves has every stored answer computed again; one that stays serves wrong ones."""
    assert mask_request(table(MASK), 2, 3).key.startswith("3e38a15d0211")
    assert attack_request(table(ATTACK)).key.startswith("9eaec874da9d")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": [6]}, r"a head that the model lacks\n.*6\n.*layer \* 3 \+ head, below 6"),
        ({"heads": [-1]}, "a head that the model lacks"),
        ({"heads": ["first"]}, r"wrong type\n.*heads: list<item: string>"),
        ({"heads": [1, None]}, r"holds nulls\n.*heads"),
        ({"mask": None}, r"holds nulls\n.*mask"),
        ({"example_ids": [4, 4]}, "twice|more than once"),
    ],
)
def test_masks_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        mask_request(table(MASK, **changes), 2, 3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ratios": [0.5]}, r"lists must be of one length\n.*attack a"),
        ({"ratios": [0.5, 0.0]}, "in no place of a text"),
        ({"ratios": [0.5, 1.5]}, "in no place of a text"),
        ({"segments": [0, 2]}, "in no place of a text"),
    ],
)
def test_attacks_that_are_none(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        attack_request(table(ATTACK, **changes))


def test_a_query_that_lacks_columns() -> None:
    with pytest.raises(UserError, match=r"lacks columns\n.*ratios, segments"):
        attack_request(table(ATTACK).drop_columns(["segments", "ratios"]))
