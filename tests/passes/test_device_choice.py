"""Which device a run is planned for, on a machine that may have no GPU, or too few."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.fake_cuda import pretend

from attattr_batch.engine.devices import device_for
from attattr_batch.errors import UserError
from attattr_batch.passes.planning import plan_attribution
from attattr_batch.runtime import submission
from attattr_batch.spec import MachineSettings, make_spec

GPUS = [{"gpus": 1, "count": 8}, {"cpus": 4, "count": 2}]


@pytest.mark.parametrize(
    ("settings", "device"),
    [
        ({}, "cpu"),
        ({"workers": 4, "address": "head:6379"}, "cpu"),
        ({"workers": GPUS, "address": "head:6379"}, "cuda"),
        ({"workers": GPUS, "address": "head:6379", "device": "cpu"}, "cpu"),
        ({"workers": 4, "address": "head:6379", "device": "cuda"}, "cuda"),
    ],
)
def test_a_cluster_s_gpus_need_not_be_here(
    settings: dict[str, Any], device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_for(MachineSettings(**settings)) == device


@pytest.mark.parametrize("settings", [{"workers": GPUS}, {"device": "cuda"}])
def test_gpus_of_this_machine_must_be_there(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UserError, match="no CUDA device here"):
        device_for(MachineSettings(**settings))


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [
        ({"workers": 3}, 3),
        ({"workers": 3, "device": "cuda"}, 3),
        ({"workers": GPUS}, 8),
        ({"workers": [{"gpus": 2, "count": 2}]}, 4),
        ({"workers": [{"gpus": 0.5, "count": 5}]}, 3),
        ({"workers": [{"gpus": 0.6, "count": 3}]}, 3),  # each needs a GPU of which it leaves 0.4
        ({"workers": [{"gpus": 0.1, "count": 30}]}, 3),
        ({"workers": [{"gpus": 0.5, "count": 2}, {"gpus": 1, "count": 2}]}, 3),
        ({"workers": [{"gpus": 1}], "device": "cpu"}, 1),  # Ray would wait for the GPU all the same
    ],
)
def test_more_workers_than_gpus_are_refused_before_anything_starts(
    settings: dict[str, Any], gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, *[80] * gpus)
    device_for(MachineSettings(**settings))
    device_for(MachineSettings(**settings, address="head:6379"))
    pretend(monkeypatch, *[80] * (gpus - 1))
    device_for(MachineSettings(**settings, address="head:6379"))
    with pytest.raises(UserError, match="ask for more GPUs than this machine has") as error:
        device_for(MachineSettings(**settings))
    assert f"and {gpus - 1} here" in str(error.value)
    assert f"allowed: at most {gpus - 1}; workers may share one" in str(error.value)
    assert "next:    ask for fewer `workers`" in str(error.value)


@pytest.mark.parametrize("address", [None, "head:6379"])
def test_a_worker_has_a_part_of_one_gpu_or_whole_ones(
    address: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ray refuses the rest, without a message for the user."""
    pretend(monkeypatch, 80, 80)
    machine = MachineSettings.model_validate({"workers": [{"gpus": 1.5}], "address": address})
    with pytest.raises(UserError, match="gpus: 1.5"):
        device_for(machine)


def test_ten_tenths_of_a_gpu_are_one_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 80)
    tenths = [{"gpus": 0.1, "count": 3}, {"gpus": 0.1, "count": 7}]  # in sum 1.0000000000000002
    assert device_for(MachineSettings.model_validate({"workers": tenths})) == "cuda"


def test_workers_without_gpus_need_none(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, 80)
    for settings in ({}, {"workers": 1}, {"workers": [{"count": 9}]}):
        assert device_for(MachineSettings(**settings)) == "cuda"
    assert device_for(MachineSettings(workers=9, device="cpu")) == "cpu"


def planned(**settings: Any) -> Any:
    return plan_attribution(make_spec({"task": "sst2", "model": "bundled", "data_dir": "bundled"} | settings))


@pytest.mark.parametrize("pools", [None, GPUS])
def test_the_plan_of_a_gpu_has_its_chunks_and_checks_its_arithmetic(
    pools: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, *[80] * 8, capability=(7, 5))
    plan = planned(workers=pools)
    assert (plan.work.device, plan.work.dtype) == ("cuda", "float32")
    assert (plan.chunk_tokens, plan.chunk_examples) == (16_384, 64 if pools else 1024)
    assert plan.work.batch_tokens == 65_536
    with pytest.raises(UserError, match="cannot compute in bfloat16"):
        planned(workers=pools, dtype="bfloat16")
    there = planned(workers=4, dtype="bfloat16", device="cuda", address="head:6379")
    assert there.work.dtype == "bfloat16", "what the workers there can do, they say themselves"


def test_a_submission_is_planned_without_the_gpus_that_only_the_cluster_has(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    pretend(monkeypatch)
    fixed = {"task": "sst2", "model": "bundled", "data_dir": "bundled"}
    plain, gpus = make_spec(fixed), make_spec(fixed | {"workers": GPUS, "executor": "ray"})
    keys = {submission._key([spec], tmp_path) for spec in (plain, gpus)}
    assert len(keys) == 1, "machines are no part of the identity"
