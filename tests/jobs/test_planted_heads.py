"""The faithfulness board of a model in which one head alone does anything: the curve is a step."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.folders import build
from helpers.toy import rows_of
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from attattr_batch.files import bundled_folder
from attattr_batch.runtime.run import run_spec
from attattr_batch.spec import make_spec
from attattr_batch.store.database.connection import Store

pytestmark = pytest.mark.slow

# They cannot be negative, and are 0 for a head that does nothing.
SURE = {
    "attattr",
    "attattr_positive_sum",
    "attattr_absolute_sum",
    "attattr_head",
    "taylor",
    "taylor_normalised",
    "taylor_released",
}
MEASURES = {"prob_gold", "margin_gold", "prob_predicted", "margin_predicted"}


def plant(folder: Path, layer: int, head: int) -> None:
    """The bundled SST-2 model, of whose heads one alone still writes; the others only attend, and firmly."""
    source = bundled_folder() / "models" / "sst2"
    model = AutoModelForSequenceClassification.from_pretrained(source, dtype=torch.float32)
    size = model.config.hidden_size // model.config.num_attention_heads
    with torch.no_grad():
        for place, block in enumerate(model.bert.encoder.layer):
            for other in range(model.config.num_attention_heads):
                if (place, other) != (layer, head):
                    span = slice(other * size, (other + 1) * size)
                    block.attention.output.dense.weight[:, span] = 0
                    block.attention.self.query.weight[span] *= 20
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(source).save_pretrained(folder)


@pytest.mark.parametrize(("layer", "head"), [(2, 0), (3, 1)])
def test_the_planted_head_ranks_first_and_its_curve_is_a_step(tmp_path: Path, layer: int, head: int) -> None:
    plant(tmp_path / "model", layer, head)
    settings = {"task": "sst2", "model": str(tmp_path / "model"), "data_dir": "bundled", "name": "planted"}
    store = Store(tmp_path / "planted.duckdb", create=True)
    run_spec(make_spec({**settings, "limit": 80}), store, lambda progress: None)
    params = {"variants": "all", "path_rows": "10", "draws": "3"}
    results = build(store, "faithfulness", "head_importance", params=params)
    assert {name: one.error for name, one in results.items() if one.status != "built"} == {}

    first = "SELECT criterion, arg_max([layer, head], importance) FROM head_importance GROUP BY criterion"
    firsts = dict(rows_of(store.path, first))
    found = {criterion for criterion, place in firsts.items() if place == [layer, head]}
    assert found >= SURE
    assert firsts["attention"] != [layer, head], "the others attend more firmly"

    numbers = (
        "SELECT criterion, measure, cpr, cmd FROM faithfulness WHERE criterion <> 'random' AND note IS NULL"
    )
    board = rows_of(store.path, numbers)
    assert {measure for _, measure, *_ in board} == MEASURES
    # Where no answer turns without the head, accuracy differences are all 0: the board's note says so.
    assert {criterion for criterion, *_ in board} >= set(firsts) - {"random", "accuracy_difference"}
    for criterion, measure, *areas in board:
        if criterion in found:  # f is 0 without any head and 1 with the first tenth of them
            assert areas == pytest.approx([0.95, 0.05], abs=1e-6), (criterion, measure)
        else:
            assert areas[0] < 0.95 - 0.09, (criterion, measure)
