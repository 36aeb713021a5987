"""The loss against its formula, computed by NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from basicsr.losses import build_loss

from compacter_arch.losses import FrequencyLoss, L1FrequencyLoss


@pytest.mark.parametrize("weights", [(1.0, 0.1), (2.0, 0.5), (1.0, 0.0)])
def test_equals_its_formula(weights):
    loss_weight, frequency_weight = weights
    rng = np.random.default_rng(0)
    x, y = rng.random((2, 3, 7, 10)), rng.random((2, 3, 7, 10))
    l1 = np.abs(x - y).mean()
    difference = np.fft.fft2(x) - np.fft.fft2(y)
    frequency = (np.abs(difference.real).mean() + np.abs(difference.imag).mean()) / 2
    loss = L1FrequencyLoss(loss_weight, frequency_weight)(torch.tensor(x), torch.tensor(y))
    assert loss.item() == pytest.approx(loss_weight * (l1 + frequency_weight * frequency), rel=1e-5)
    alone = FrequencyLoss(loss_weight)(torch.tensor(x), torch.tensor(y))
    assert alone.item() == pytest.approx(loss_weight * frequency, rel=1e-5)


def test_is_zero_for_equal_images_and_has_a_gradient():
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    assert L1FrequencyLoss()(x, x.detach()).item() == 0
    L1FrequencyLoss()(x, torch.rand(1, 3, 8, 8)).backward()
    assert x.grad is not None and x.grad.isfinite().all() and x.grad.abs().sum() > 0


def test_half_precision_is_computed_in_float32():
    x, y = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)
    exact = L1FrequencyLoss()(x, y)
    half = L1FrequencyLoss()(x.bfloat16(), y)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=0.02, atol=0)


def test_is_built_from_options():
    options = {"type": "L1FrequencyLoss", "loss_weight": 1.0, "reduction": "mean"}
    assert isinstance(build_loss(options), L1FrequencyLoss)
    with pytest.raises(ValueError, match="reduction"):
        build_loss(options | {"reduction": "sum"})
