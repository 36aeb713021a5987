"""Test sets in the folders that our option files expect."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from compacter_arch.errors import UserError

from .files import image_shape, list_images, same_place
from .jobs import Job, run_jobs
from .lr import make_lr


def make_benchmark(
    hr: Path,
    name: str,
    root: Path = Path("datasets"),
    *,
    scales: Sequence[int] = (2, 3, 4),
    workers: int | None = None,
) -> Path:
    """Write ``root/name/GT`` and, for each scale, ``GTmod<scale>`` and ``LRbicx<scale>``.

    GT holds the pixels of ``hr`` as they are, gray or colour, as PNG. The others come from it, see
    :func:`~compacter_arch.prepare.lr.make_lr`. What is there already is kept.

    Args:
        hr: Folder of 8-bit images; its sub-folders are not visited.
        name: Of the test set.
        root: Folder of all data sets.
        scales: Integers >= 2; none for denoising and JPEG artefacts.
        workers: Threads; default one per core.

    Returns:
        ``root/name``.

    Raises:
        UserError: The folder, an image, a scale or what exists already cannot be used.
    """
    for scale in scales:
        if scale < 2:
            raise UserError(f"scale {scale}: give integers of at least 2, or none")
    folder = root / name
    gt = folder / "GT"
    if same_place(gt, hr):
        raise UserError(f"{hr}: is the folder to be written; move the images to another")
    jobs = []
    for path in list_images(hr):
        height, width, _ = image_shape(path)
        outputs = {gt / f"{path.stem}.png": (height, width)}
        jobs.append(Job(path, (height, width), outputs, lambda img: [img]))
    run_jobs(jobs, f"{name}/GT", workers)
    for scale in scales:
        make_lr(gt, folder / f"LRbicx{scale}", scale, gt=folder / f"GTmod{scale}", workers=workers)
    return folder
