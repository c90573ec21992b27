"""One example: tokens, stored edges, attribution tree, completeness."""

from __future__ import annotations

from typing import Any, get_args

import pyarrow as pa
import streamlit as st
from reading import asked, choose_run, messages, rows, show_chart

from attattr_batch.analysis.questions import question
from attattr_batch.analysis.trees import attribution_tree
from attattr_batch.choices import Variant
from attattr_batch.report.heads import edge_map
from attattr_batch.report.tree import tree_chart

_LISTED = 200  # as in the question
_ALL = "all heads"


def search(run: dict[str, Any]) -> pa.Table:
    """Examples that the filters let through."""
    first, second, third, fourth = st.columns([3, 2, 2, 2])
    text = first.text_input("text contains", key="text", bind="query-params")
    labels = {"any": None, **{name: label for label, name in enumerate(run["labels"])}}
    gold = second.selectbox("gold class", [*labels], key="gold", bind="query-params")
    predicted = third.selectbox("predicted class", [*labels], key="predicted", bind="query-params")
    answers = {"any": None, "correct": True, "wrong": False}
    answer = fourth.selectbox("answer", [*answers], key="answer", bind="query-params")
    return rows(
        "questions/examples",
        run_id=run["run_id"],
        text=text,
        gold=labels[gold],
        predicted=labels[predicted],
        correct=answers[answer],
    )


def show_edges(run: dict[str, Any], of_example: dict[str, Any], tokens: list[str]) -> None:
    """Stored edges of a layer, of one head or summed over heads."""
    first, second = st.columns(2)
    layer = first.selectbox("layer", range(run["n_layers"]), key="layer", bind="query-params")
    heads = {_ALL: None, **{str(head): head for head in range(run["n_heads"])}}
    head = second.selectbox("head", [*heads], key="head", bind="query-params")
    found = rows("questions/edges", **of_example, layer=layer, head=heads[head])
    if not found.num_rows:
        st.info("No edge of this layer is positive.")
        return
    st.caption("The strongest edges, which are those stored; blank cells hold less.")
    title = f"layer {layer}, {head if head == _ALL else f'head {head}'}"
    show_chart(edge_map(found, tokens, title), key="edges")


with messages():
    run = choose_run(st.session_state["chosen"], "run")
    found = search(run)
    if not found.num_rows:
        st.info("No committed example passes these filters.")
        st.stop()
    cut = f"; the first {_LISTED} are listed" if found.num_rows == _LISTED else ""
    st.caption(f"{found.num_rows} examples{cut}")
    st.dataframe(found, hide_index=True, height=220, key="found")
    first, second = st.columns(2)
    example = first.selectbox("example", found["example"].to_pylist(), key="example", bind="query-params")
    attributed = second.selectbox("attributed class", run["classes"], key="target", bind="query-params")
    of_example = {"run_id": run["run_id"], "example": example, "class": attributed}
    tokens = rows("example_tokens", run_id=run["run_id"], example_id=example)["token"].to_pylist()
    st.code(" ".join(tokens), language=None, wrap_lines=True)
    edges, tree, exactness = st.tabs(
        ["Edges", "Attribution tree", "Completeness"], key="view", on_change="rerun"
    )
    with edges, messages():
        show_edges(run, of_example, tokens)
    with tree, messages():
        variant = st.selectbox("variant", get_args(Variant), key="variant", bind="query-params")
        grown = asked(attribution_tree, run["name"], example, variant=variant, target=attributed)
        show_chart(tree_chart(grown), key="tree")
    with exactness:
        st.caption(question("questions/layer_scores").description)
        st.dataframe(rows("questions/layer_scores", **of_example), hide_index=True, key="scores")
