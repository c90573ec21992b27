"""Trees, differences and the Python API on a small store whose numbers are known."""

from __future__ import annotations

import json
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fabricate import commit, execute, filled_store, new_store, register, rows
from scipy.stats import binomtest

import attattr_batch
from attattr_batch.analysis.diff import _build_importance, diff_runs, why_no_heads
from attattr_batch.analysis.examples import find_example
from attattr_batch.analysis.trees import TreeEdge, attribution_tree
from attattr_batch.errors import UserError
from attattr_batch.files import data_folder
from attattr_batch.report.saving import save_chart
from attattr_batch.report.tree import tree_chart
from attattr_batch.store.database.connection import Store
from attattr_batch.store.writing.jobs import prepare
from attattr_batch.store.writing.passes import seal_pass
from attattr_batch.store.writing.runs import resolve_run


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    """Runs `first` (8 examples) and `second` (4 of them) of one architecture, and `odd` of another."""
    one = filled_store(tmp_path_factory.mktemp("results"))
    for name, changes in (
        ("second", {"identity": {"dataset": "b", "task": "sst2"}}),
        ("odd", {"family": "albert"}),
    ):
        _, pass_id = register(one, 4, name, **changes)
        commit(one, pass_id, range(4))
        seal_pass(one, pass_id)
    execute(
        one,
        'UPDATE runs SET identity = \'{"dataset": "a", "task": "sst2"}\' WHERE name <> \'second\'',
        # Layer 0: 3 <- 2 is strong, 3 <- 1 too weak at tau 0.4; (2, 4) and (4, 1) come before their parents.
        "DELETE FROM layer_edges_dedup WHERE run_id = 1 AND example_id = 0",
        "UPDATE layer_scores_dedup SET off_first_max = 0.5 WHERE run_id = 1 AND example_id = 0",
        "INSERT INTO layer_edges_dedup VALUES (1, 0, 0, 'both', 3, 2, 0.5), (1, 0, 0, 'both', 3, 1, 0.19),"
        " (1, 0, 0, 'both', 2, 4, 0.4), (1, 0, 0, 'both', 4, 1, 0.2), (1, 0, 1, 'both', 3, 0, 0.01)",
        "UPDATE target_scores_dedup SET tree_top = NULL WHERE run_id = 1 AND example_id = 1",
    )
    return one


def wilson(k: int, n: int) -> tuple[float, float]:
    """Ends of Wilson's 95 % interval of k in n."""
    found = binomtest(k, n).proportion_ci(method="wilson")
    return found.low, found.high


def test_released_tree(store: Store) -> None:
    tree = attribution_tree(store, "first", 0)
    # Two layers: layer 1 is the last and gives nothing, layer 0 only the top node's row.
    assert [(edge.layer, edge.query_pos, edge.key_pos) for edge in tree.edges] == [(0, 3, 2)]
    assert tree.tokens == ("[CLS]", "a", "film", "good", "[SEP]")
    assert (tree.top, tree.gold, tree.predicted) == (3, "negative", "negative")


def test_greedy_tree_starts_in_the_last_layer_and_is_closed(store: Store) -> None:
    tree = attribution_tree(store, "first", 0, variant="greedy")
    swept = [(edge.layer, edge.query_pos, edge.key_pos) for edge in tree.edges if edge.layer is not None]
    # The sweep of layer 0 is row by row: (2, 4) comes before 2 is in the tree, (4, 1) before 4 is.
    assert swept == [(1, 3, 0), (0, 3, 2)]
    links = [edge for edge in tree.edges if edge.layer is None]
    assert sorted(edge.key_pos for edge in links) == [2, 3]
    assert links[0] == TreeEdge(None, 0, links[0].key_pos, None)


def test_a_tree_that_may_lack_edges_says_so(store: Store, tmp_path: Path) -> None:
    assert not attribution_tree(store, "first", 0, tau=0.3).capped
    store.checkpoint()
    copy = Store(shutil.copy(store.path, tmp_path / "copy.duckdb"))
    execute(copy, "UPDATE runs SET config = '{\"edge_cap\": 4}'")
    # The weakest of layer 0's four edges is .19, .38 of its scale.
    assert not attribution_tree(copy, "first", 0, tau=0.4).capped
    tree = attribution_tree(copy, "first", 0, tau=0.3)
    assert tree.capped
    assert "may lack edges" in tree._repr_html_()
    assert "may lack edges" in json.dumps(tree_chart(tree).to_dict())


def test_a_tree_without_edges_that_may_lack_some_says_so(store: Store, tmp_path: Path) -> None:
    store.checkpoint()
    copy = Store(shutil.copy(store.path, tmp_path / "copy.duckdb"))
    # The one edge that the cap let layer 0 keep is not the top node's, and layer 1 is the last.
    execute(
        copy,
        "UPDATE runs SET config = '{\"edge_cap\": 1}'",
        "DELETE FROM layer_edges_dedup"
        " WHERE run_id = 1 AND example_id = 0 AND layer = 0 AND (query_pos, key_pos) <> (2, 4)",
    )
    for tau, capped in ((0.8, True), (0.9, False)):  # it is .8 of its layer's scale
        tree = attribution_tree(copy, "first", 0, tau=tau)
        assert (tree.edges, tree.capped) == ((), capped)


def test_a_tree_of_words(store: Store, tmp_path: Path) -> None:
    store.checkpoint()
    copy = Store(shutil.copy(store.path, tmp_path / "copy.duckdb"))
    execute(copy, "UPDATE tokens SET word = NULL")
    with pytest.raises(UserError, match="(?s)does not know its words.*run first.*--units pieces"):
        attribution_tree(copy, "first", 0, units="words")
    execute(copy, "UPDATE tokens SET word = if(position = 1, 0, 1) WHERE run_id = 1 AND segment IS NOT NULL")
    tree = attribution_tree(copy, "first", 0, units="words")
    # The tokens 2 and 3 are one word, the top node: of its edges, 4 has .4 and 1 has .19, under .4 of .5.
    assert (tree.tokens, tree.top) == (("[CLS]", "a", "filmgood", "", "[SEP]"), 2)
    (edge,) = tree.edges
    assert (edge.layer, edge.query_pos, edge.key_pos) == (0, 2, 4)
    assert edge.attr == pytest.approx(0.4)
    assert "filmgood" in json.dumps(tree_chart(tree).to_dict())


def test_threshold(store: Store) -> None:
    tree = attribution_tree(store, "first", 0, tau=0.3)
    assert [(edge.query_pos, edge.key_pos) for edge in tree.edges] == [(3, 1), (3, 2)]
    with pytest.raises(UserError, match="tau is out of range"):
        attribution_tree(store, "first", 0, tau=1.5)


@pytest.mark.parametrize(
    ("run", "example", "match"),
    [("first", 8, "no such example"), ("frist", 0, "no such run"), ("first", 1, "has no tree")],
)
def test_no_tree(store: Store, run: str, example: int, match: str) -> None:
    with pytest.raises(UserError, match=match):
        attribution_tree(store, run, example)


def test_no_tree_of_a_class_that_is_not_attributed(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 4, "gold")
    commit(store, pass_id, range(3))
    execute(
        store,
        "UPDATE runs SET targets = 'gold' WHERE run_id = 2",
        "UPDATE target_scores_dedup SET target = 'gold' WHERE run_id = 2",
        "UPDATE predictions SET gold = NULL WHERE run_id = 1 AND example_id = 0",
        "UPDATE target_scores_dedup SET target = 'predicted' WHERE run_id = 1 AND example_id = 0",
    )
    with pytest.raises(
        UserError, match="(?s)run gold attributes the gold class alone.*next:    --target gold"
    ):
        attribution_tree(store, "gold", 0, target="predicted")
    with pytest.raises(UserError, match="(?s)not attributed.*attattr status"):
        attribution_tree(store, "gold", 3)
    with pytest.raises(UserError, match="(?s)no gold label.*next:    --target predicted"):
        attribution_tree(store, "first", 0)
    with store.read() as connection:
        example = find_example(connection, resolve_run(connection, "first"), 0, "predicted")
    assert (example.gold, example.target) == (None, "predicted")


@pytest.mark.parametrize(
    ("words", "match"),
    [
        ({"variant": "paper"}, "(?s)unknown variant.*paper.*greedy, released"),
        ({"target": "both"}, "(?s)unknown target.*both.*gold, predicted"),
        ({"units": "tokens"}, "(?s)unknown units.*tokens.*pieces, words"),
    ],
)
def test_a_tree_of_an_unknown_variant_or_class_is_refused(
    store: Store, words: dict[str, Any], match: str
) -> None:
    with pytest.raises(UserError, match=match):
        attribution_tree(store, "first", 0, **words)


def test_a_tree_is_drawn(store: Store, tmp_path: Path) -> None:
    tree = attribution_tree(store, "first", 0)
    save_chart(tree_chart(tree), tmp_path / "tree.svg")
    drawn = "".join(ElementTree.parse(tmp_path / "tree.svg").getroot().itertext())
    assert "good" in drawn and "film" in drawn and "layer (0-based)" in drawn
    save_chart(tree_chart(tree), tmp_path / "tree.png")
    assert (tmp_path / "tree.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(tree.to_json())["edges"][0]["query_pos"] == 3
    with pytest.raises(UserError, match="ending"):
        save_chart(tree_chart(tree), tmp_path / "tree.gif")


def test_diff_of_runs_over_other_data(store: Store) -> None:
    found = diff_runs(store, "first", "second", top=3).to_pylist()
    by_name = {(row["part"], row["name"]): row for row in found}
    assert by_name["identity", "dataset"]["a"] == "a" and by_name["identity", "dataset"]["b"] == "b"
    # 6 of 8 correct against 3 of 4, with Wilson's intervals of either.
    accuracy = by_name["accuracy", "unpaired"]
    (low_a, high_a), (low_b, high_b) = wilson(6, 8), wilson(3, 4)
    assert accuracy["value"] == 0
    assert accuracy["ci_low"] == pytest.approx(-np.hypot(0.75 - low_b, high_a - 0.75), abs=1e-6)
    assert accuracy["ci_high"] == pytest.approx(np.hypot(high_b - 0.75, 0.75 - low_a), abs=1e-6)
    # Scores grow by one step a head and by a constant an example, so importances are perfectly correlated.
    assert by_name["correlation", "attattr pearson"]["value"] == pytest.approx(1, abs=1e-9)
    heads = [row for row in found if row["part"] == "head"]
    assert len(heads) == 3
    means = dict(
        rows(store, "SELECT run_id, avg(attr_max) FROM head_scores WHERE target = 'gold' GROUP BY ALL")
    )
    assert heads[0]["value"] == pytest.approx(means[2] - means[1], abs=1e-6)
    assert all(row["ci_low"] <= row["value"] <= row["ci_high"] for row in heads)


def test_diff_shows_settings_as_they_were_given(tmp_path: Path) -> None:
    store = new_store(tmp_path)
    spec = {"task": "sst2", "limit": 40, "nodes": 20, "device": "cpu", "name": "first"}
    register(store, 4, "first", config=spec, identity={"dataset": "a", "nodes": 20})
    spec = {"task": "sst2", "limit": 41, "nodes": 30, "device": "cuda", "columns": {"label": "verdict"}}
    register(store, 4, "second", config=spec, identity={"dataset": "b", "nodes": 30})
    found = diff_runs(store, "first", "second").to_pylist()
    assert [tuple(row.values())[:4] for row in found if row["part"] in ("setting", "identity")] == [
        ("setting", "columns", None, '{"label": "verdict"}'),
        ("setting", "limit", "40", "41"),
        ("setting", "nodes", "20", "30"),
        ("identity", "dataset", "a", "b"),
    ]


def test_diff_on_the_same_rows_is_paired(store: Store) -> None:
    found = diff_runs(store, "first", "first").to_pylist()
    by_name = {(row["part"], row["name"]): row for row in found}
    assert ("identity", "dataset") not in by_name
    # Nothing changed in eight rows, which is no proof that nothing would in others.
    accuracy = by_name["accuracy", "same rows"]
    assert (accuracy["ci_low"], accuracy["value"], accuracy["ci_high"]) == pytest.approx(
        (-0.196, 0, 0.196), abs=1e-4
    )
    assert by_name["answers", "changed"]["a"] == "0"


def test_diff_of_accuracy_counts_labelled_rows_alone(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 8, "second")
    commit(store, pass_id, range(8))
    execute(
        store,
        'UPDATE runs SET identity = \'{"dataset": "a"}\'',
        "UPDATE predictions SET gold = NULL, prob_gold = NULL WHERE example_id >= 6",
        "UPDATE predictions SET predicted = 1 - predicted WHERE run_id = 2 AND example_id IN (0, 1, 7)",
    )
    found = {(row["part"], row["name"]): row for row in diff_runs(store, 1, 2).to_pylist()}
    # Of six rows with a label two were lost; Agresti and Min add half a row to each of four outcomes.
    accuracy = found["accuracy", "same rows"]
    assert accuracy["value"] == pytest.approx(-2 / 6)
    half = 1.96 * np.sqrt(3 - 2**2 / 8) / 8
    assert accuracy["ci_low"] == pytest.approx(-2 / 8 - half, abs=1e-4)
    assert accuracy["ci_high"] == pytest.approx(-2 / 8 + half, abs=1e-4)
    assert (found["answers", "changed"]["a"], found["answers", "changed"]["b"]) == ("3", "8")


def test_diff_copies_the_scores_of_no_run(store: Store) -> None:
    with store.read() as connection:
        prepare(connection, [1, 2])
        _build_importance(connection, "gold")
        query = "SELECT table_name FROM duckdb_tables() WHERE temporary"
        assert "head_values" not in set(connection.exec_driver_sql(query).scalars())


def test_diff_of_architectures(store: Store) -> None:
    parts = diff_runs(store, "first", "odd")["part"].to_pylist()
    assert "accuracy" in parts and "correlation" not in parts and "head" not in parts


def test_diff_compares_a_class_that_both_runs_attribute(tmp_path: Path) -> None:
    store = filled_store(tmp_path)
    _, pass_id = register(store, 8, "predicted", targets="predicted")
    commit(store, pass_id, range(8), target="predicted")
    register(store, 8, "gold", targets="gold")
    execute(store, 'UPDATE runs SET identity = \'{"dataset": "a"}\'')
    query = "SELECT attr_max FROM head_summary WHERE run_id = {} AND target = '{}' AND layer = 1 AND head = 2"
    ((gold,),), ((of_first,),), ((of_second,),) = (
        rows(store, query.format(*key)) for key in ((1, "gold"), (1, "predicted"), (2, "predicted"))
    )
    assert len({gold, of_first, of_second}) == 3
    changes = {row["name"]: row["value"] for row in diff_runs(store, "first", "predicted").to_pylist()}
    assert changes["1/2"] == of_second - of_first
    changes = {row["name"]: row["value"] for row in diff_runs(store, "predicted", "first").to_pylist()}
    assert changes["1/2"] == of_first - of_second
    assert not {"correlation", "head"} & set(diff_runs(store, "gold", "predicted")["part"].to_pylist())
    assert "gold has the gold class alone, predicted has the predicted class alone" in (
        why_no_heads(store, "gold", "predicted")
    )
    assert "no attributions of gold for the gold class" in why_no_heads(store, "gold", "first")


def test_diff_leaves_the_store_as_it_was(store: Store) -> None:
    before = store.path.read_bytes()
    diff_runs(store, "first", "second")
    assert store.path.read_bytes() == before


def test_open(store: Store) -> None:
    results = attattr_batch.open(store.path)
    assert results.runs().num_rows == 3
    assert results.sql("SELECT count(*) AS n FROM predictions WHERE run_id = ?", [1])["n"].to_pylist() == [8]
    table = results.table("head_scores", run="second", layer=1, target="gold")
    assert set(table["run_id"].to_pylist()) == {2} and set(table["layer"].to_pylist()) == {1}
    assert table.num_rows == 4 * 3
    assert results.tree("first", 0).top == 3
    assert results.table("runs", fixed_nodes=None).num_rows == 3
    assert results.table("runs", fixed_nodes=None, name="odd")["family"].to_pylist() == ["albert"]
    with pytest.raises(UserError, match="did you mean 'head_scores'"):
        results.table("head_score")
    with pytest.raises(UserError, match="unknown column of head_scores"):
        results.table("head_scores", lyer=1)
    with pytest.raises(UserError, match="no such run"):
        results.table("head_scores", run="nobody")
    assert results.table("runs", name="second")["name"].to_pylist() == ["second"]


def test_verify_says_which_audits_it_leaves_out(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    known = {path.stem for path in (data_folder("jobs") / "audits").glob("*.sql")}
    run = {audit.name for audit in attattr_batch.open(store.path).verify()}
    said = caplog.messages[-1]
    assert "curve_is_complete" not in run
    assert said.startswith("left out, about jobs that are not built: ")
    assert set(said.partition(": ")[2].split(", ")) == known - run


@pytest.mark.parametrize(
    ("query", "match"),
    [
        ("SELECT * FROM x", "(?s)the query failed.*Catalog Error: Table with name x"),
        ("DELETE FROM meta", "(?s)the query failed.*read-only"),
        ("SELECT ?", "(?s)the query failed.*parameters"),
        ("", "gives no rows"),
    ],
)
def test_a_query_that_cannot_be_answered_is_the_users(store: Store, query: str, match: str) -> None:
    with pytest.raises(UserError, match=match):
        attattr_batch.open(store.path).sql(query)


def test_values_that_cannot_be_meant_are_the_users(store: Store) -> None:
    results = attattr_batch.open(store.path)
    with pytest.raises(UserError, match="the query failed"):
        results.table("head_scores", layer=["gold"])
    with pytest.raises(UserError, match=r"(?s)negative number of heads.*0 or more"):
        results.diff("first", "second", top=-1)


def test_jobs_from_python(store: Store, tmp_path: Path) -> None:
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(store.path.read_bytes())
    results = attattr_batch.open(copy)
    built = results.run_jobs("token_pairs", runs=["first"], params={"min_support": 1})
    assert [(one.job, one.status) for one in built] == [("token_pairs", "built")]
    assert set(results.table("token_pairs")["run_id"].to_pylist()) == {1}
    (one,) = results.run_jobs("tree_edges", runs=["first"], params={"example_id": None, "tau": 1})
    assert (one.status, one.error) == ("built", None)
    with pytest.raises(UserError, match="unknown job"):
        results.run_jobs("token_pair")
    results.run_jobs("splits", runs="first")
    assert set(results.table("splits")["run_id"].to_pylist()) == {1}


def test_figures_from_python(store: Store, tmp_path: Path) -> None:
    results = attattr_batch.open(store.path)
    drawn = json.dumps(results.plot("heads", "first").to_dict())
    assert '"first"' in drawn
    assert '"second"' not in drawn
    save_chart(results.plot("completeness", theme="dark"), tmp_path / "c.svg")
    assert ElementTree.parse(tmp_path / "c.svg").getroot().tag.endswith("svg")
    with pytest.raises(UserError, match="did you mean 'heads'"):
        results.plot("head")
    with pytest.raises(UserError, match="attattr jobs run"):
        results.plot("universality")
