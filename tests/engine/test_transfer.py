"""One copy for many tensors: each comes back with its own shape, type and numbers."""

from __future__ import annotations

import numpy as np
import torch

from attattr_batch.engine.transfer import to_device, to_host


def test_tensors_of_all_kinds_come_back() -> None:
    drawn = torch.Generator().manual_seed(0)
    tensors = [
        torch.tensor([True, False, True]),
        torch.randn((3, 4), generator=drawn),
        torch.arange(5),
        torch.randn((2, 2), dtype=torch.float64, generator=drawn),
        torch.randn((2, 3, 4), generator=drawn).transpose(0, 2),
        torch.empty(0, 4),
        torch.arange(3, dtype=torch.int32),
        torch.tensor(7.0, requires_grad=True),
    ]
    for tensor, array in zip(tensors, to_host(tensors), strict=True):
        assert array.dtype == tensor.detach().numpy().dtype
        np.testing.assert_array_equal(array, tensor.detach().numpy(), strict=True)
        assert array.flags.aligned


def test_an_array_goes_to_the_device_in_the_type_asked_for() -> None:
    array = np.array([0.1, 2.0])
    assert to_device(array, torch.device("cpu")).dtype == torch.float64
    assert to_device(array, torch.device("cpu"), torch.float32).tolist() == [np.float32(0.1), 2.0]
