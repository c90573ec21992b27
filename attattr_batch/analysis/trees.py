"""One attribution tree, as `jobs/sql/tree_edges.sql` grows it, with the example's tokens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import Connection, Row, text

from attattr_batch.analysis.jobs import load_catalogue
from attattr_batch.errors import UserError
from attattr_batch.store import jobs as built
from attattr_batch.store.connection import Store
from attattr_batch.store.runs import resolve_run

Variant = Literal["released", "paper"]


@dataclass(frozen=True)
class TreeEdge:
    """One edge of a tree: information flows from the child to the parent.

    Attributes:
        layer: 0-based layer; None for the paper's closing links from the first token.
        query_pos: Position of the parent, the attending token.
        key_pos: Position of the child, the attended token.
        attr: Attribution, summed over heads; None for closing links.
    """

    layer: int | None
    query_pos: int
    key_pos: int
    attr: float | None


@dataclass(frozen=True)
class Tree:
    """The attribution tree of one example (paper, section 5).

    Attributes:
        run: Name of the run.
        example_id: The example.
        target: Class attributed: `gold` or `predicted`.
        variant: `released` or `paper`; see `attattr jobs show tree_edges`.
        tau: Threshold, as a share of each layer's largest entry.
        n_layers: Layers of the model.
        top: Position of the top node.
        tokens: Every token of the example.
        gold: Name of the gold label, or None.
        predicted: Name of the predicted label.
        edges: The edges, from the top downwards.
    """

    run: str
    example_id: int
    target: str
    variant: Variant
    tau: float
    n_layers: int
    top: int
    tokens: tuple[str, ...]
    gold: str | None
    predicted: str
    edges: tuple[TreeEdge, ...]

    def to_json(self) -> str:
        """The tree as a JSON document, with the fields of this class."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)


def attribution_tree(
    store: Store,
    run: str | int,
    example_id: int,
    *,
    variant: Variant = "released",
    tau: float = 0.4,
    target: Literal["gold", "predicted"] = "gold",
) -> Tree:
    """Grows the tree of one example from the stored edges.

    Args:
        store: The store.
        run: Name or id of the run.
        example_id: 0-based row of the split.
        variant: The authors' code (`released`), or the algorithm as the paper prints it.
        tau: Threshold; not below the run's `edge_floor`, under which no edges are stored.
        target: Class whose attribution is drawn; a run without labels has `predicted` alone.

    Raises:
        UserError: no such run or example, the example is not attributed, or tau is out of range.
    """
    with store.read() as connection:
        found = resolve_run(connection, run)
        floor = float(json.loads(found.config).get("edge_floor", 0.0))
        if not floor <= tau <= 1:
            raise UserError("tau is out of range", got=tau, allowed=f"{floor} (the run's edge_floor) to 1")
        target = "predicted" if found.target == "predicted" else target
        answer = _answer(connection, found, example_id, target)
        built.prepare(connection, [found.run_id])
        query = load_catalogue().job("tree_edges").file.query
        values = {"tau": tau, "target": target, "example_id": example_id}
        with built.explained("tree_edges"):
            rows = built.query_rows(connection, query, values).to_pylist()
        tokens = connection.execute(text(_TOKENS), {"run": found.run_id, "example": example_id}).scalars()
        edges = [
            TreeEdge(row["layer"], row["query_pos"], row["key_pos"], row["attr"])
            for row in rows
            if row["variant"] == variant
        ]
        return Tree(
            run=found.name,
            example_id=example_id,
            target=target,
            variant=variant,
            tau=tau,
            n_layers=found.n_layers,
            top=answer.tree_top,
            tokens=tuple(tokens),
            gold=None if answer.gold is None else found.labels[answer.gold],
            predicted=found.labels[answer.predicted],
            edges=tuple(edges),
        )


_TOKENS = (
    "SELECT coalesce(v.token, t.token_id::VARCHAR) FROM tokens AS t JOIN runs AS r USING (run_id)"
    " LEFT JOIN vocabulary AS v ON v.tokenizer_key = r.tokenizer_key AND v.token_id = t.token_id"
    " WHERE t.run_id = :run AND t.example_id = :example ORDER BY t.position"
)


def _answer(connection: Connection, run: Row[Any], example_id: int, target: str) -> Row[Any]:
    if not 0 <= example_id < run.n_examples:
        raise UserError(
            "no such example", got=example_id, allowed=f"0 to {run.n_examples - 1} in run {run.name}"
        )
    query = (
        "SELECT p.gold, p.predicted, t.tree_top FROM predictions AS p"
        " JOIN target_scores AS t USING (run_id, example_id)"
        " WHERE p.run_id = :run AND p.example_id = :example AND t.target = :target"
    )
    values = {"run": run.run_id, "example": example_id, "target": target}
    answer = connection.execute(text(query), values).one_or_none()
    if answer is None:
        got = f"example {example_id} of run {run.name}, {target} class"
        raise UserError(
            "the example is not attributed", got=got, hint="`attattr status` says how far the run is"
        )
    if answer.tree_top is None:
        raise UserError(
            "the example has no tree: no token has positive attribution", got=f"example {example_id}"
        )
    return answer
