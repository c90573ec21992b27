"""A GPU that this process can no longer use is told from an error that is over."""

from __future__ import annotations

import pytest
import torch

from attattr_batch.engine.devices import gpu_lost


def refuse() -> None:
    raise torch.AcceleratorError("CUDA error: device-side assert triggered\nCompile with ...")


def test_a_process_that_uses_no_gpu_has_lost_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse)
    assert not gpu_lost()


@pytest.mark.parametrize("lost", [True, False])
def test_what_counts_is_whether_the_gpu_still_answers(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", refuse if lost else lambda: None)
    assert gpu_lost() is lost
