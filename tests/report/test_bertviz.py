"""The JSON for BertViz: what `head_view` takes, and the store's numbers in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.calling import Cli, contains
from helpers.fabricate import N_HEADS, N_LAYERS, N_TOKENS, execute, filled_store

from attattr_batch.report.bertviz import head_view_json
from attattr_batch.store.database.connection import Store


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Cli:
    store = filled_store(tmp_path)
    # Position 3 becomes the second text.
    execute(store, "UPDATE tokens SET segment = 1 WHERE position = 3 AND example_id = 3")
    return Cli(capsys, store.path)


def exported(cli: Cli, path: Path, *options: object) -> dict[str, Any]:
    answer = cli("export", "first", "--format", "bertviz", "--to", path, *options)
    assert (answer.code, answer.out) == (0, ""), answer.err
    document: dict[str, Any] = json.loads(path.read_text())
    return document


def as_head_view_reads(document: dict[str, Any]) -> torch.Tensor:
    """What `bertviz.head_view` does with its arguments first: stacks layers of [1, head, query, key]."""
    layers = [torch.tensor(layer) for layer in document["attention"]]
    assert all(layer.dim() == 4 and len(layer) == 1 for layer in layers)
    stacked = torch.stack([layer.squeeze(0) for layer in layers])
    assert stacked.shape[2] == stacked.shape[3] == len(document["tokens"])
    return stacked


@pytest.mark.parametrize("target", ["gold", "predicted"])
def test_stored_edges(cli: Cli, tmp_path: Path, target: str) -> None:
    document = exported(cli, tmp_path / "new" / "example.json", "--example", 3, "--target", target)
    matrices = as_head_view_reads(document)
    assert matrices.shape == (N_LAYERS, N_HEADS, N_TOKENS, N_TOKENS)
    with Store(cli.db).read() as connection:
        stored = connection.exec_driver_sql(
            "SELECT layer, head, query_pos, key_pos, attr FROM edges WHERE example_id = 3 AND target = ?",
            (target,),
        ).all()
    expected = torch.zeros_like(matrices)
    for *place, attr in stored:
        expected[tuple(place)] = attr
    assert torch.allclose(matrices, expected, atol=1e-9)
    assert document["largest"] == pytest.approx(float(expected.max()), abs=1e-9)
    assert document["tokens"] == ["[CLS]", "a", "film", "good", "[SEP]"]
    assert document["sentence_b_start"] == 3
    about = document["about"]
    assert (about["run"], about["example"], about["attributed class"]) == ("first", 3, target)
    assert (about["gold"], about["predicted"]) == ("positive", "negative")
    assert "12 stored edges" in about["entries"] and "every other entry is 0 here" in about["entries"]


def test_a_single_text_has_no_second(cli: Cli, tmp_path: Path) -> None:
    assert exported(cli, tmp_path / "x.json", "--example", 0)["sentence_b_start"] is None


def test_complete_matrices_keep_their_signs() -> None:
    scores = np.array([[[[0.25, -0.125], [1e-12, 0.5]]]], np.float32)
    document = json.loads(head_view_json(scores, ["a", "<script>"], [0, 1], {"run": "x"}))
    assert document["attention"] == [[[[[0.25, -0.125], [0.0, 0.5]]]]]
    assert document["largest"] == 0.5
    assert document["sentence_b_start"] == 1


def test_refusals(cli: Cli, tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    bertviz = ("export", "first", "--format", "bertviz", "--to", path)
    contains(cli.refuses(*bertviz), "BertViz shows one example", "--example 0")
    contains(cli.refuses(*bertviz, "--example", 8), "no such example", "0 to 7 in run first")
    contains(cli.refuses("export", "first", "--to", path, "--example", 1), "--format bertviz")
    contains(cli.refuses(*bertviz[:-1], tmp_path, "--example", 1), "the file cannot be written")
    assert not path.exists()
