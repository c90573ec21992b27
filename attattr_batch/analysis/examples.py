"""One attributed example: its tokens, the model's answer, its stored edges as matrices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection, Row, text

from attattr_batch.analysis.questions import ask
from attattr_batch.errors import UserError


@dataclass(frozen=True)
class AttributedExample:
    """One attributed example.

    Attributes:
        run_id: Number of the run.
        run: Its name.
        example_id: The example.
        target: Class attributed: `gold` or `predicted`.
        n_layers: Layers of the model.
        n_heads: Heads per layer.
        tokens: Token strings, special ones included.
        segments: Per token 0 (first text), 1 (second text) or None (special token).
        gold: Name of the gold label, or None.
        predicted: Name of the predicted label.
        tree_top: Position of the attribution tree's top node, or None if no token qualifies.
    """

    run_id: int
    run: str
    example_id: int
    target: str
    n_layers: int
    n_heads: int
    tokens: tuple[str, ...]
    segments: tuple[int | None, ...]
    gold: str | None
    predicted: str
    tree_top: int | None


_EDGES = (
    "SELECT layer, head, query_pos, key_pos, attr FROM edges"
    " WHERE run_id = :run AND example_id = :example AND target = :target"
)


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
    if not 0 <= example_id < run.n_examples:
        raise UserError(
            "no such example", got=example_id, allowed=f"0 to {run.n_examples - 1} in run {run.name}"
        )
    target = "predicted" if run.targets == "predicted" else target
    key = {"run_id": run.run_id, "example_id": example_id}
    answers = ask(connection, "example_answer", **key, target=target).to_pylist()
    if not answers:
        raise _not_attributed(connection, run, example_id, target)
    answer = answers[0]
    tokens = example_tokens(connection, run.run_id, example_id)
    return AttributedExample(
        run_id=run.run_id,
        run=run.name,
        example_id=example_id,
        target=target,
        n_layers=run.n_layers,
        n_heads=run.n_heads,
        tokens=tuple(token for token, _ in tokens),
        segments=tuple(segment for _, segment in tokens),
        gold=None if answer["gold"] is None else run.labels[answer["gold"]],
        predicted=run.labels[answer["predicted"]],
        tree_top=answer["tree_top"],
    )


def _not_attributed(connection: Connection, run: Row[Any], example_id: int, target: str) -> UserError:
    if (run.targets, target) == ("gold", "predicted"):
        hint = "--target gold, or attribute the rows again with `attattr run --target both`"
        return UserError(f"run {run.name} attributes the gold class alone", got=target, hint=hint)
    got = f"example {example_id} of run {run.name}, {target} class"
    query = "SELECT gold FROM predictions WHERE run_id = :run AND example_id = :example"
    found = connection.execute(text(query), {"run": run.run_id, "example": example_id}).all()
    if target == "gold" and found and found[0].gold is None:
        return UserError("the example has no gold label", got=got, hint="--target predicted")
    return UserError(
        "the example is not attributed", got=got, hint="`attattr status` says how far the run is"
    )


def example_tokens(connection: Connection, run_id: int, example_id: int) -> list[tuple[str, int | None]]:
    """Tokens of an example, special ones included, each with its segment; see `AttributedExample`."""
    rows = ask(connection, "example_tokens", run_id=run_id, example_id=example_id).to_pylist()
    return [(row["token"], row["segment"]) for row in rows]


def edge_matrices(connection: Connection, example: AttributedExample) -> NDArray[np.float32]:
    """Attribution of the example's stored edges, the strongest of each head; every other entry is 0.

    Returns:
        float32 [layer, head, query, key].
    """
    n_tokens = len(example.tokens)
    matrices = np.zeros((example.n_layers, example.n_heads, n_tokens, n_tokens), np.float32)
    key = {"run": example.run_id, "example": example.example_id, "target": example.target}
    for layer, head, query, position, attr in connection.execute(text(_EDGES), key).all():
        matrices[layer, head, query, position] = attr
    return matrices
