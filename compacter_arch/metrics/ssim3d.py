"""SSIM over the three channels of a colour image as one volume."""

from __future__ import annotations

import cv2
import numpy as np
from basicsr.metrics.metric_util import reorder_image

WINDOW, SIGMA = 11, 1.5  # of the Gaussian, along rows, columns and channels
C1, C2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2


def calculate_ssim3d(
    img: np.ndarray,
    img2: np.ndarray,
    crop_border: int,
    input_order: str = "HWC",
    **kwargs: object,
) -> float:
    """SSIM with a window that reaches over rows, columns and channels, borders repeated.

    What the BasicSR of NAFNet and Restormer computes for colour images (``ssim3d`` in their
    ``basicsr/metrics/psnr_ssim.py``), and much higher than the mean over the channels: noise that
    differs between the channels is averaged away. It explains the SSIM of Compacter's denoising
    tables; see the protocols of ``basicsr table``.

    Args:
        img, img2: (H, W, 3) in [0, 255].
        crop_border: pixels cut from each side first.
        input_order: ``HWC`` or ``CHW``.

    Raises:
        ValueError: the shapes differ or there are not three channels.
    """
    img, img2 = (reorder_image(image, input_order=input_order) for image in (img, img2))
    if img.shape != img2.shape or img.shape[2] != 3:
        raise ValueError(f"calculate_ssim3d: not two RGB images: {img.shape}, {img2.shape}")
    if crop_border:
        inner = slice(crop_border, -crop_border)
        img, img2 = img[inner, inner], img2[inner, inner]
    img, img2 = img.astype(np.float64), img2.astype(np.float64)
    mean, mean2 = blur(img), blur(img2)
    variance, variance2 = blur(img**2) - mean**2, blur(img2**2) - mean2**2
    covariance = blur(img * img2) - mean * mean2
    luminance = (2 * mean * mean2 + C1) / (mean**2 + mean2**2 + C1)
    structure = (2 * covariance + C2) / (variance + variance2 + C2)
    return float((luminance * structure).mean())


def blur(volume: np.ndarray) -> np.ndarray:
    """The Gaussian along all three axes of (H, W, 3)."""
    kernel = cv2.getGaussianKernel(WINDOW, SIGMA)
    flat = cv2.sepFilter2D(volume, -1, kernel, kernel, borderType=cv2.BORDER_REPLICATE)
    reach = np.arange(3)[:, None] + np.arange(WINDOW) - WINDOW // 2
    mix = np.zeros((3, 3))  # what each channel takes from each; the outer ones are repeated
    np.add.at(mix, (np.arange(3)[:, None], reach.clip(0, 2)), kernel.T)
    return flat @ mix.T
