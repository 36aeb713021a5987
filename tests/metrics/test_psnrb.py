"""PSNR-B against its formula, written pixel by pixel."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_metric, calculate_psnr
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.metrics import calculate_psnrb


def slow_psnrb(img: np.ndarray, img2: np.ndarray) -> float:
    """Equations of Yim and Bovik, section III, one gray image."""
    img, img2 = img.astype(float), img2.astype(float)
    height, width = img.shape
    at_borders = elsewhere = 0.0
    for y in range(height):
        for x in range(width - 1):
            step = (img[y, x] - img[y, x + 1]) ** 2
            at_borders, elsewhere = (
                (at_borders + step, elsewhere) if x % 8 == 7 else (at_borders, elsewhere + step)
            )
    for y in range(height - 1):
        for x in range(width):
            step = (img[y, x] - img[y + 1, x]) ** 2
            at_borders, elsewhere = (
                (at_borders + step, elsewhere) if y % 8 == 7 else (at_borders, elsewhere + step)
            )
    borders = height * (width // 8 - 1) + width * (height // 8 - 1)
    others = height * (width - 1) + width * (height - 1) - borders
    excess = at_borders / borders - elsewhere / others
    effect = math.log2(8) / math.log2(min(height, width)) * excess if excess > 0 else 0
    return 10 * math.log10(255**2 / (((img - img2) ** 2).mean() + effect))


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sides=st.tuples(st.integers(16, 41), st.integers(16, 41)),
    quality=st.integers(1, 60),
)
def test_equals_the_slow_formula(seed: int, sides: tuple[int, int], quality: int) -> None:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6)).astype(np.uint8)
    gt = cv2.resize(noise, sides[::-1], interpolation=cv2.INTER_CUBIC)
    content = cv2.imencode(".jpg", gt, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    img = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE)
    assert calculate_psnrb(img, gt, 0) == pytest.approx(slow_psnrb(img, gt), abs=1e-9)


def test_counts_blocks_and_nothing_else() -> None:
    """Blocks cost, in the first image alone; shifted off the grid they do not."""
    gt = np.full((64, 64), 128, np.uint8)
    blocks = gt + np.kron(np.indices((8, 8)).sum(0) % 2, np.full((8, 8), 8)).astype(np.uint8)
    assert calculate_psnrb(blocks, gt, 0) < calculate_psnr(blocks, gt, 0) - 1
    assert calculate_psnrb(gt, blocks, 0) == pytest.approx(calculate_psnr(gt, blocks, 0))
    shifted = np.roll(blocks, 4, (0, 1))
    assert calculate_psnrb(shifted, gt, 0) == pytest.approx(calculate_psnr(shifted, gt, 0))
    assert calculate_psnrb(gt, gt, 0) == math.inf


def test_colour_y_and_border() -> None:
    rng = np.random.default_rng(0)
    img, gt = rng.integers(0, 256, (2, 40, 48, 3)).astype(np.uint8)
    options = {"type": "calculate_psnrb", "crop_border": 4, "test_y_channel": True}
    y = [im[4:-4, 4:-4] @ [24.966, 128.553, 65.481] / 255 + 16 for im in (img, gt)]
    result = calculate_metric({"img": img, "img2": gt}, options)
    assert result == pytest.approx(slow_psnrb(*y), abs=1e-4)


def test_refuses() -> None:
    image = np.zeros((32, 32), np.uint8)
    with pytest.raises(ValueError, match="shapes differ"):
        calculate_psnrb(image, image[:16], 0)
    with pytest.raises(ValueError, match="no border of blocks"):
        calculate_psnrb(image[:15], image[:15], 0)
