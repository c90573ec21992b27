"""Whole commands on a GPU, and what they do when it runs out of memory or is lost."""

from __future__ import annotations

import gc
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import tiny
from helpers.gpu import DEVICE, MARKS, only_cuda, skip_lacking

for package in ("pyarrow", "sqlalchemy", "duckdb", "alembic", "datasets"):
    pytest.importorskip(package, reason=f"{package} is missing: no store, so no runs")

from helpers.asserting import POISON
from helpers.toy import rows_of, toy_model, toy_rows, write_sst2

from attattr_batch.cli.main import run_command_line
from attattr_batch.data.records import Chunk
from attattr_batch.engine.families import encoder_for
from attattr_batch.engine.model_source import ModelSource
from attattr_batch.passes.attribute import AttributeWork
from attattr_batch.spec import MethodSettings

pytestmark = MARKS

BUNDLED = "run --task sst2 --model bundled --data-dir bundled --limit 24 --executor local".split()


def command(db: Path, *arguments: str) -> int:
    """Runs a command in this process; returns its exit code."""
    return run_command_line([*arguments, "--db", str(db)])


@pytest.fixture(scope="module")
def on_cpu(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run of the bundled data, made on the CPU."""
    db = tmp_path_factory.mktemp("cpu") / "cpu.duckdb"
    assert command(db, *BUNDLED, "--device", "cpu") == 0
    return db


def numbers(db: Path, table: str, keys: str, values: str) -> dict[Any, Any]:
    """Values of a table's rows by their keys."""
    n_keys, query = len(keys.split(",")), f"SELECT {keys}, {values} FROM {table}"
    return {row[:n_keys]: row[n_keys:] for row in rows_of(db, query)}


def assert_close(one: dict[Any, Any], other: dict[Any, Any], allowed: float) -> None:
    assert one.keys() == other.keys() and one
    furthest = max(abs(a - b) for key in one for a, b in zip(one[key], other[key], strict=True))
    assert furthest < allowed


@pytest.mark.parametrize("dtype", ["float32", "auto"])
def test_a_run_stores_what_the_cpu_stores(dtype: str, on_cpu: Path, tmp_path: Path) -> None:
    skip_lacking(dtype)
    db = tmp_path / "gpu.duckdb"
    assert command(db, *BUNDLED, "--device", DEVICE.type, "--dtype", dtype) == 0
    assert command(db, "verify") == 0
    ((provenance,),) = rows_of(db, "SELECT provenance FROM runs")
    assert json.loads(provenance)["device"] == DEVICE.type
    predicted = "example_id, predicted"
    assert rows_of(db, f"SELECT {predicted} FROM predictions ORDER BY ALL") == rows_of(
        on_cpu, f"SELECT {predicted} FROM predictions ORDER BY ALL"
    )
    heads = ("head_scores", "example_id, target, layer, head", "attr_max, attr_sum")
    assert_close(numbers(db, *heads), numbers(on_cpu, *heads), 2e-3)
    layers = ("layer_scores", "example_id, target, layer", "f_full, f_zero")
    assert_close(numbers(db, *layers), numbers(on_cpu, *layers), 1e-4 if dtype == "float32" else 1e-3)


def test_masked_and_attacked_answers_are_the_cpu_s(on_cpu: Path, tmp_path: Path) -> None:
    """Two copies of one run, so that both devices are asked the same."""
    small = "replicates=5 patterns=2 victims=3 control_draws=1 report_victims=3 report_draws=1 draws=2"
    params = [argument for one in small.split() for argument in ("--param", one)]
    stores = [tmp_path / "cpu.duckdb", tmp_path / "gpu.duckdb"]
    for db, device in zip(stores, ("cpu", DEVICE.type), strict=True):
        shutil.copy(on_cpu, db)
        assert command(db, "jobs", "run", "--device", device, *params) == 0
    for table, keys in (
        ("masked_answers", "job, example_id, criterion, direction, draw, step, layer, head"),
        ("attacked_answers", "job, example_id, pattern, control, draw"),
    ):
        here, there = (numbers(db, table, keys, "prob_gold") for db in stores)
        assert_close(there, here, 1e-4)


def work() -> AttributeWork:
    return AttributeWork(
        source=ModelSource("tiny", Path("nowhere")),
        device=DEVICE.type,
        outputs=(0, 1, 2),
        batch_tokens=4096,
        method=MethodSettings(quadrature="gauss-legendre", nodes=4, target="gold"),
    )


def test_a_chunk_s_rows_are_the_cpu_s() -> None:
    chunk = Chunk(tuple(tiny.examples((9, 5, 12, 7, 10, 6))))
    here = replace(work(), device="cpu").compute(encoder_for(tiny.classifier("bert")), chunk)()
    there = work().compute(encoder_for(tiny.classifier("bert").to(DEVICE)), chunk)()
    assert there.keys() == here.keys()
    for name, table in here.items():
        for found, expected in zip(there[name].to_pylist(), table.to_pylist(), strict=True):
            for column, value in expected.items():
                exact = not isinstance(value, (float, list))
                assert found[column] == (value if exact else pytest.approx(value, rel=1e-3, abs=1e-5)), column


@only_cuda("a CPU's memory has no limit that a test could set")
def test_a_chunk_too_large_for_the_memory_is_halved(tmp_path: Path) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 1024, "num_hidden_layers": 4, "num_attention_heads": 4}
    settings: dict[str, Any] = {"initializer_range": 0.05, **sizes}
    model = toy_model(tmp_path / "model", **settings)
    data = write_sst2(tmp_path, dev=[(" ".join([text] * 5), label) for text, label in toy_rows(64, seed=1)])
    run = ["run", "--task", "sst2", "--model", str(model), "--data-dir", str(data), "--device", "cuda"]
    run += ["--batch-tokens", "1000000", "--executor", "local"]
    peaks = []
    for name, limit in (("whole", 64), ("half", 32)):
        _forget_memory()
        assert command(tmp_path / f"{name}.duckdb", *run, "--limit", str(limit)) == 0
        peaks.append(torch.cuda.max_memory_reserved())
    assert peaks[1] < 0.8 * peaks[0], "half a chunk does not take less: the limit would say nothing"
    _forget_memory()
    refused = torch.cuda.memory_stats()["num_ooms"]
    torch.cuda.set_per_process_memory_fraction(
        sum(peaks) / 2 / torch.cuda.get_device_properties(0).total_memory
    )
    try:
        assert command(tmp_path / "limited.duckdb", *run) == 0
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert torch.cuda.memory_stats()["num_ooms"] > refused, "the limit was never met"
    heads = ("head_scores", "example_id, target, layer, head", "attr_max, attr_sum")
    found, expected = (numbers(tmp_path / f"{name}.duckdb", *heads) for name in ("limited", "whole"))
    assert_close(found, expected, 1e-4)


def _forget_memory() -> None:
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()


@only_cuda("a CPU has no device-side assert")
def test_a_process_that_loses_its_gpu_ends_with_a_message(tmp_path: Path) -> None:
    script = Path(__file__).resolve().parents[1] / "helpers" / "asserting.py"
    ended = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 2, ended.stderr[-2000:]
    assert "can no longer use its GPU" in ended.stdout
    assert "--executor ray" in ended.stdout
    committed = [one for (one,) in rows_of(tmp_path / "attattr.duckdb", "SELECT example_id FROM ledger")]
    assert sorted(committed) == list(range(POISON)), "the chunks before the one that asserts are kept"
