"""Paired data sets, whose archives name the two images of a pair differently."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from compacter_arch.errors import UserError

from .files import Size, image_size, link_or_copy, list_images, remove_leftovers, same_place
from .jobs import Job, check_space, existing, in_parallel, run_jobs

_SAME_SUFFIX = {".jpeg": ".jpg", ".tiff": ".tif"}


def make_pairs(lq: Path, gt: Path, out: Path, *, workers: int | None = None) -> int:
    """Write the pairs of two folders as ``out/lq/<name>`` and ``out/gt/<name>``.

    Images pair up by their names without suffix or, if these differ, by what is left of them
    without the beginning and the end that all names of a folder share: ``rain-001`` and
    ``norain-001``. The name of a pair is that of GT. Files become hard links (copies on another
    disk); where the suffixes of a pair differ, what is no PNG is converted to it, since BasicSR
    wants the same name on both sides. What is there already is kept.

    Args:
        lq: Folder of degraded images; its sub-folders are not visited.
        gt: Folder of their ground truth, each of the same size.
        out: The folder above ``lq`` and ``gt``; created.
        workers: Threads; default one per core.

    Returns:
        The number of pairs.

    Raises:
        UserError: An image has no partner or one of another size, a folder or an image
            cannot be used, or the disk is too small.
    """
    targets = {"lq": out / "lq", "gt": out / "gt"}
    if any(same_place(source, path) for source in (lq, gt) for path in targets.values()):
        raise UserError(f"{out}: lq and gt below it are to be written; give another folder")
    pairs = match(list_images(lq), list_images(gt))
    sizes = in_parallel(_size_of_pair, pairs, "sizes", workers)

    links: list[Job] = []
    jobs: list[Job] = []
    for pair, size in zip(pairs, sizes, strict=True):
        suffixes = {_suffix(path) for path in pair}
        suffix = suffixes.pop() if len(suffixes) == 1 else ".png"
        for path, folder in zip(pair, targets.values(), strict=True):
            job = Job(path, size, {folder / f"{pair[1].stem}{suffix}": size}, lambda img: [img])
            (links if _suffix(path) == suffix else jobs).append(job)
    run_jobs(jobs, f"{out.name} as PNG", workers)
    _link(links, f"{out.name}", workers)
    return len(pairs)


def match(lq: Sequence[Path], gt: Sequence[Path]) -> list[tuple[Path, Path]]:
    """The pairs, sorted by the name of GT; UserError names an image without a partner."""
    sides: list[dict[str, Path]] = [{path.stem: path for path in paths} for paths in (lq, gt)]
    if sides[0].keys() != sides[1].keys():
        sides = [_without_common_ends(side) for side in sides]
    alone = [
        f"{side[name]}: has no partner in {next(iter(other.values())).parent}"
        for side, other in (sides, sides[::-1])
        for name in sorted(side.keys() - other.keys())
    ]
    if alone:
        more = f" (nor have {len(alone) - 1:,} others)" if len(alone) > 1 else ""
        raise UserError(f"{alone[0]}{more}; rename or remove it")
    return sorted(((sides[0][name], path) for name, path in sides[1].items()), key=lambda p: p[1])


def _without_common_ends(side: Mapping[str, Path]) -> dict[str, Path]:
    start = len(os.path.commonprefix(list(side)))
    rests = {name[start:]: path for name, path in side.items()}
    end = len(os.path.commonprefix([name[::-1] for name in rests]))
    return {name[: len(name) - end]: path for name, path in rests.items()}


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    return _SAME_SUFFIX.get(suffix, suffix)


def _size_of_pair(pair: tuple[Path, Path]) -> Size:
    lq, gt = (image_size(path) for path in pair)
    if lq != gt:
        raise UserError(
            f"{pair[0]}: {lq[1]} x {lq[0]}, but its GT {pair[1]} has {gt[1]} x {gt[0]} pixels; "
            "replace or remove both"
        )
    return gt


def _link(jobs: Sequence[Job], label: str, workers: int | None) -> None:
    """Link (or copy) the source of each job to its one output."""
    missing = []
    for job in jobs:
        (path,) = job.outputs
        missing += [(job.source, path)] if job.missing() else []
    for folder in {path.parent for job in jobs for path in job.outputs}:
        remove_leftovers(folder, {path.name for job in jobs for path in job.outputs})
    copies = [
        (source, path)
        for source, path in missing
        if source.stat().st_dev != existing(path.parent).stat().st_dev
    ]
    if copies:
        check_space({copies[0][1].parent: sum(source.stat().st_size for source, _ in copies)})
    in_parallel(lambda names: link_or_copy(*names), missing, label, workers)
