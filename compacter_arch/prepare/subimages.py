"""Large images cut into overlapping squares, which are read faster during training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from compacter_arch.errors import UserError

from .files import Size, image_shape, list_images, same_place
from .jobs import Job, run_jobs


def make_subimages(
    folder: Path,
    out: Path,
    *,
    crop_size: int = 480,
    step: int = 240,
    thresh_size: int = 0,
    scale: int = 1,
    workers: int | None = None,
) -> int:
    """Cut every image in ``folder`` into ``out/<name>_s001.png``, ``_s002``, ...

    Grid, order and names are those of BasicSR's ``extract_subimages.py``: row by row, and a last
    row (column) is moved back to end at the border. A side shorter than ``crop_size`` is taken
    whole. What is there already is kept.

    Args:
        folder: 8-bit images, gray or colour; its sub-folders are not visited.
        out: Folder of the sub-images; created.
        crop_size: Side of the squares in pixels.
        step: Distance from one to the next.
        thresh_size: What may be left over at the right and the bottom border.
        scale: That of the LR images in ``folder``; ``crop_size``, ``step`` and ``thresh_size``
            are those of their HR images. The ``x2`` that ends DIV2K's LR names is taken away.
        workers: Threads; default one per core.

    Returns:
        The number of images whose sub-images were not complete.

    Raises:
        UserError: An argument, the folder, an image or what ``out`` holds cannot be used.
    """
    for name, value, least in (
        ("scale", scale, 1),
        ("crop_size", crop_size, 1),
        ("step", step, 1),
        ("thresh_size", thresh_size, 0),
    ):
        if value < least:
            raise UserError(f"{name} {value}: give an integer of at least {least}")
        if value % scale:
            raise UserError(f"{name} {value}: give a multiple of the scale {scale}")
    paths = list_images(folder)
    if same_place(out, folder):
        raise UserError(f"{out}: sub-images need a folder of their own; give another")
    ending = f"x{scale}" if scale > 1 else ""
    if not all(path.stem.endswith(ending) for path in paths):
        ending = ""  # not DIV2K's names, where some image may end so by chance

    jobs = []
    for path in paths:
        height, width, _ = image_shape(path)
        boxes = grid((height, width), crop_size // scale, step // scale, thresh_size // scale)
        name = path.stem.removesuffix(ending)
        outputs = {
            out / f"{name}_s{number:03d}.png": (
                min(crop_size // scale, height),
                min(crop_size // scale, width),
            )
            for number in range(1, len(boxes) + 1)
        }
        jobs.append(Job(path, (height, width), outputs, _cutter(boxes)))
    return run_jobs(jobs, out.name, workers)


def grid(size: Size, crop_size: int, step: int, thresh_size: int) -> list[tuple[slice, slice]]:
    """The squares of an image of ``size``, row by row."""
    rows, columns = (_slices(length, crop_size, step, thresh_size) for length in size)
    return [(row, column) for row in rows for column in columns]


def _slices(length: int, crop_size: int, step: int, thresh_size: int) -> list[slice]:
    if length <= crop_size:
        return [slice(0, length)]
    starts = list(range(0, length - crop_size + 1, step))
    if length - (starts[-1] + crop_size) > thresh_size:
        starts.append(length - crop_size)
    return [slice(start, start + crop_size) for start in starts]


def _cutter(
    boxes: Sequence[tuple[slice, slice]],
) -> Callable[[np.ndarray], list[np.ndarray]]:
    def cut(img: np.ndarray) -> list[np.ndarray]:
        return [np.ascontiguousarray(img[box]) for box in boxes]

    return cut
