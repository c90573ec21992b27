"""Jobs against independent mathematics: scipy, and the tree algorithm told again, on random numbers."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from helpers.trees import Edge, greedy_tree, released_tree, top_node
from helpers.worksheet import Worksheet
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats
from sqlalchemy import Connection

from attattr_batch.store.database.connection import arrow_rows, raw
from attattr_batch.store.writing.jobs import prepare, query_rows

FLOOR = 0.05


@pytest.fixture(scope="module")
def worksheet() -> Worksheet:
    return Worksheet()


def insert(connection: Connection, **tables: list[dict[str, Any]]) -> None:
    for name, rows in tables.items():
        if rows:
            with arrow_rows(connection, "given_rows", pa.Table.from_pylist(rows)):
                raw(connection).execute(f"INSERT INTO {name} BY NAME FROM given_rows")


def test_random_numbers_are_those_of_md5(worksheet: Worksheet) -> None:
    with worksheet.filled({}) as connection:
        for key in ("", "a", "bootstrap/0/sst2/dev/17/3", "dé"):
            (found,) = raw(connection).execute("SELECT uniform($key)", {"key": key}).fetchall()[0]
            assert found == int.from_bytes(hashlib.md5(key.encode()).digest()[8:], "little") / 2**64
        found = raw(connection).execute("SELECT avg(uniform(i::TEXT)) FROM range(10000) AS t(i)").fetchall()
        assert found[0][0] == pytest.approx(0.5, abs=4 / np.sqrt(12 * 10000))


def test_bootstrap_weights_are_poisson(worksheet: Worksheet) -> None:
    numbers = np.concatenate([np.linspace(0, 1, 1001)[:-1], 1 - np.logspace(-1, -5, 50)])
    with worksheet.filled({}) as connection:
        query = "SELECT list(poisson_weight(u) ORDER BY place) FROM unnest($u) WITH ORDINALITY AS t(u, place)"
        (found,) = raw(connection).execute(query, {"u": numbers.tolist()}).fetchall()[0]
    # Eight draws or more, one time in 100,000, count as seven.
    np.testing.assert_array_equal(found, stats.poisson(1).ppf(numbers).clip(0, 7))


@pytest.mark.parametrize("n", [1, 7, 200, 9815])
def test_intervals_of_counts_are_wilsons(worksheet: Worksheet, n: int) -> None:
    with worksheet.filled({}) as connection:
        for k in sorted({0, 1, n // 3, n - 1, n}):
            found = (
                raw(connection).execute(f"SELECT wilson_low({k}, {n}), wilson_high({k}, {n})").fetchall()[0]
            )
            expected = stats.binomtest(k, n).proportion_ci(method="wilson")
            assert found == pytest.approx((expected.low, expected.high), abs=1e-7)
        assert raw(connection).execute("SELECT wilson_low(0, 0), wilson_high(0, 0)").fetchall() == [
            (None, None)
        ]


def test_bootstrap_intervals_have_the_width_of_the_standard_error(worksheet: Worksheet) -> None:
    values = np.random.default_rng(0).normal(5, 2, 300)
    rows = [
        {"run_id": 1, "criterion": "attattr", "example_id": index, "layer": 0, "head": 0, "value": value}
        for index, value in enumerate(values)
    ]
    runs = [{"run_id": 1, "task": "sst2", "split": "dev"}]
    job = worksheet.catalogue.job("head_replicates")
    with worksheet.filled({"head_values": "run_id"}) as connection:
        insert(connection, runs=runs, head_values=rows)
        prepare(connection, [1])
        values_of = {"replicates": 2000, "cells": 500, "seed": 0}
        replicates = query_rows(connection, job.file.query, values_of)["importance"].to_numpy()
    assert len(replicates) == 2000
    assert replicates.mean() == pytest.approx(values.mean(), abs=0.02)
    # The spread of a spread over 2000 replicates is 1.6 %.
    assert replicates.std() == pytest.approx(values.std() / np.sqrt(len(values)), rel=0.06)


def test_universality_equals_scipy(worksheet: Worksheet) -> None:
    chance = np.random.default_rng(0)
    n_layers, n_heads = 6, 12
    importances = chance.gamma(1, 1, (4, n_layers, n_heads))
    importances[1] += 0.7 * importances[0]
    importances[2] = importances[2].round(1)  # ties
    importances[3, :, 1:] = importances[3, :, :1]  # many ties
    runs = [{"run_id": i, "family": "bert", "n_layers": n_layers, "n_heads": n_heads} for i in range(4)]
    rows = [
        {"run_id": run, "criterion": "attattr", "layer": layer, "head": head, "importance": value}
        for (run, layer, head), value in np.ndenumerate(importances)
    ]
    job = worksheet.catalogue.job("head_universality")
    with worksheet.filled({}) as connection:
        insert(connection, runs=runs, head_importance=rows)
        prepare(connection, range(4))
        found = query_rows(connection, job.file.query, {"top_k": 10}).to_pylist()
    assert len(found) == 16
    for row in found:
        a, b = importances[row["run_a"]].ravel(), importances[row["run_b"]].ravel()
        assert row["pearson"] == pytest.approx(np.corrcoef(a, b)[0, 1], abs=1e-9)
        assert row["spearman"] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-9)
        top_a, top_b = (set(np.argsort(-values, kind="stable")[:10]) for values in (a, b))
        assert row["topk_jaccard"] == pytest.approx(len(top_a & top_b) / len(top_a | top_b), abs=1e-12)
        if row["run_a"] == row["run_b"]:
            assert row["pearson"] == row["spearman"] == row["ci_low"] == row["ci_high"] == 1


def drawn_by_hand(words: list[int], tokens: list[int], nearest: int, key: str) -> list[int]:
    """For each token a word of those nearest to it in the list: steps outwards, the next word first."""
    drawn = []
    for place, token in enumerate(tokens, 1):
        below = [word for word in words[: words.index(token)] if word not in tokens]
        above = [word for word in words[words.index(token) :] if word not in tokens]
        taken: list[int] = []
        up = True
        while len(taken) < nearest and (below or above):
            if above and (up or not below):
                taken.append(above.pop(0))
            else:
                taken.insert(0, below.pop())
            up = not up
        digest = hashlib.md5(f"{key}/{place}".encode()).digest()
        drawn.append(taken[int(int.from_bytes(digest[8:], "little") / 2**64 * len(taken))])
    return drawn


@settings(max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_words=st.integers(5, 80),
    n_tokens=st.integers(1, 4),
    nearest=st.sampled_from([1, 2, 5, 50]),
)
def test_random_tokens_occur_about_as_often_as_those_they_replace(
    worksheet: Worksheet, seed: int, n_words: int, n_tokens: int, nearest: int
) -> None:
    chance = np.random.default_rng(seed)
    counts = dict(enumerate((1 + chance.pareto(1, n_words)).astype(int).clip(1, 60).tolist(), 100))
    pattern = chance.choice(list(counts), n_tokens, replace=False).tolist()
    rows = [
        {"run_id": 1, "example_id": 0, "token_id": word, "segment": 0}
        for word, count in counts.items()
        for _ in range(count)
    ]
    words = sorted(counts, key=lambda word: (counts[word], word))
    query = "SELECT other_words($pattern, words, nearest, $key) FROM text_words($controls, $nearest)"
    with worksheet.filled({}) as connection:
        insert(connection, tokens=rows)
        for draw in range(5):
            values = {"pattern": pattern, "key": f"k/{draw}", "nearest": nearest, "controls": "matched"}
            found = raw(connection).execute(query, values).fetchall()
            assert found == [(drawn_by_hand(words, pattern, nearest, f"k/{draw}"),)]
            found = raw(connection).execute(query, {**values, "controls": "uniform"}).fetchall()
            assert found == [(drawn_by_hand(sorted(words), pattern, n_words, f"k/{draw}"),)]


def matrices(seed: int, n_layers: int, n_tokens: int, sparse: float) -> NDArray[np.float64]:
    """Random attributions [layer, query, key]: multiples of 1/64, exact in every number format; many ties."""
    chance = np.random.default_rng(seed)
    size = (n_layers, n_tokens, n_tokens)
    scores = chance.integers(-20, 65, size) * (chance.random(size) >= sparse)
    scores[:, 1, 1] = np.maximum(scores[:, 1, 1], 1)  # every layer has something positive to scale by
    return scores / 64


def stored_rows(example_id: int, scores: NDArray[np.float64], top: int) -> dict[str, list[dict[str, Any]]]:
    """What the attribution pass stores of these matrices: below the last layer, what is above the floor."""
    key = {"run_id": len(scores), "example_id": example_id, "target": "gold"}
    rows: dict[str, list[dict[str, Any]]] = {"target_scores": [{**key, "tree_top": top}]}
    rows["layer_scores"], rows["layer_edges"] = [], []
    for layer, matrix in enumerate(scores):
        scale = matrix[1:].max()
        floor = 0.0 if layer == len(scores) - 1 else FLOOR * scale
        here = {**key, "layer": layer}
        rows["layer_scores"].append({**here, "off_first_max": scale, "edge_floor": floor})
        rows["layer_edges"] += [
            {**here, "query_pos": query, "key_pos": child, "attr": value}
            for (query, child), value in np.ndenumerate(matrix)
            if value > 0 and value >= floor
        ]
    return rows


@settings(max_examples=60, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_layers=st.integers(2, 5),
    n_tokens=st.integers(2, 9),
    sparse=st.sampled_from([0.0, 0.5, 0.8]),
    tau=st.sampled_from([0.25, 0.4, 0.5, 0.75]),
)
def test_trees_equal_the_algorithm_told_step_by_step(
    worksheet: Worksheet, seed: int, n_layers: int, n_tokens: int, sparse: float, tau: float
) -> None:
    trees: dict[int, tuple[NDArray[np.float64], int]] = {}
    for example_id in range(8):
        scores = matrices(seed + example_id, n_layers, n_tokens, sparse)
        top = top_node(scores)
        if top is not None:
            trees[example_id] = scores, top
    job = worksheet.catalogue.job("tree_edges")
    with worksheet.filled({}) as connection:
        insert(connection, runs=[{"run_id": n_layers, "n_layers": n_layers, "targets": "gold"}])
        for example_id, (scores, top) in trees.items():
            insert(connection, **stored_rows(example_id, scores, top))
        prepare(connection, [n_layers])
        values = {"tau": tau, "target": "gold", "example_id": None, "units": "pieces"}
        found = query_rows(connection, job.file.query, values).to_pylist()
    for example_id, (scores, top) in trees.items():
        own = [row for row in found if row["example_id"] == example_id]
        assert {row["top"] for row in own} <= {top}
        assert edges_of(own, "released") == sorted(released_tree(scores, top, tau))
        swept, reached = greedy_tree(scores, top, tau)
        assert edges_of(own, "greedy") == sorted(swept)
        links = {(row["query_pos"], row["key_pos"]) for row in own if row["layer"] is None}
        assert links == {(0, node) for node in reached - {0}}
        for row in own:
            if row["layer"] is not None:
                assert row["attr"] == scores[row["layer"], row["query_pos"], row["key_pos"]]


@settings(max_examples=40, derandomize=True)
@given(
    seed=st.integers(0, 2**32 - 1),
    n_layers=st.integers(2, 4),
    lengths=st.lists(st.integers(1, 3), min_size=2, max_size=5),
    sparse=st.sampled_from([0.0, 0.5, 0.8]),
    tau=st.sampled_from([0.25, 0.4, 0.75]),
)
def test_trees_of_words_are_those_of_the_matrix_summed_by_words(
    worksheet: Worksheet, seed: int, n_layers: int, lengths: list[int], sparse: float, tau: float
) -> None:
    # A special token, the words, and a special token.
    word_of = np.repeat(np.arange(len(lengths) + 2), [1, *lengths, 1])
    first = np.unique(word_of, return_index=True)[1].tolist()
    scores = matrices(seed, n_layers, len(word_of), sparse)
    scores[:, 0] *= 4  # the first row is left out of the scale
    top = top_node(scores)
    if top is None:
        return
    given_rows = stored_rows(0, scores, top)
    by_words = np.zeros((n_layers, len(first), len(first)))
    for edge in given_rows["layer_edges"]:
        place = edge["layer"], word_of[edge["query_pos"]], word_of[edge["key_pos"]]
        by_words[place] += edge["attr"]
    tokens: list[dict[str, Any]] = [
        {"run_id": n_layers, "example_id": 0, "position": position, "segment": 0, "word": int(word) - 1}
        for position, word in enumerate(word_of)
    ]
    for token in (tokens[0], tokens[-1]):
        token["segment"] = token["word"] = None
    job = worksheet.catalogue.job("tree_edges")
    with worksheet.filled({}) as connection:
        insert(connection, runs=[{"run_id": n_layers, "n_layers": n_layers, "targets": "gold"}])
        insert(connection, **given_rows, tokens=tokens)
        prepare(connection, [n_layers])
        values = {"tau": tau, "target": "gold", "example_id": None, "units": "words"}
        found = query_rows(connection, job.file.query, values).to_pylist()

    def placed(edges: list[Edge]) -> list[Edge]:
        return sorted((layer, first[query], first[key]) for layer, query, key in edges)

    top_word = int(word_of[top])
    assert {row["top"] for row in found} <= {first[top_word]}
    assert edges_of(found, "released") == placed(released_tree(by_words, top_word, tau))
    swept, reached = greedy_tree(by_words, top_word, tau)
    assert edges_of(found, "greedy") == placed(swept)
    links = {row["key_pos"] for row in found if row["layer"] is None}
    assert links == {first[word] for word in reached - {0}}
    for row in found:
        if row["layer"] is not None:
            query, key = word_of[row["query_pos"]], word_of[row["key_pos"]]
            assert row["attr"] == by_words[row["layer"], query, key]


def edges_of(rows: list[dict[str, Any]], variant: str) -> list[Edge]:
    return sorted(
        (row["layer"], row["query_pos"], row["key_pos"])
        for row in rows
        if row["variant"] == variant and row["layer"] is not None
    )
