"""Folders of HR images to folders of bicubic LR images, as published results use them."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from basicsr.data.transforms import mod_crop
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from compacter_arch.errors import UserError

from .resize import imresize

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def write_png(path: Path, img: np.ndarray) -> None:
    """Write a ``uint8`` BGR or gray image so that ``path`` is complete or absent at any moment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}.tmp")  # hidden: BasicSR lists it nowhere
    try:
        part.write_bytes(cv2.imencode(".png", img)[1].tobytes())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def list_images(folder: Path) -> list[Path]:
    """The images directly in ``folder``, sorted by name.

    Raises:
        UserError: There is no such folder, no image in it, or two that differ in suffix only.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give the folder that holds the HR images")
    paths = sorted(
        path
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    )
    if not paths:
        raise UserError(f"{folder}: no images here ({' '.join(IMAGE_SUFFIXES)})")
    by_stem: dict[str, Path] = {}
    for path in paths:
        if path.stem in by_stem:
            raise UserError(f"{path} and {by_stem[path.stem].name} give the same PNG; rename one")
        by_stem[path.stem] = path
    return paths


def make_lr(
    hr: Path, out: Path, scale: int, *, gt: Path | None = None, workers: int | None = None
) -> int:
    """Make the bicubic LR image ``out/<name>.png`` of every image in ``hr``.

    HR images are read as BasicSR reads them (three channels, 8 bits), cropped to a multiple of
    ``scale`` and resized as MATLAB does, see :func:`imresize`. What is there already is kept, so
    that an interrupted run can be started again; no half-written image is ever seen.

    Args:
        hr: Folder of HR images; its sub-folders are not visited.
        out: Folder of the LR images; created.
        scale: Factor, an integer >= 2.
        gt: If given, the cropped HR images go here as PNG. BasicSR's training wants them
            where the sides of an HR image are no multiples of ``scale`` or it is not a PNG.
        workers: Threads; default one per core. Reading, resizing and writing all run in parallel.

    Returns:
        The number of LR images written.

    Raises:
        UserError: The folder or an image cannot be used, or ``out`` (``gt``) holds an image
            of a size that does not fit, such as one made for another scale.
    """
    if scale < 2:
        raise UserError(f"scale {scale}: give an integer of at least 2")
    paths = list_images(hr)
    folders = [folder.resolve() for folder in (hr, out, gt) if folder]
    if len(set(folders)) < len(folders):
        raise UserError(f"{out}: HR, LR and cropped HR images need a folder each; give another")

    def make(path: Path) -> bool:
        small = out / f"{path.stem}.png"
        large = gt / f"{path.stem}.png" if gt else None
        if _fits(small, path, scale, scale) and (not large or _fits(large, path, scale, 1)):
            return False
        img = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if img is None:
            raise UserError(f"{path}: not a readable image; replace or remove it")
        if min(img.shape[:2]) < scale:
            raise UserError(f"{path}: {img.shape[1]} x {img.shape[0]} is too small for x{scale}")
        img = mod_crop(img, scale)
        if large:
            write_png(large, img)
        write_png(small, imresize(img, 1 / scale))
        return True

    with ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        done = tqdm(pool.map(make, paths), out.name, len(paths), unit="image", disable=None)
        return sum(done)


def _fits(path: Path, hr: Path, scale: int, factor: int) -> bool:
    """Whether ``path`` is there; UserError if its size is not that of ``hr`` by ``factor``."""
    if not path.exists():
        return False
    # Sorted, since a JPEG's header may give its sides before a rotation.
    want = sorted(side // scale * scale // factor for side in _size(hr))
    if sorted(_size(path)) != want:
        raise UserError(
            f"{path}: exists with a size that does not fit {hr} at x{scale}; "
            "remove it or give another output folder"
        )
    return True


def _size(path: Path) -> tuple[int, int]:
    try:
        with Image.open(path) as img:
            return img.size
    except UnidentifiedImageError:
        raise UserError(f"{path}: not a readable image; replace or remove it") from None
