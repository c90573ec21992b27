"""Which device a run is planned for, on a machine that may have no GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from attattr_batch.engine.devices import device_for
from attattr_batch.errors import UserError
from attattr_batch.spec import MachineSettings

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
