"""One attribution tree, as `jobs/sql/tree_edges.sql` grows it, with the example's tokens."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import get_args

from sqlalchemy import Connection

from attattr_batch.analysis.catalogue import load_catalogue
from attattr_batch.analysis.examples import AttributedExample, find_example
from attattr_batch.analysis.questions import ask
from attattr_batch.choices import RowTarget, Units, Variant
from attattr_batch.errors import UserError, unknown_name
from attattr_batch.markup import escape, html_table
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.jobs import explained, prepare, query_rows
from attattr_batch.store.writing.runs import resolve_run


@dataclass(frozen=True)
class TreeEdge:
    """One edge of a tree: information flows from the child to the parent.

    Attributes:
        layer: 0-based layer; None for the closing links of a `greedy` tree, from the first token.
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
        variant: `released` or `greedy`; see `attattr jobs show tree_edges`.
        tau: Threshold, as a share of each layer's largest entry.
        n_layers: Layers of the model.
        top: Position of the top node.
        tokens: Every token of the example. Of words, a word stands at the position of its first piece, and
            nothing at those of its others.
        gold: Name of the gold label, or None.
        predicted: Name of the predicted label.
        edges: The edges, from the top downwards.
        capped: Whether edges may be missing: a layer has more above the threshold than the run's `edge_cap`
            let it store.
        units: Whether its nodes are tokens (`pieces`) or `words`.
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
    capped: bool = False
    units: Units = "pieces"

    def to_json(self) -> str:
        """The tree as a JSON document, with the fields of this class."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=1)

    def _repr_html_(self) -> str:
        about = (
            f"attribution tree of run {self.run}, example {self.example_id} ({self.variant}, tau"
            f" {self.tau:g}), top node {self.tokens[self.top]!r}; gold {self.gold}, predicted"
            f" {self.predicted}; of the {self.target} class"
            f"{'; may lack edges (edge_cap)' if self.capped else ''}"
        )
        rows = [
            (edge.layer, self.tokens[edge.query_pos], self.tokens[edge.key_pos], edge.attr)
            for edge in self.edges
        ]
        table = html_table(("layer", "parent", "child", "attribution"), rows)
        return f"<div><p>{escape(about)}</p>{table}</div>"


def attribution_tree(
    store: Store,
    run: str | int,
    example_id: int,
    *,
    variant: Variant = "released",
    tau: float = 0.4,
    target: RowTarget = "gold",
    units: Units = "pieces",
) -> Tree:
    """Grows the tree of one example from the stored edges.

    Args:
        store: The store.
        run: Name or id of the run.
        example_id: 0-based row of the split.
        variant: As in the authors' code (`released`), or by the same sweep from the last layer on (`greedy`).
        tau: Threshold; not below the run's `edge_floor`, under which no edges are stored.
        target: Class whose attribution is drawn; of a run that attributes `predicted` alone, that.
        units: Nodes: tokens (`pieces`), or `words`, whose edges are the sums over their pieces.

    Raises:
        UserError: no such run, example, variant, target or units, the example is not attributed, tau is out
            of range, or words are asked of a run of an earlier release, which does not know them.
    """
    closed = (("variant", variant, Variant), ("target", target, RowTarget), ("units", units, Units))
    for kind, given, known in closed:
        if given not in get_args(known):
            raise unknown_name(kind, given, get_args(known))
    with store.read() as connection:
        found = resolve_run(connection, run)
        floor = float(json.loads(found.config).get("edge_floor", 0.0))
        if not floor <= tau <= 1:
            raise UserError("tau is out of range", got=tau, allowed=f"{floor} (the run's edge_floor) to 1")
        example = find_example(connection, found, example_id, target)
        if units == "words":
            example = _in_words(connection, example)
        if example.tree_top is None:
            raise UserError(
                "the example has no tree: no token has positive attribution", got=f"example {example_id}"
            )
        edges, capped = _edges(connection, example, variant, tau, units)
    return Tree(
        run=found.name,
        example_id=example_id,
        target=example.target,
        variant=variant,
        tau=tau,
        n_layers=found.n_layers,
        top=example.tree_top,
        tokens=example.tokens,
        gold=example.gold,
        predicted=example.predicted,
        edges=edges,
        capped=capped,
        units=units,
    )


def _in_words(connection: Connection, example: AttributedExample) -> AttributedExample:
    """The example with words in place of tokens, at the positions of their first pieces."""
    words = ask(connection, "example_words", run_id=example.run.run_id, example_id=example.example_id)
    if not all(words["known"].to_pylist()):
        raise UserError(
            "this run of an earlier release does not know its words",
            got=f"run {example.run.name}",
            hint="`--units pieces`, or attribute the rows again: `attattr run` under another name",
        )
    tokens, top = tuple(words["word"].to_pylist()), example.tree_top
    while top and not tokens[top]:
        top -= 1
    return replace(example, tokens=tokens, tree_top=top)


def _edges(
    connection: Connection, example: AttributedExample, variant: Variant, tau: float, units: Units
) -> tuple[tuple[TreeEdge, ...], bool]:
    """Edges as the job grows them, from the top downwards; and whether some may be missing."""
    job = load_catalogue().job("tree_edges")
    keys = {"example_id": example.example_id, "target": example.target, "tau": tau, "units": units}
    prepare(connection, [example.run.run_id])
    with explained(job.name):
        rows = query_rows(connection, job.file.query, job.defaults | keys).to_pylist()
    rows = [row for row in rows if row["variant"] == variant]
    if not rows:
        return (), ask(connection, "tree_lacks_edges", run_id=example.run.run_id, **keys).num_rows > 0
    edges = [TreeEdge(row["layer"], row["query_pos"], row["key_pos"], row["attr"]) for row in rows]
    return tuple(edges), any(row["capped"] for row in rows)
