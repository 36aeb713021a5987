"""Images: files that cannot be used are named, and values stay in range."""

from __future__ import annotations

from typing import Any

import torch

from .patching import Function, patch


class _FileBytes(bytes):
    """The content of a file that remembers where it came from."""

    path: str


def repair_file_client() -> None:
    """`utils/file_client.py:158`: what a file client returns does not say where it came from.

    Later complaints cannot name the file, and a key that an LMDB lacks is None, on which NumPy
    fails.
    """
    from basicsr.utils.file_client import FileClient

    @patch(FileClient, "get")
    def get(original: Function, self: Any, filepath: Any, client_key: str = "default") -> Any:
        content = original(self, filepath, client_key)
        path = str(filepath)
        if self.backend == "lmdb":
            path += f" in {self.client._client[client_key].path()}"
        if content is None:
            raise FileNotFoundError(f"There is no {path}.")
        named = _FileBytes(content)
        named.path = path
        return named


def repair_imfrombytes() -> None:
    """`utils/img_util.py:129-131`: bytes that are no image are not noticed.

    The user sees "'NoneType' object has no attribute 'astype'"; which of the thousands of files it
    was is not told.
    """
    import cv2
    from basicsr.utils import img_util

    @patch(img_util, "imfrombytes")
    def imfrombytes(
        original: Function, content: bytes, flag: str = "color", float32: bool = False
    ) -> Any:
        image, cause = None, None  # type: Any, Exception | None
        try:
            image = original(content, flag, float32)
        except (AttributeError, ValueError, cv2.error) as error:
            cause = error
        if image is None:
            path = getattr(content, "path", "The image")
            raise ValueError(
                f"{path} cannot be decoded: it is cut off or no image ({len(content)} bytes)."
            ) from cause
        return image


def repair_crop_message() -> None:
    """`data/transforms.py:64`: LQ and GT sizes that do not match are told without the file."""
    from basicsr.data import transforms

    @patch(transforms, "paired_random_crop")
    def paired_random_crop(
        original: Function,
        img_gts: Any,
        img_lqs: Any,
        gt_patch_size: int,
        scale: int,
        gt_path: Any = None,
    ) -> Any:
        try:
            return original(img_gts, img_lqs, gt_patch_size, scale, gt_path)
        except ValueError as error:
            message = "".join(map(str, error.args))
            if gt_path is not None and str(gt_path) not in message:
                message = f"{gt_path}: {message}"
            raise ValueError(message) from error


def repair_imresize() -> None:
    """`utils/matlab_functions.py:86`: a uint8 image comes back as unrounded, unclipped floats.

    Cast to uint8 by the caller, the overshoot at edges wraps around to black and white dots.
    """
    import numpy as np
    from basicsr.utils import matlab_functions

    @patch(matlab_functions, "imresize")
    def imresize(original: Function, img: Any, scale: float, antialiasing: bool = True) -> Any:
        resized = original(img, scale, antialiasing)
        if img.dtype == torch.uint8 and resized.dtype != torch.uint8:
            return (resized + 0.5).floor().clamp(0, 255).to(torch.uint8)
        if img.dtype == np.uint8 and resized.dtype != np.uint8:
            return np.clip(np.floor(resized + 0.5), 0, 255).astype(np.uint8)
        return resized


def repair_jpg_quality() -> None:
    """`data/degradations.py:745, 764`: a random JPEG quality is a float, which OpenCV refuses."""
    from basicsr.data import degradations

    @patch(degradations, "add_jpg_compression")
    def add_jpg_compression(original: Function, img: Any, quality: float = 90) -> Any:
        return original(img, int(quality))


REPAIRS = (
    repair_file_client,
    repair_imfrombytes,
    repair_crop_message,
    repair_imresize,
    repair_jpg_quality,
)
