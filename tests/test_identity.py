"""The identity of a run: the key of a real one, and of every setting whether it makes another run."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from attattr_batch.data.sources import load_dataset_for
from attattr_batch.engine.model_source import ModelSource, find_model
from attattr_batch.files import bundled_folder
from attattr_batch.identity import IDENTITY_VERSION, canonical_json, content_key, run_key
from attattr_batch.passes import inputs
from attattr_batch.passes.planning import AttributionPlan, plan_attribution
from attattr_batch.spec import RUN_KEYS, make_spec

BUNDLED_SST2 = "7ddc68fea2357f634ffb3771a3ff1c378bd01cd64cafdaa55383f5f6bea9c0c1"
"""Run key of the first twenty rows of the bundled SST-2; changes with the identity version, and only then."""

BUNDLED = {"task": "sst2", "model": "bundled", "data_dir": "bundled", "limit": 20, "device": "cpu"}

FIXED = {"quadrature": "left-riemann", "nodes": 4}

ANOTHER_RUN: dict[str, dict[str, Any]] = {
    "split": {"split": "train"},
    "limit": {"limit": 7},
    "part": {"part": "0/2"},
    "part again": {"part": "1/2"},
    "part of other parts": {"part": "0/4"},
    "max_length": {"max_length": 8},
    "label_map": {"label_map": {"negative": "positive", "positive": "negative"}},
    "target": {"target": "predicted"},
    "quadrature": FIXED,
    "quadrature again": {**FIXED, "quadrature": "right-riemann"},
    "nodes": {**FIXED, "nodes": 5},
    "tolerance": {"tolerance": 2e-3},
    "dtype": {"dtype": "bfloat16"},
    "top_k": {"top_k": 4},
    "edge_floor": {"edge_floor": 0.04},
    "edge_cap": {"edge_cap": 511},
}
"""Settings that make as many different runs, by what they are about."""

ANOTHER_RUN_OF_OWN_DATA: dict[str, dict[str, Any]] = {
    "task": {"task": "another"},
    "labels": {"labels": ["positive", "negative"]},
    "columns": {"columns": {"text_a": "other", "label": "label"}},
}
"""The same, of data in a file of the user's."""

THE_SAME_RUN: dict[str, Any] = {
    "name": "another",
    "device": "auto",
    "executor": "ray",
    "workers": 3,
    "address": "ray://somewhere:10001",
    "batch_tokens": 256,
    "chunk_deadline": 5.0,
    "stage": "s3://bucket/stage",
}
"""By setting: a value that changes speed or a name alone."""

BY_CONTENT = {"model", "revision", "data_dir", "dataset", "dataset_config", "dataset_revision"}
"""Settings that say where something is: what is found there decides (tests below)."""


@pytest.fixture
def spec(tmp_path: Path) -> dict[str, Any]:
    """A run whose model and data are copies that a test may change."""
    shutil.copytree(bundled_folder() / "models" / "sst2", tmp_path / "model")
    head, *rows = (bundled_folder() / "data" / "SST-2" / "dev.tsv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "SST-2").mkdir()
    for split, chosen in (("dev", rows[:20]), ("train", rows[20:40])):
        path = tmp_path / "SST-2" / f"{split}.tsv"
        path.write_text("\n".join([head, *chosen]) + "\n", encoding="utf-8")
    return {"task": "sst2", "model": str(tmp_path / "model"), "data_dir": str(tmp_path), "device": "cpu"}


_PLANNED: dict[str, str] = {}


def planned(spec: dict[str, Any], **changes: Any) -> AttributionPlan:
    """The plan of a run; checks that what it was planned from tells it from every other run here."""
    found = inputs.find_inputs(make_spec({**spec, **changes}))
    plan = plan_attribution(found.spec, found)
    assert _PLANNED.setdefault(found.key(), plan.run_key) == plan.run_key, "it would be taken for another run"
    return plan


def test_the_key_of_a_real_run() -> None:
    assert IDENTITY_VERSION == 6
    assert planned(BUNDLED).run_key == BUNDLED_SST2


def test_every_setting_is_known_to_make_another_run_or_not() -> None:
    known = {*ANOTHER_RUN, *ANOTHER_RUN_OF_OWN_DATA, *THE_SAME_RUN, *BY_CONTENT} - {
        name for name in ANOTHER_RUN if " " in name
    }
    assert known == set(RUN_KEYS)


def assert_all_differ(spec: dict[str, Any], settings: dict[str, dict[str, Any]]) -> None:
    keys = {planned(spec).run_key}
    for name, changes in settings.items():
        key = planned(spec, **changes).run_key
        assert key not in keys, name
        keys.add(key)


def test_settings_that_change_numbers_make_another_run(spec: dict[str, Any]) -> None:
    assert_all_differ(spec, ANOTHER_RUN)


def test_settings_of_own_data_make_another_run(spec: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "mine.csv"
    path.write_text("text,other,label\nso dull,so good,negative\na joy,a bore,positive\n", encoding="utf-8")
    columns = {"text_a": "text", "label": "label"}
    own = {"task": "mine", "dataset": str(path), "columns": columns, "labels": ["negative", "positive"]}
    assert_all_differ({**own, "model": spec["model"], "device": "cpu"}, ANOTHER_RUN_OF_OWN_DATA)


def test_settings_of_the_machine_make_no_other_run(spec: dict[str, Any]) -> None:
    key = planned(spec).run_key
    for name, value in THE_SAME_RUN.items():
        assert planned(spec, **{name: value}).run_key == key, name


def test_every_row_makes_the_run(spec: dict[str, Any]) -> None:
    path = Path(spec["data_dir"]) / "SST-2" / "dev.tsv"
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    text, label = lines[-1].rstrip().split("\t")
    keys = {planned(spec).run_key}
    for changed in (
        [*lines[:-1], f"{text}\t{1 - int(label)}\n"],
        [*lines[:-1], f"{text} !\t{label}\n"],
        [lines[0], lines[2], lines[1], *lines[3:]],
        lines[:-1],
    ):
        path.write_text("".join(changed), encoding="utf-8")
        key = planned(spec).run_key
        assert key not in keys, changed
        keys.add(key)
    path.write_text("".join(lines), encoding="utf-8")
    assert planned(spec).run_key in keys


def _change_json(name: str, change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def changed(folder: Path) -> None:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
        change(content)
        (folder / name).write_text(json.dumps(content), encoding="utf-8")

    return changed


def _change_a_weight(folder: Path) -> None:
    path = folder / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _swap_two_words(content: dict[str, Any]) -> None:
    words = content["model"]["vocab"]
    words["the"], words["but"] = words["but"], words["the"]


CHANGED_MODELS = {
    "a weight": _change_a_weight,
    "config.json": _change_json("config.json", lambda config: config.update(layer_norm_eps=1e-5)),
    "the tokenizer": _change_json("tokenizer.json", _swap_two_words),
}


@pytest.mark.parametrize("what", CHANGED_MODELS)
def test_every_part_of_a_model_makes_the_run(spec: dict[str, Any], what: str) -> None:
    key = planned(spec).run_key
    CHANGED_MODELS[what](Path(spec["model"]))
    assert planned(spec).run_key != key


def test_the_way_config_json_is_written_and_where_things_are_make_no_other_run(
    spec: dict[str, Any], tmp_path: Path
) -> None:
    key = planned(spec).run_key
    _change_json("config.json", lambda config: config.update(sorted(config.items(), reverse=True)))(
        Path(spec["model"])
    )
    for name in ("model", "data_dir"):
        copy = tmp_path.parent / f"{tmp_path.name}-{name}"
        shutil.copytree(spec[name], copy, ignore=shutil.ignore_patterns("model"))
        spec[name] = str(copy)
    assert planned(spec).run_key == key


def test_the_commit_of_a_model_and_of_a_dataset_make_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = {planned(BUNDLED).run_key}
    folder = find_model("bundled", task="sst2").folder
    for hub_id, commit in (("org/one", "a"), ("org/one", "b"), ("org/two", "b")):
        source = ModelSource(hub_id, folder, hub_id, commit)
        monkeypatch.setattr(inputs, "find_model", lambda *_, found=source, **__: found)
        keys.add(planned(BUNDLED).run_key)
    assert len(keys) == 4
    for commit in ("c", "d"):
        rows = replace(load_dataset_for(make_spec(BUNDLED).data), revision=commit)
        monkeypatch.setattr(inputs, "load_dataset_for", lambda _, found=rows: found)
        keys.add(planned(BUNDLED).run_key)
    assert len(keys) == 6


def test_every_part_of_the_identity_is_part_of_the_key() -> None:
    identity = planned(BUNDLED).identity
    keys = {run_key(identity)} | {
        run_key({name: value for name, value in identity.items() if name != left_out})
        for left_out in identity
    }
    assert len(keys) == 1 + len(identity)
    assert set(identity["model"]) == {"sha256"}


def test_the_order_of_keys_does_not_matter_and_values_do() -> None:
    assert run_key({"a": 1, "b": 2}) == run_key({"b": 2, "a": 1})
    assert run_key({"a": 1, "b": 2}) != run_key({"a": 1, "b": 3})
    assert run_key({"a": 1}) != content_key({"a": 1}), "the version is part of the key"


def test_numbers_are_written_as_given() -> None:
    assert canonical_json({"x": 0.001, "n": None, "ok": True}) == '{"n":null,"ok":true,"x":0.001}'


def test_nan_is_refused() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        content_key({"tolerance": math.nan})
