"""The GPU benchmark, without a GPU: what it counts is right, what it lacks is named, what it has is kept."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import arithmetic
import document
import gpu
import gpu_parts
import gpu_work
import numpy as np
import pytest
import torch
import wheels

CPU = torch.device("cpu")


def test_rows_are_as_long_as_mnli_s() -> None:
    found = gpu_work.lengths(9_815)
    assert found == gpu_work.lengths(9_815)
    assert (min(found), max(found)) == (6, 127) or max(found) == 128
    assert np.mean(found) == pytest.approx(39.05, rel=0.05)
    assert np.median(found) == pytest.approx(36, abs=1)


def test_operations_are_those_of_the_accepted_nodes() -> None:
    from attattr_batch.spec import MethodSettings

    shape = arithmetic.Shape(3, 32, 64)
    encoder = gpu_work.random_encoder(shape, CPU, 0.02)
    chunks = gpu_work.random_chunks(6, 64, 4, longest=12)
    assert sum(len(chunk.examples) for chunk in chunks) == 6
    found = gpu_work.measure(encoder, shape, chunks, MethodSettings(target="gold"), 512)
    assert (found.rows, found.nodes, found.certified, found.peak) == (6, 5.0, 1.0, 0)
    tokens = [example.n_tokens for chunk in chunks for example in chunk.examples]
    replays = sum(4 * arithmetic.replay(shape, layer, one) for layer in range(3) for one in tokens)
    assert found.operations == replays + sum(arithmetic.clean(shape, one) for one in tokens)


def bench(until: float) -> gpu_parts.Bench:
    return gpu_parts.Bench(CPU, gpu_parts.REHEARSAL, rehearsal=True, until=until)


def result(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "gpu-rates.json").read_text())
    return found


def test_a_rate_for_every_arithmetic(tmp_path: Path) -> None:
    assert gpu.run_part("rates", bench(time.monotonic() + 60), tmp_path, "0123456789abcdef")
    found = result(tmp_path)
    assert found["commit"] == "0123456789"
    assert str(found["machine"]).endswith("no GPU used")
    (table,) = found["tables"]
    assert [row[0] for row in table["rows"]] == ["float32", "float16", "bfloat16"]
    assert all(float(rate) > 0 for row in table["rows"] for rate in row[1:])


@pytest.mark.parametrize(
    ("ending", "good", "note"), [("limit", True, "its time limit"), ("error", False, "an error")]
)
def test_a_part_that_ends_leaves_its_lines(
    ending: str, good: bool, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lines(_: gpu_parts.Bench) -> Iterator[list[Any]]:
        yield ["float32", "1", "2", "3"]
        if ending == "limit":
            time.sleep(60)
        raise ArithmeticError("cannot go on")

    part = gpu_parts.Part("Rates", ("a", "b", "c", "d"), lines, 0.2)
    monkeypatch.setitem(gpu_parts.PARTS, "rates", part)
    assert gpu.run_part("rates", bench(time.monotonic() + 0.2), tmp_path, "") is good
    (table,) = result(tmp_path)["tables"]
    assert table["rows"] == [["float32", "1", "2", "3"]]
    assert note in table["note"]


def test_what_is_missing_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lacking = gpu_parts.Part("Rates", ("a",), lambda _: iter(()), 1.0, ("torch", "no_such_package"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(gpu_parts.PARTS, "rates", lacking)
        patch.setitem(wheels.NEEDS, "nothing", "torch no_such.package")
        assert gpu.run_part("rates", bench(time.monotonic() + 1), tmp_path, "")
        assert wheels.missing()["nothing"] == ["no_such.package"]
    assert "no_such_package missing" in capsys.readouterr().out


def test_packs_are_small_and_bring_the_same_wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wheels, "PART_BYTES", 10)
    monkeypatch.setattr(wheels, "PACK_BYTES", 30)
    made, there = tmp_path / "made", tmp_path / "there"
    made.mkdir()
    there.mkdir()
    content = {"ray-2-x.whl": bytes(range(47)), "small-1-x.whl": b"small", "pyarrow-3-x.whl": b"p" * 23}
    for name, data in content.items():
        (made / name).write_bytes(data)
    packs = wheels.packs(made)
    assert all(sum(file.stat().st_size for file in pack) <= 30 for pack in packs)
    assert packs[0][0].name == "small-1-x.whl"
    assert all(file.name.startswith("ray") for file in packs[-1])
    found: dict[str, bytes] = {}
    for pack in packs:
        for file in pack:
            file.rename(there / file.name)
        found |= {wheel.name: wheel.read_bytes() for wheel in wheels.joined(there)}
    assert found | {"small-1-x.whl": (there / "small-1-x.whl").read_bytes()} == content


def test_every_wheel_has_a_version() -> None:
    pinned = {line.partition("==")[0] for line in (wheels.ROOT / "constraints.txt").read_text().splitlines()}
    assert set(wheels.WANTED) <= pinned


def test_results_of_a_gpu_are_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "RESULTS", tmp_path)
    assert "No GPU was at hand" in document.markdown()
    where = document.provenance("NVIDIA H100, 79 GiB, CUDA 13.0", "0123456789")
    tables = [document.table("Rates", ("dtype",), [["float32"]])]
    one = {"title": "On a GPU: Rates", "command": gpu.COMMAND, **where, "tables": tables}
    document.write(tmp_path, "gpu-rates", one)
    text = document.markdown()
    assert "No GPU was at hand" not in text
    assert "NVIDIA H100, 79 GiB, CUDA 13.0" in text.split("## Machines")[1]
