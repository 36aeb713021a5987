"""Folders of HR images to folders of bicubic LR images, as published results use them."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from basicsr.data.transforms import mod_crop

from compacter_arch.errors import UserError

from .files import image_size, list_images, read_image, same_place
from .jobs import Job, run_jobs
from .losses import tell_losses
from .resize import imresize


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
        The number of HR images whose outputs were not complete.

    Raises:
        UserError: The folder or an image cannot be used, ``out`` (``gt``) holds an image
            of a size that does not fit, such as one made for another scale, or the disk is full.
    """
    if scale < 2:
        raise UserError(f"scale {scale}: give an integer of at least 2")
    paths = list_images(hr)
    if same_place(*(folder for folder in (hr, out, gt) if folder)):
        raise UserError(f"{out}: HR, LR and cropped HR images need a folder each; give another")

    def render(img: np.ndarray) -> list[np.ndarray]:
        img = mod_crop(img, scale)
        small = imresize(img, 1 / scale)
        return [img, small] if gt else [small]

    tell_losses(paths, workers)
    jobs = []
    for path in paths:
        height, width = image_size(path)
        if min(height, width) < scale:
            raise UserError(f"{path}: {width} x {height} is too small for x{scale}")
        small = height // scale, width // scale
        outputs = {out / f"{path.stem}.png": small}
        if gt:
            large = small[0] * scale, small[1] * scale
            outputs = {gt / f"{path.stem}.png": large, **outputs}
        jobs.append(Job(path, (height, width), outputs, render, partial(read_image, color=True)))
    return run_jobs(jobs, out.name, workers)
