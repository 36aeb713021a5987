"""SSIM over a volume against a plain three-dimensional convolution."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from basicsr.metrics import calculate_metric, calculate_ssim

from compacter_arch.metrics import calculate_ssim3d


def slow_ssim3d(img: np.ndarray, img2: np.ndarray) -> float:
    """One 11 x 11 x 11 window, moved over rows, columns and channels."""
    line = cv2.getGaussianKernel(11, 1.5)[:, 0]
    window = torch.tensor(np.einsum("i,j,k->ijk", line, line, line))[None, None]

    def mean(volume: torch.Tensor) -> torch.Tensor:
        return F.conv3d(F.pad(volume, (5,) * 6, mode="replicate"), window)

    x, y = (torch.tensor(image.astype(np.float64))[None, None] for image in (img, img2))
    mx, my = mean(x), mean(y)
    vx, vy, cov = mean(x * x) - mx * mx, mean(y * y) - my * my, mean(x * y) - mx * my
    c1, c2 = 2.55**2, 7.65**2
    ssim = ((2 * mx * my + c1) * (2 * cov + c2)) / ((mx**2 + my**2 + c1) * (vx + vy + c2))
    return float(ssim.mean())


@pytest.mark.parametrize(("shape", "seed"), [((24, 31, 3), 0), ((11, 12, 3), 1), ((40, 16, 3), 2)])
def test_equals_the_plain_convolution(shape, seed):
    rng = np.random.default_rng(seed)
    img = cv2.resize(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), shape[1::-1])
    img2 = (img + rng.normal(0, 20, shape)).clip(0, 255).astype(np.uint8)
    assert calculate_ssim3d(img, img2, 0) == pytest.approx(slow_ssim3d(img, img2), abs=1e-9)
    inner = slow_ssim3d(img[2:-2, 2:-2], img2[2:-2, 2:-2])
    options = {"type": "calculate_ssim3d", "crop_border": 2}
    assert calculate_metric({"img": img, "img2": img2}, options) == pytest.approx(inner, abs=1e-9)


def test_noise_costs_less_than_by_channel():
    rng = np.random.default_rng(0)
    img = cv2.resize(rng.integers(0, 256, (6, 6, 3)).astype(np.uint8), (64, 64))
    noisy = (img + rng.normal(0, 15, img.shape)).clip(0, 255).astype(np.uint8)
    loss, loss_by_channel = 1 - calculate_ssim3d(noisy, img, 0), 1 - calculate_ssim(noisy, img, 0)
    assert loss < 0.8 * loss_by_channel
    assert calculate_ssim3d(img, img, 0) == pytest.approx(1)


def test_refuses():
    with pytest.raises(ValueError, match="not two RGB images"):
        calculate_ssim3d(np.zeros((16, 16, 3)), np.zeros((16, 17, 3)), 0)
    with pytest.raises(ValueError, match="not two RGB images"):
        calculate_ssim3d(np.zeros((16, 16)), np.zeros((16, 16)), 0)
