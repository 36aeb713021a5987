"""The loss is minus the PSNR, image by image, with the frequency term beside it."""

from __future__ import annotations

import pytest
import torch
from basicsr.losses import build_loss
from skimage.metrics import peak_signal_noise_ratio

from compacter_arch.losses import FrequencyLoss, PSNRLoss


def test_is_minus_the_mean_psnr():
    x, y = torch.rand(3, 3, 9, 14), torch.rand(3, 3, 9, 14)
    y[1] = x[1] + 0.01  # an image of small error counts as much as the others
    psnr = [
        peak_signal_noise_ratio(b.numpy(), a.numpy(), data_range=1.0)
        for a, b in zip(x, y, strict=True)
    ]
    assert PSNRLoss()(x, y).item() == pytest.approx(-sum(psnr) / 3, abs=0.01)


def test_adds_the_frequency_term():
    x, y = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    both = PSNRLoss(2.0, frequency_weight=0.1)(x, y)
    assert both.item() == pytest.approx(
        2 * (PSNRLoss()(x, y) + 0.1 * FrequencyLoss()(x, y)).item(), rel=1e-6
    )


def test_equal_images_have_a_finite_loss_and_gradient():
    x = torch.rand(1, 3, 8, 8, requires_grad=True)
    loss = PSNRLoss()(x, x.detach())
    loss.backward()
    assert loss.item() == pytest.approx(-80, abs=1e-3) and x.grad.isfinite().all()


def test_is_built_from_options():
    options = {"type": "PSNRLoss", "loss_weight": 1.0, "reduction": "mean"}
    assert isinstance(build_loss(options), PSNRLoss)
    with pytest.raises(ValueError, match="PSNRLoss: reduction"):
        build_loss(options | {"reduction": "none"})
