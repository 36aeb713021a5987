"""Work on many images at once that may be stopped at any moment and started again.

A :class:`Job` makes some PNG files of one image, and :func:`run_jobs` does all that is missing.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
from tqdm import tqdm

from compacter_arch.errors import UserError

from .files import Size, encode_png, image_size, read_image, remove_leftovers, write_file

_SAMPLES = 8  # jobs that are done in memory to estimate the disk space of all
_BLOCK = 4096  # bytes; files take whole blocks

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True, eq=False)
class Job:
    """One image and the PNG files to be made of it.

    Attributes:
        source: The image.
        size: Its height and width.
        outputs: The files, each with the height and width that it will have.
        render: The pixels of ``source`` to those of ``outputs``, in their order.
        read: ``source`` to its pixels.
    """

    source: Path
    size: Size
    outputs: Mapping[Path, Size]
    render: Callable[[np.ndarray], Sequence[np.ndarray]]
    read: Callable[[Path], np.ndarray] = read_image

    def missing(self) -> list[Path]:
        """The outputs that do not exist; UserError if one exists that cannot be ours."""
        return [path for path, size in self.outputs.items() if not self._exists(path, size)]

    def encode(self) -> dict[Path, bytes]:
        """What is to be written."""
        missing = set(self.missing())
        images = self.render(self.read(self.source))
        made = zip(self.outputs, images, strict=True)
        return {path: encode_png(img) for path, img in made if path in missing}

    def _exists(self, path: Path, size: Size) -> bool:
        if not path.exists():
            return False
        found = image_size(path)
        if found != size:
            raise UserError(
                f"{path}: exists with {found[1]} x {found[0]} pixels, {self.source} gives "
                f"{size[1]} x {size[0]}; remove it or give another output folder"
            )
        return True


def run_jobs(jobs: Sequence[Job], label: str, workers: int | None = None) -> int:
    """Do the jobs whose outputs are not all there.

    A file is there whole or not at all, however the run ends: the next one goes on from there and
    leaves the same files, byte for byte, as if nothing had happened.

    Args:
        jobs: In the order in which they are done.
        label: Of the progress bar.
        workers: Threads; default one per core. Reading, work and writing all run in parallel.

    Returns:
        The number of jobs done.

    Raises:
        UserError: An image cannot be read, an output exists with another size, or the disk is
            too small for all; then nothing has been written.
    """
    names = defaultdict(set)
    for job in jobs:
        for path in job.outputs:
            names[path.parent].add(path.name)
    for folder in names:
        remove_leftovers(folder, names[folder])

    jobs = [job for job in jobs if job.missing()]
    if not jobs:
        return 0
    samples = [jobs[i * len(jobs) // _SAMPLES] for i in range(_SAMPLES)]
    samples = list(dict.fromkeys(samples))
    encoded = dict(zip(samples, in_parallel(Job.encode, samples, None, workers), strict=True))
    check_space(_estimate(jobs, encoded))

    def do(job: Job) -> None:
        for path, data in (encoded.pop(job, None) or job.encode()).items():
            write_file(path, data)

    in_parallel(do, jobs, label, workers)
    return len(jobs)


def in_parallel(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    label: str | None,
    workers: int | None = None,
) -> list[Result]:
    """The results of all ``items``, with a bar unless ``label`` is None.

    Ctrl-C or an error ends it: what runs is completed, what waits is not begun.
    """
    pool = ThreadPoolExecutor(workers or os.cpu_count())
    try:
        results = pool.map(function, items)
        hidden = True if label is None else None  # None: shown on a terminal
        return list(tqdm(results, label, len(items), unit="image", disable=hidden))
    finally:
        pool.shutdown(cancel_futures=True)


def check_space(need: Mapping[Path, float]) -> None:
    """Tell how many bytes the folders will take and how many are free, on stderr.

    Raises:
        UserError: A disk is too small.
    """
    disks: dict[int, tuple[Path, float]] = {}
    for folder, size in need.items():
        disk = existing(folder).stat().st_dev
        first, others = disks.get(disk, (folder, 0))
        disks[disk] = first, others + size
    for folder, size in disks.values():
        free = shutil.disk_usage(existing(folder)).free
        if size > free:
            raise UserError(
                f"{folder}: about {_text(size)} to write and {_text(free)} free; "
                "make room or give a folder on another disk"
            )
        print(f"{folder}: about {_text(size)} to write, {_text(free)} free", file=sys.stderr)


def existing(folder: Path) -> Path:
    """``folder``, or the nearest folder above it that exists."""
    folder = folder.absolute()
    return next(path for path in (folder, *folder.parents) if path.exists())


def _estimate(
    jobs: Sequence[Job], encoded: Mapping[Job, Mapping[Path, bytes]]
) -> dict[Path, float]:
    """The bytes that ``jobs`` will take in each folder, from those of some, by source pixels."""
    pixels = sum(job.size[0] * job.size[1] for job in jobs)
    sampled = sum(job.size[0] * job.size[1] for job in encoded)
    need: dict[Path, float] = defaultdict(float)
    for files in encoded.values():
        for path, data in files.items():
            need[path.parent] += -(-len(data) // _BLOCK) * _BLOCK * pixels / sampled
    return need


def _text(size: float) -> str:
    """Bytes to read: ``1.3 GB``."""
    for unit in ("bytes", "KB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}"
        size /= 1000
    return f"{size:,.1f} GB"
