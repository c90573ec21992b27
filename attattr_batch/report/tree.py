"""Draws one attribution tree: tokens from left to right, layers from the bottom up."""

from __future__ import annotations

import altair as alt

from attattr_batch.analysis.trees import Tree

_NODE_WIDTH = 74
_LAYER_HEIGHT = 46
_EDGE, _LINK, _TOP = "#3b6ea8", "#9aa3ad", "#c8501e"


def tree_chart(tree: Tree) -> alt.LayerChart | alt.FacetChart:
    """The tree as a chart.

    A token stands at the layer of the edge that joins it to its parent; the top node above all layers. The
    wider an edge, the larger its attribution.

    Args:
        tree: From `analysis.trees.attribution_tree`.
    """
    levels = _levels(tree)
    places = {position: place for place, position in enumerate(sorted(levels))}
    nodes = [
        {"position": position, "place": place, "level": levels[position], "token": tree.tokens[position]}
        for position, place in places.items()
    ]
    edges = [
        {
            "place": places[edge.query_pos],
            "level": levels[edge.query_pos],
            "place_2": places[edge.key_pos],
            "level_2": levels[edge.key_pos],
            "layer": edge.layer,
            "attr": edge.attr,
            "parent": tree.tokens[edge.query_pos],
            "child": tree.tokens[edge.key_pos],
        }
        for edge in tree.edges
    ]
    x = alt.X("place:Q", axis=None, scale=alt.Scale(domain=[-0.6, max(1, len(nodes)) - 0.4]))
    y = alt.Y(
        "level:Q",
        title="layer (0-based)",
        scale=alt.Scale(domain=[-0.6, tree.n_layers + 0.6]),
        axis=alt.Axis(values=list(range(tree.n_layers)), format="d", grid=True, gridOpacity=0.4),
    )
    lines = alt.Chart(alt.InlineData(values=edges)).encode(x=x, x2="place_2:Q", y=y, y2="level_2:Q")
    tokens = alt.Chart(alt.InlineData(values=nodes)).encode(x=x, y=y)
    return alt.layer(*_line_marks(lines), *_token_marks(tokens, tree)).properties(
        title=alt.TitleParams(
            f"Attribution tree: run {tree.run}, example {tree.example_id} ({tree.variant}, tau {tree.tau:g})",
            subtitle=_subtitle(tree),
        ),
        width=max(260, _NODE_WIDTH * len(nodes)),
        height=_LAYER_HEIGHT * (tree.n_layers + 1),
    )


def _levels(tree: Tree) -> dict[int, float]:
    """Height of every node by position: its edge's layer; above all layers for the top."""
    levels = {tree.top: float(tree.n_layers)}
    levels |= {edge.key_pos: float(edge.layer) for edge in tree.edges if edge.layer is not None}
    if any(edge.layer is None for edge in tree.edges):
        levels.setdefault(0, float(tree.n_layers))
    return levels


def _line_marks(lines: alt.Chart) -> tuple[alt.Chart, alt.Chart]:
    """Broken lines where no edge joins a token to its parent; edges as wide as their attribution."""
    legend = alt.Legend(symbolType="stroke", symbolSize=400, symbolStrokeColor=_EDGE, tickCount=3)
    width = alt.Scale(range=[1, 5], domainMin=0)
    edges = lines.mark_rule(strokeCap="round", color=_EDGE, opacity=0.75).encode(
        strokeWidth=alt.StrokeWidth("attr:Q", title="attribution", scale=width, legend=legend),
        tooltip=["parent:N", "child:N", "layer:N", "attr:Q"],
    )
    return (
        lines.mark_rule(strokeDash=[3, 3], color=_LINK).transform_filter("datum.layer === null"),
        edges.transform_filter("datum.layer !== null"),
    )


def _token_marks(tokens: alt.Chart, tree: Tree) -> tuple[alt.Chart, ...]:
    """A dot for every token, its text below it, or above it at the top."""
    is_top = f"datum.position === {tree.top}"
    dots = tokens.mark_circle(size=70, opacity=1).encode(
        color=alt.condition(is_top, alt.value(_TOP), alt.value(_EDGE)), tooltip=["token:N", "position:N"]
    )
    texts = tokens.encode(text="token:N")
    return (
        dots,
        texts.mark_text(dy=15, fontSize=12).transform_filter(f"datum.level < {tree.n_layers}"),
        texts.mark_text(dy=-13, fontSize=12).transform_filter(f"datum.level >= {tree.n_layers}"),
    )


def _subtitle(tree: Tree) -> str:
    gold = f"gold {tree.gold}, " if tree.gold is not None else ""
    capped = "; may lack edges (edge_cap)" if tree.capped else ""
    return f"{gold}predicted {tree.predicted}; attribution of the {tree.target} class{capped}"
