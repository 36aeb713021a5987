"""Metrics: images that they cannot use are refused in one line."""

from __future__ import annotations

from typing import Any

import numpy as np

from .patching import Function, patch


def repair_niqe() -> None:
    """`metrics/niqe.py:91`: NIQE of a small or flat image ends the validation, and so the training.

    "SVD did not converge", "Expected reduction dim" or a NaN: the covariance of its features takes
    two blocks of 96 x 96 pixels that are not flat. NumPy 1 makes a number of a single block, which
    means nothing. There is no value to give; the message says why.
    """
    from basicsr.metrics import niqe as module

    @patch(module, "niqe")
    def niqe(
        original: Function,
        img: Any,
        *parameters: Any,
        block_size_h: int = 96,
        block_size_w: int = 96,
    ) -> float:
        height, width = img.shape
        blocks = (height // block_size_h) * (width // block_size_w)
        problem = f"NIQE needs two blocks of {block_size_h} x {block_size_w} pixels"
        if blocks < 2:
            raise ValueError(f"{problem}; this image has {height} x {width} pixels without border.")
        try:
            value = original(img, *parameters, block_size_h=block_size_h, block_size_w=block_size_w)
        except np.linalg.LinAlgError:  # or NaN: depends on the LAPACK
            value = np.nan
        if np.isnan(value):
            raise ValueError(f"{problem} that are not flat; this image has fewer.")
        return value


def repair_tensor_metrics() -> None:
    """`metrics/psnr_ssim.py:51, 131`: PSNR and SSIM of tensors are offered to validation.

    It has arrays, on which they end with "too many indices for array". Those of arrays give the
    same values, and SSIM in a fraction of the time.
    """
    from basicsr.metrics import psnr_ssim

    for name in ("calculate_psnr", "calculate_ssim"):

        @patch(psnr_ssim, f"{name}_pt")
        def of_tensors(
            original: Function, img: Any, *args: Any, name: str = name, **kwargs: Any
        ) -> Any:
            if isinstance(img, np.ndarray):
                raise ValueError(f"{name}_pt is for tensors; in an option file, use {name}.")
            return original(img, *args, **kwargs)


REPAIRS = (repair_niqe, repair_tensor_metrics)
