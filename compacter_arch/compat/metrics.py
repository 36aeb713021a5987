"""Metrics: the same values in a third of the time or less.

Nothing is wrong with what BasicSR computes. It is repaired here, and not registered under names of
ours, so that every option file that says ``calculate_ssim`` or ``test_y_channel`` gains by it.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from .patching import Function, patch

TILE = 128  # pixels: what a tile needs stays in a core's cache
WINDOW, SIGMA = 11, 1.5  # of the Gaussian
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
LUMA = np.array([[24.966, 128.553, 65.481, 16]])  # BT.601: of blue, green, red in [0, 1]; offset


def repair_ssim() -> None:
    """`metrics/psnr_ssim.py:154`: SSIM convolves whole images five times with 11 x 11 windows.

    A Gaussian is separable, and four of them do: see :func:`ssim`. Equal to 1e-9.
    """
    from basicsr.metrics import psnr_ssim

    @patch(psnr_ssim, "_ssim")
    def _ssim(original: Function, img: np.ndarray, img2: np.ndarray) -> Any:
        if min(img.shape) < WINDOW:
            return original(img, img2)
        return ssim(img, img2)


def repair_ssim_of_colour() -> None:
    """`metrics/psnr_ssim.py:123`: channels are taken out of float64 images, one value in three.

    They are read faster when they are taken apart as bytes.
    """
    from basicsr.metrics import psnr_ssim

    @patch(psnr_ssim, "calculate_ssim")
    def calculate_ssim(
        original: Function,
        img: np.ndarray,
        img2: np.ndarray,
        crop_border: int,
        input_order: str = "HWC",
        test_y_channel: bool = False,
        **kwargs: Any,
    ) -> Any:
        bytes_hwc = img.dtype == img2.dtype == np.uint8 and img.ndim == 3 and input_order == "HWC"
        whole = bytes_hwc and min(img.shape[:2]) - 2 * crop_border >= WINDOW
        if not whole or img.shape != img2.shape or test_y_channel:
            return original(img, img2, crop_border, input_order, test_y_channel, **kwargs)
        inner = slice(crop_border, -crop_border or None)
        channels, channels2 = (cv2.split(image[inner, inner]) for image in (img, img2))
        return np.mean([ssim(*pair) for pair in zip(channels, channels2, strict=True)])


def ssim(img: np.ndarray, img2: np.ndarray) -> float:
    """SSIM of one channel, mean over the pixels whose window lies inside the image.

    With m the Gaussian mean, s = x + y and d = x - y: m(s)^2 and m(d)^2 are the sum and difference
    of m(x)^2 + m(y)^2 and 2 m(x) m(y), and m(s^2) and m(d^2) of m(x^2) + m(y^2) and 2 m(xy), up to
    a factor of 2 that cancels. That is all that SSIM is made of.

    Args:
        img, img2: (H, W) in [0, 255], both sides at least 11.
    """
    kernel, reach = cv2.getGaussianKernel(WINDOW, SIGMA), WINDOW // 2
    height, width = (side - 2 * reach for side in img.shape)
    total = 0.0
    for top in range(0, height, TILE):
        for left in range(0, width, TILE):
            tile = np.s_[top : top + TILE + 2 * reach, left : left + TILE + 2 * reach]
            maps = np.empty((4, *img[tile].shape))
            x, y = maps[2:]
            x[:], y[:] = img[tile], img2[tile]
            np.add(x, y, out=maps[0])  # s
            np.subtract(x, y, out=maps[1])  # d
            np.square(maps[:2], out=maps[2:])
            blurred = cv2.sepFilter2D(maps.reshape(-1, maps.shape[2]), -1, kernel, kernel)
            blurred = blurred.reshape(maps.shape)[:, reach:-reach, reach:-reach]
            means = np.square(blurred[:2])
            variances = blurred[2:] - means
            means[0] += 2 * C1
            variances[0] += 2 * C2
            (s, d), (ss, dd) = means, variances
            total += ((s - d) * (ss - dd) / ((s + d) * (ss + dd))).sum()
    return total / (height * width)


def repair_luma() -> None:
    """`metrics/metric_util.py:34`: Y of an image takes longer than the metric that is wanted of it.

    It is a product with a list, in slow steps. The same float32 comes from a table and OpenCV.
    """
    from basicsr.metrics import metric_util

    levels = (np.arange(256, dtype=np.float32) / 255).astype(np.float64)

    @patch(metric_util, "to_y_channel")
    def to_y_channel(original: Function, img: np.ndarray) -> np.ndarray:
        if img.dtype != np.uint8 or img.ndim != 3 or img.shape[2] != 3 or not img.size:
            return original(img)
        luma = cv2.transform(cv2.LUT(img, levels), LUMA)
        return ((luma / 255).astype(np.float32) * np.float32(255))[..., None]


REPAIRS = (repair_ssim, repair_ssim_of_colour, repair_luma)
