"""Which runs are the same run: those that give a model the same tokens."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.fabricate import rows
from helpers.toy import MAX_TOKENS, toy_model, toy_rows, write_sst2

from attattr_batch.errors import UserError
from attattr_batch.passes import planning
from attattr_batch.passes.inputs import RunInputs
from attattr_batch.passes.planning import AttributionPlan, plan_attribution
from attattr_batch.runtime import run
from attattr_batch.spec import RunSpec, make_spec
from attattr_batch.store.database.connection import Store


@pytest.fixture
def settings(tmp_path: Path) -> dict[str, object]:
    data = write_sst2(tmp_path / "glue", dev=[("The PLOT is good", 1), *toy_rows(5, seed=1)])
    model = toy_model(tmp_path / "model")
    return {"task": "sst2", "model": str(model), "data_dir": str(data), "device": "cpu"}


def plan(settings: dict[str, object], **more: object) -> AttributionPlan:
    return plan_attribution(make_spec({**settings, **more}))


def test_a_tokenizer_that_gives_other_tokens_makes_another_run(settings: dict[str, object]) -> None:
    before = plan(settings)
    file = Path(str(settings["model"]), "tokenizer_config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | {"do_lower_case": False}))
    after = plan(settings)
    assert after.examples[0].input_ids != before.examples[0].input_ids
    assert after.tokenizer_key == before.tokenizer_key, "the vocabulary is the same"
    assert after.run_key != before.run_key


def test_weights_written_over_after_planning_are_not_taken(
    settings: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def planned_too_early(spec: RunSpec, inputs: RunInputs) -> AttributionPlan:
        found = plan_attribution(spec, inputs)
        toy_model(Path(str(settings["model"])), seed=1)
        return found

    store = Store(tmp_path / "store.duckdb", create=True)
    spec = make_spec({**settings, "executor": "local"})
    with monkeypatch.context() as patch:
        patch.setattr(planning, "plan_attribution", planned_too_early)
        with pytest.raises(UserError, match="have changed since the command began"):
            run.run_spec(spec, store, lambda progress: None)
    assert rows(store, "FROM runs") == []
    assert run.run_spec(spec, store, lambda progress: None).committed == 6


def test_a_limit_counts_as_far_as_the_model_goes(settings: dict[str, object]) -> None:
    assert plan(settings, max_length=1000).run_key == plan(settings, max_length=MAX_TOKENS).run_key
    assert plan(settings, max_length=8).run_key != plan(settings).run_key
    assert plan(settings, limit=2).run_key != plan(settings).run_key
