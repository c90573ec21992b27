"""One attributed example: its tokens, the model's answer, its stored edges as matrices."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, func, select

from attattr_batch.analysis.questions import ask
from attattr_batch.errors import UserError
from attattr_batch.store.database.tables import examples


@dataclass(frozen=True)
class AttributedExample:
    """One attributed example.

    Attributes:
        run: Its run, as a row of `runs`.
        example_id: The example.
        target: Class attributed: `gold` or `predicted`.
        tokens: Token strings, special ones included.
        segments: Per token 0 (first text), 1 (second text) or None (special token).
        gold: Name of the gold label, or None.
        predicted: Name of the predicted label.
        tree_top: Position of the attribution tree's top node, or None if no token qualifies.
    """

    run: Row[Any]
    example_id: int
    target: str
    tokens: tuple[str, ...]
    segments: tuple[int | None, ...]
    gold: str | None
    predicted: str
    tree_top: int | None


def find_example(connection: Connection, run: Row[Any], example_id: int, target: str) -> AttributedExample:
    """Looks an example up.

    Args:
        connection: From `Store.read()`.
        run: Its run, as a row of `runs`.
        example_id: The example.
        target: `gold` or `predicted`; a run that attributes `predicted` alone is asked for that.

    Raises:
        UserError: no such example, or that class of it is not attributed.
    """
    _check_exists(connection, run, example_id)
    target = "predicted" if run.targets == "predicted" else target
    key = {"run_id": run.run_id, "example_id": example_id}
    answers = ask(connection, "example_answer", **key, target=target).to_pylist()
    if not any(answer["attributed"] for answer in answers):
        labelled = all(answer["gold"] is not None for answer in answers)
        raise _not_attributed(run, example_id, target, labelled=labelled)
    (answer,) = answers
    tokens = ask(connection, "example_tokens", **key)
    return AttributedExample(
        run=run,
        example_id=example_id,
        target=target,
        tokens=tuple(tokens["token"].to_pylist()),
        segments=tuple(tokens["segment"].to_pylist()),
        gold=None if answer["gold"] is None else run.labels[answer["gold"]],
        predicted=run.labels[answer["predicted"]],
        tree_top=answer["tree_top"],
    )


def _check_exists(connection: Connection, run: Row[Any], example_id: int) -> None:
    ids = examples.c.example_id
    query = select(func.min(ids), func.max(ids), func.count().filter(ids == example_id))
    first, last, found = connection.execute(query.where(examples.c.run_id == run.run_id)).one()
    if not found:
        part = json.loads(run.identity).get("part")
        of_part = f", which is part {part['part']}" if part else ""
        raise UserError(
            "no such example", got=example_id, allowed=f"{first} to {last} in run {run.name}{of_part}"
        )


def _not_attributed(run: Row[Any], example_id: int, target: str, *, labelled: bool) -> UserError:
    if (run.targets, target) == ("gold", "predicted"):
        hint = "--target gold, or attribute the rows again with `attattr run --target both`"
        return UserError(f"run {run.name} attributes the gold class alone", got=target, hint=hint)
    got = f"example {example_id} of run {run.name}, {target} class"
    if target == "gold" and not labelled:
        return UserError("the example has no gold label", got=got, hint="--target predicted")
    return UserError(
        "the example is not attributed", got=got, hint="`attattr status` says how far the run is"
    )


def edge_matrices(connection: Connection, example: AttributedExample) -> NDArray[np.float32]:
    """Attribution of the example's stored edges, the strongest of each head; every other entry is 0.

    Returns:
        float32 [layer, head, query, key].
    """
    run, n_tokens = example.run, len(example.tokens)
    matrices = np.zeros((run.n_layers, run.n_heads, n_tokens, n_tokens), np.float32)
    key = {"run_id": run.run_id, "example_id": example.example_id, "target": example.target}
    *places, attr = (column.to_numpy() for column in ask(connection, "example_edges", **key).columns)
    matrices[tuple(places)] = attr
    return matrices
