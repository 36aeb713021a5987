"""Bicubic resizing that equals MATLAB's ``imresize``, with which published LR images are made.

MATLAB resizes one dimension after the other, rows first, and stores each result in the type of
the input: ``uint8`` images are rounded and clipped twice. A single pass in floating point differs
from that by one or two grey levels in places, enough to move a published PSNR.

Each pass is a product with a banded matrix. We cut it into small dense blocks for BLAS to
multiply, and fold the mirrored borders into the weights, so that nothing is padded.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import NamedTuple

import cv2
import numpy as np

_BLOCK = 16  # output rows in a block; 8 and 32 are as fast, 64 is slower

# Multiplications in one call of BLAS: few enough for OpenBLAS to use one thread. Its threads wait
# for each other at every product, 50 times as long as the product takes where cores are busy.
_PRODUCT = 2**18

# uint8 images at these factors may be computed in float32, twice as fast. Powers of two have
# weights k / 128 ... k / 4096: sums are exact. Thirds have k / 27 or k / 81: sums stay 0.006 or
# more away from a half, and float32 errs by less than 0.0003. Others could flip a rounding.
_SAFE_IN_FLOAT32 = (1 / 4, 1 / 3, 1 / 2, 1.0, 2.0, 3.0, 4.0)


class _Block(NamedTuple):
    """``weights @ x[source]`` gives the rows ``target`` of the output."""

    target: slice
    source: slice
    weights: np.ndarray


def _cubic(x: np.ndarray) -> np.ndarray:
    """Keys' cubic convolution kernel with a = -0.5; its support is [-2, 2]."""
    x = np.abs(x)
    inner = (1.5 * x - 2.5) * x * x + 1
    outer = ((-0.5 * x + 2.5) * x - 4) * x + 2
    return np.where(x <= 1, inner, np.where(x <= 2, outer, 0.0))


@lru_cache(maxsize=64)
def _blocks(length: int, scale: float, dtype: str) -> tuple[_Block, ...]:
    """The resizing matrix for ``length`` samples, (ceil(length * scale), length), as blocks."""
    shrink = min(scale, 1.0)  # antialiasing: the kernel is stretched by 1 / shrink
    taps = math.ceil(4 / shrink) + 2
    size = math.ceil(length * scale)
    centre = (np.arange(size) + 0.5) / scale - 0.5
    left = np.floor(centre - 2 / shrink).astype(int)
    index = left[:, None] + np.arange(taps)
    weights = _cubic((centre[:, None] - index) * shrink)
    weights /= weights.sum(1, keepdims=True)
    index %= 2 * length  # mirrored borders, as often as a tiny image needs
    index = np.minimum(index, 2 * length - 1 - index)

    blocks = []
    for start in range(0, size, _BLOCK):
        target = slice(start, min(start + _BLOCK, size))
        used, share = index[target], weights[target]
        first = used[share != 0].min()
        last = used[share != 0].max()
        dense = np.zeros((len(used), length))
        np.add.at(dense, (np.arange(len(used))[:, None], used), share)
        source = slice(int(first), int(last) + 1)
        blocks.append(_Block(target, source, dense[:, source].astype(dtype)))
    return tuple(blocks)


def _swap(img: np.ndarray) -> np.ndarray:
    """(H, W, C) to a contiguous (W, H, C); OpenCV does it twice as fast where it can."""
    if img.shape[2] <= 4:
        return cv2.transpose(img).reshape(img.shape[1], img.shape[0], img.shape[2])
    return np.ascontiguousarray(img.swapaxes(0, 1))


def _resize_rows(img: np.ndarray, scale: float, dtype: str) -> np.ndarray:
    """Resize the first dimension of (H, W, C); ``uint8`` is rounded and clipped."""
    height, width, channels = img.shape
    flat = img.reshape(height, width * channels)
    out = np.empty((math.ceil(height * scale), width * channels), img.dtype)
    for target, source, weights in _blocks(height, scale, dtype):
        source_rows = flat[source].astype(dtype, copy=False)
        rows = np.empty((len(weights), flat.shape[1]), dtype)
        step = max(16, _PRODUCT // weights.size // 16 * 16)
        for start in range(0, flat.shape[1], step):
            part = slice(start, start + step)
            np.matmul(weights, source_rows[:, part], out=rows[:, part])
        if img.dtype == np.uint8:
            rows += 0.5  # and cut off below: halves go up, as in MATLAB
            np.clip(rows, 0, 255, out=rows)
        out[target] = rows
    return out.reshape(-1, width, channels)


def imresize(img: np.ndarray, scale: float) -> np.ndarray:
    """Resize as MATLAB's ``imresize(img, scale)`` does: bicubic (a = -0.5), antialiased.

    With ``uint8`` and a scale of 1/2, 1/3 or 1/4 the result is MATLAB's bit for bit: it reproduces
    the published LR images of Set5 from HR images that were cropped to a multiple of the factor.

    Args:
        img: (H, W), (H, W, 1) or (H, W, C), any channel order. ``uint8`` in [0, 255] is rounded
            (halves up) and clipped after each of the two passes; ``float32`` and ``float64``
            (finite, any range) are neither rounded nor clipped.
        scale: Factor for both sides, > 0; below 1 the kernel is stretched by 1 / scale.

    Returns:
        Array of the same type and number of dimensions, sides ceil(side * scale).

    Raises:
        TypeError: ``img`` is of another type.
        ValueError: ``img`` is empty or not 2- or 3-dimensional, or ``scale`` is not positive.

    Source:
        https://www.mathworks.com/help/images/ref/imresize.html; R. Keys, "Cubic convolution
        interpolation for digital image processing", IEEE TASSP 29(6), 1981.
    """
    if img.dtype not in (np.uint8, np.float32, np.float64):
        raise TypeError(f"imresize takes uint8, float32 or float64, not {img.dtype}")
    if img.ndim not in (2, 3) or img.size == 0:
        raise ValueError(f"imresize takes (H, W) or (H, W, C), not an array of shape {img.shape}")
    if not 0 < scale < math.inf:
        raise ValueError(f"the scale of imresize must be positive, not {scale}")
    exact = img.dtype == np.uint8 and scale in _SAFE_IN_FLOAT32
    dtype = "float32" if exact else "float64"
    out = img.reshape(*img.shape[:2], -1)
    for _ in range(2):
        out = _swap(_resize_rows(out, scale, dtype))
    return out.reshape(*out.shape[:2], *img.shape[2:])
