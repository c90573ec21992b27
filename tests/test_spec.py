"""Run specs: files, defaults, overrides, paths, and every refusal."""

from pathlib import Path

import pytest

from attattr_batch.errors import UserError
from attattr_batch.files import data_folder
from attattr_batch.spec import (
    PARTS,
    RUN_KEYS,
    MachineSettings,
    MethodSettings,
    RunSpec,
    WorkerPool,
    make_settings,
    make_spec,
)
from attattr_batch.spec_file import load_spec


def written(folder: Path, text: str) -> Path:
    path = folder / "spec.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults_and_runs_are_merged_and_flags_win(tmp_path: Path) -> None:
    path = written(
        tmp_path,
        "defaults: {model: bundled, data_dir: bundled, top_k: 3}\n"
        "runs:\n- {task: sst2}\n- {task: rte, top_k: 7, limit: 9}\n",
    )
    first, second = load_spec(path, {"limit": 4})
    assert (first.data.task, first.method.top_k, first.data.limit) == ("sst2", 3, 4)
    assert (second.data.task, second.method.top_k, second.data.limit) == ("rte", 7, 4)


def test_paths_are_relative_to_the_file_but_hub_ids_stay(tmp_path: Path) -> None:
    (tmp_path / "glue").mkdir()
    path = written(tmp_path, "{task: sst2, model: org/name, data_dir: glue}")
    (spec,) = load_spec(path)
    assert spec.model == "org/name"
    assert spec.data.data_dir == str(tmp_path / "glue")
    (dotted,) = load_spec(written(tmp_path, "{task: sst2, model: ./missing}"))
    assert dotted.model == str(tmp_path / "missing")


@pytest.mark.parametrize(
    ("stage", "found"),
    [
        ("staged", "{folder}/staged"),
        ("shared/staged", "{folder}/shared/staged"),
        ("../staged", "{above}/staged"),
        ("/mnt/staged", "/mnt/staged"),
        ("s3://bucket/staged", "s3://bucket/staged"),
    ],
)
def test_a_stage_need_not_be_there_to_be_relative_to_the_file(tmp_path: Path, stage: str, found: str) -> None:
    (spec,) = load_spec(written(tmp_path, f"{{task: sst2, model: bundled, stage: '{stage}'}}"))
    assert spec.machine.stage == found.format(folder=tmp_path, above=tmp_path.parent)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"task": "sst2", "model": "m", "tolerence": 1}, "did you mean 'tolerance'"),
        ({"task": "sst2", "model": "m", "limit": 0}, "limit: .*greater than or equal to 1"),
        ({"task": "sst2"}, "model: Field required"),
        ({"model": "m"}, "give `task`"),
        ({"task": "sst2", "model": "m", "nodes": 5}, "`nodes` needs a fixed `quadrature`"),
        ({"task": "sst2", "model": "m", "quadrature": "left-riemann"}, "needs `nodes`"),
        (
            {"task": "sst2", "model": "m", "quadrature": "left-riemann", "nodes": 5, "tolerance": 0.01},
            "`tolerance` needs `quadrature: adaptive`",
        ),
        (
            {"task": "sst2", "model": "m", "quadrature": "midpoint", "nodes": 5},
            "quadrature: .*'adaptive', 'left-riemann', 'right-riemann' or 'gauss-legendre'",
        ),
        ({"task": "sst2", "model": "m", "columns": {"text_c": "x"}}, r"got: +columns\.text_c"),
        ({"task": "sst2", "model": "m", "data": {"limit": 3}}, "unknown key 'data'"),
        ({"task": "sst2", "model": "m", "machine": {}}, "unknown key 'machine'"),
        ({"task": "sst2", "model": "m", "name": "../escape"}, "name: String should match"),
        ({"task": "sst2", "model": "m", "dataset": "d.csv", "data_dir": "g"}, "exclude each other"),
        ({"task": "sst2", "model": "m", "tolerance": float("nan")}, "tolerance"),
    ],
)
def test_wrong_settings_are_refused_by_name(values: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        make_spec(values)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- a\n- b\n", "must be a mapping"),
        ("task: [", "not valid YAML"),
        ("runs: []\n", "runs: .*at least 1"),
        ("runs:\n- 3\n", r"runs\.0: .*dictionary"),
        ("defaults: {task: sst2}\nruns: [{model: m}]\nlimit: 3\n", "unknown key 'limit'"),
        ("", "must be a mapping"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load_spec(written(tmp_path, text))


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the run spec"):
        load_spec(tmp_path / "none.yaml")
    (tmp_path / "bin.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="cannot read the run spec"):
        load_spec(tmp_path / "bin.yaml")


def test_the_shipped_quickstart_is_usable() -> None:
    specs = load_spec(data_folder("jobs") / "runs" / "quickstart.yaml")
    assert [spec.data.task for spec in specs] == ["sst2", "mrpc", "rte", "mnli"]
    assert all(isinstance(spec, RunSpec) and spec.model == "bundled" for spec in specs)


def test_one_name_for_several_runs_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "defaults: {model: m}\nruns:\n- {task: sst2}\n- {task: rte}\n")
    with pytest.raises(UserError, match="several runs at once"):
        load_spec(path, {"name": "one"})


def test_an_output_of_a_label_map_may_be_a_number(tmp_path: Path) -> None:
    (spec,) = load_spec(written(tmp_path, "{task: sst2, model: m, label_map: {0: negative, '1': positive}}"))
    assert spec.label_map == {"0": "negative", "1": "positive"}


def test_every_key_says_what_it_means() -> None:
    assert [key for key, field in RUN_KEYS.items() if not field.description] == []
    assert all(field.description for field in WorkerPool.model_fields.values())


def test_users_write_every_key_beside_the_others() -> None:
    given = {"name": "one", "task": "sst2", "model": "bundled", "limit": 3, "top_k": 2, "device": "cpu"}
    spec = make_spec(given)
    assert (spec.data.limit, spec.method.top_k, spec.machine.device) == (3, 2, "cpu")
    flat = spec.flat()
    assert list(flat) == list(RUN_KEYS)
    assert not set(flat) & set(PARTS)
    assert {key: flat[key] for key in given} == given
    assert make_spec(flat) == spec


def test_a_part_is_checked_alone() -> None:
    assert make_settings(MethodSettings, {"target": "gold"}).target == "gold"
    with pytest.raises(UserError, match="unknown key 'limit'"):
        make_settings(MethodSettings, {"limit": 3})
    with pytest.raises(UserError, match="unknown key 'machine'"):
        make_settings(MachineSettings, {"machine": 3})
