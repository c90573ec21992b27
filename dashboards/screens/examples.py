"""One example: tokens, stored edges, attribution tree, completeness."""

from __future__ import annotations

from typing import Any

import streamlit as st
from reading import choose_run, example_tokens, messages, records, rows, show_chart, store_path

from attattr_batch.analysis.trees import attribution_tree
from attattr_batch.choices import RowTarget, Variant
from attattr_batch.report.heads import edge_map
from attattr_batch.report.tree import tree_chart
from attattr_batch.store.database.connection import Store

VARIANTS: tuple[Variant, ...] = ("released", "greedy")
_LISTED = 200
_ALL = "all heads"


def search(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Examples that the filters let through."""
    first, second, third, fourth = st.columns([3, 2, 2, 2])
    text = first.text_input("text contains", key="text", bind="query-params")
    gold = second.selectbox("gold class", ["any", *run["labels"]], key="gold", bind="query-params")
    predicted = third.selectbox(
        "predicted class", ["any", *run["labels"]], key="predicted", bind="query-params"
    )
    answer = fourth.selectbox("answer", ["any", "correct", "wrong"], key="answer", bind="query-params")
    labels = [None if name == "any" else run["labels"].index(name) for name in (gold, predicted)]
    correct = {"any": None, "correct": True, "wrong": False}[answer]
    return records(
        "SELECT p.example_id AS example, x.text_a, x.text_b, r.labels[p.gold + 1] AS gold,"
        " r.labels[p.predicted + 1] AS predicted, p.prob_predicted AS probability, p.n_tokens AS tokens"
        " FROM predictions AS p JOIN examples AS x USING (run_id, example_id) JOIN runs AS r USING (run_id)"
        " WHERE p.run_id = ? AND contains(lower(concat_ws(' ', x.text_a, x.text_b)), lower(?))"
        # A null filter passes every row; any other, none without a gold label.
        " AND p.gold IS NOT DISTINCT FROM coalesce(?, p.gold)"
        " AND p.predicted = coalesce(?, p.predicted)"
        " AND (p.gold = p.predicted) IS NOT DISTINCT FROM coalesce(?, p.gold = p.predicted)"
        f" ORDER BY p.example_id LIMIT {_LISTED}",
        run["run_id"],
        text,
        *labels,
        correct,
    )


def show_edges(run: dict[str, Any], example: int, target: str, tokens: list[str]) -> None:
    """Stored edges of a layer, of one head or summed over heads."""
    first, second = st.columns(2)
    layer = first.selectbox("layer", range(run["n_layers"]), key="layer", bind="query-params")
    head = second.selectbox("head", [_ALL, *map(str, range(run["n_heads"]))], key="head", bind="query-params")
    key = (run["run_id"], example, target, layer)
    columns, where = (
        "SELECT query_pos, key_pos, attr FROM",
        "run_id = ? AND example_id = ? AND target = ? AND layer = ?",
    )
    if head == _ALL:
        found = rows(f"{columns} layer_edges WHERE {where}", *key)
    else:
        found = rows(f"{columns} edges WHERE {where} AND head = ?", *key, int(head))
    if not found.num_rows:
        st.info("No edge of this layer is positive.")
        return
    st.caption("The strongest edges, which are those stored; blank cells hold less.")
    show_chart(
        edge_map(found, tokens, f"layer {layer}, {head if head == _ALL else f'head {head}'}"), key="edges"
    )


def show_tree(run: dict[str, Any], example: int, target: RowTarget) -> None:
    """The attribution tree."""
    variant = st.selectbox("variant", VARIANTS, key="variant", bind="query-params")
    tree = attribution_tree(
        Store(store_path(), timeout_s=10), run["name"], example, variant=variant, tau=0.4, target=target
    )
    show_chart(tree_chart(tree), key="tree")


with messages():
    run = choose_run(st.session_state["chosen"], "run")
    found = search(run)
    if not found:
        st.info("No committed example passes these filters.")
        st.stop()
    cut = f"; the first {_LISTED} are listed" if len(found) == _LISTED else ""
    st.caption(f"{len(found)} examples{cut}")
    st.dataframe(found, hide_index=True, height=220, key="found")
    first, second = st.columns(2)
    example = first.selectbox(
        "example", [row["example"] for row in found], key="example", bind="query-params"
    )
    targets: list[RowTarget] = ["gold", "predicted"] if run["target"] == "both" else [run["target"]]
    target = second.selectbox("attributed class", targets, key="target", bind="query-params")
    tokens = example_tokens(run["run_id"], example)
    st.code(" ".join(tokens), language=None, wrap_lines=True)
    edges, tree, exactness = st.tabs(
        ["Edges", "Attribution tree", "Completeness"], key="view", on_change="rerun"
    )
    with edges, messages():
        show_edges(run, example, target, tokens)
    with tree, messages():
        show_tree(run, example, target)
    with exactness:
        st.caption("The attributions of a layer sum to F(A) - F(0), up to completeness_error.")
        scores = rows(
            "SELECT layer, f_full, f_zero, completeness_error, nodes, kept_mass FROM layer_scores"
            " WHERE run_id = ? AND example_id = ? AND target = ? ORDER BY layer",
            run["run_id"],
            example,
            target,
        )
        st.dataframe(scores, hide_index=True, key="scores")
