"""PSNR-B: PSNR that counts visible block borders, for JPEG artefact removal."""

from __future__ import annotations

import math

import numpy as np
from basicsr.metrics.metric_util import reorder_image, to_y_channel

BLOCK = 8  # pixels, JPEG's


def calculate_psnrb(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int,
    input_order: str = "HWC",
    test_y_channel: bool = False,
    **kwargs: object,
) -> float:
    """PSNR-B in dB: the blocking effect of ``img`` is added to its mean squared error.

    Source: Yim and Bovik, "Quality assessment of deblocked images", IEEE TIP 20(1), 2011, with the
    number of block borders that published tables count (a side of n pixels has n // 8 - 1), which
    differs from the actual one where a side is no multiple of 8.

    Args:
        img: the restored image, (H, W) or (H, W, C), [0, 255]; not symmetric in the two.
        img2: the original, of the same shape.
        crop_border: pixels cut from each side first.
        input_order: ``HWC`` or ``CHW``.
        test_y_channel: measure on Y of BT.601.

    Raises:
        ValueError: the shapes differ or a side is shorter than two blocks.
    """
    if img.shape != img2.shape:
        raise ValueError(f"calculate_psnrb: shapes differ: {img.shape}, {img2.shape}")
    img, img2 = (reorder_image(image, input_order=input_order) for image in (img, img2))
    if crop_border:
        inner = slice(crop_border, -crop_border)
        img, img2 = img[inner, inner], img2[inner, inner]
    if min(img.shape[:2]) < 2 * BLOCK:
        raise ValueError(f"calculate_psnrb: {img.shape[:2]} pixels hold no border of blocks")
    if test_y_channel:
        img, img2 = to_y_channel(img), to_y_channel(img2)
    img, img2 = img.astype(np.float64), img2.astype(np.float64)
    errors = ((img - img2) ** 2).mean(axis=(0, 1)) + blocking_effect(img)
    error = float(errors.mean())
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


def blocking_effect(img: np.ndarray) -> np.ndarray:
    """The blocking effect factor of each channel of (H, W, C): squared levels, >= 0."""
    at_borders, elsewhere = np.zeros(img.shape[2]), np.zeros(img.shape[2])
    borders = others = 0
    for image in (img, img.swapaxes(0, 1)):
        steps = (np.diff(image, axis=0) ** 2).sum(axis=1)  # (H - 1, C)
        border = np.arange(len(steps)) % BLOCK == BLOCK - 1
        at_borders += steps[border].sum(axis=0)
        elsewhere += steps[~border].sum(axis=0)
        height, width = image.shape[:2]
        count = width * (height // BLOCK - 1)
        borders += count
        others += width * (height - 1) - count
    excess = at_borders / borders - elsewhere / others
    weight = math.log2(BLOCK) / math.log2(min(img.shape[:2]))
    return weight * np.maximum(excess, 0)
