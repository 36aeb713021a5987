"""Prepared data sets looked through: every image decodes, every pair fits."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compacter_arch.errors import UserError
from compacter_arch.training.checks.alignment import misalignment

from .files import same_place
from .jobs import in_parallel
from .losses import tell_losses
from .resize import imresize
from .sources import Folder, Source, open_source

_BORDER = 3  # LR pixels at a cut edge, beyond which MATLAB's kernel saw what we do not


@dataclass
class Report:
    """What :func:`verify` has found: one line for all, and one line per problem."""

    summary: str
    problems: list[str] = field(default_factory=list)


@dataclass
class _Found:
    """What was found at one key."""

    problem: str | None = None
    bicubic: str = "no"  # "yes", or "inside": all but the border


def verify(
    gt: Path,
    *,
    lq: Path | None = None,
    scale: int = 1,
    count: int | None = None,
    workers: int | None = None,
) -> Report:
    """Decode every image of a data set and look whether its pairs fit.

    Args:
        gt: Folder of images, LMDB or raw store.
        lq: The same, of their degraded images.
        scale: GT has this times the sides of LQ. From 2 on, LQ is compared with MATLAB's bicubic.
        count: How many images there are to be.
        workers: Threads; default one per core.

    Returns:
        A summary and the problems.

    Raises:
        UserError: A folder, LMDB or store cannot be read at all.
    """
    if scale < 1:
        raise UserError(f"scale {scale}: give an integer of at least 1")
    if lq and same_place(lq, gt):
        raise UserError(f"{lq}: is GT itself; give the folder of its LQ images")
    problems = []
    with ExitStack() as stack:
        large = stack.enter_context(open_source(gt))
        small = stack.enter_context(open_source(lq)) if lq else None
        if count is not None and len(large.names) != count:
            problems.append(f"{gt}: {len(large.names):,} images in place of {count:,}")
        for source in (large, small):
            if isinstance(source, Folder):
                tell_losses(source.files, workers)
        keys = sorted(large.names)
        if small:
            problems += _alone(large, small) + _alone(small, large)
            keys = [key for key in keys if small.names.get(key) == large.names[key]]
        found = in_parallel(lambda key: _look(key, large, small, scale), keys, gt.name, workers)
    problems += [one.problem for one in found if one.problem]
    text = f"{gt}: {len(large.names):,} images"
    if small:
        text += f", {len(keys):,} of them in pairs with {lq} at x{scale}"
    if small and scale > 1:
        text += _bicubic(found)
    text += "; no problems" if not problems else f"; problems: {len(problems):,}"
    return Report(text, problems)


def _alone(side: Source, other: Source) -> list[str]:
    """A problem for every image of one side without one of the same name on the other."""
    keys = sorted(key for key, name in side.names.items() if other.names.get(key) != name)
    return [f"{side.label(key)}: no {side.names[key]} in {other.root}" for key in keys]


def _look(key: str, large: Source, small: Source | None, scale: int) -> _Found:
    try:
        gt = large.read(key)
        lq = small.read(key) if small else None
    except UserError as error:
        return _Found(str(error))
    if small is None or lq is None:
        return _Found()
    (height, width), (h, w) = gt.shape[:2], lq.shape[:2]
    if (height, width) != (h * scale, w * scale):
        return _Found(
            f"{small.label(key)}: {w} x {h} pixels do not fit {width} x {height} of GT at x{scale}"
        )
    ours = imresize(gt, 1 / scale) if scale > 1 else gt
    if np.array_equal(ours, lq):
        return _Found(bicubic="yes")
    if reason := misalignment(gt, lq, scale):
        return _Found(f"{small.label(key)}: {reason}")
    inside = np.s_[_BORDER:-_BORDER, _BORDER:-_BORDER]
    same = ours[inside].size and np.array_equal(ours[inside], lq[inside])
    return _Found(bicubic="inside" if same else "no")


def _bicubic(found: Sequence[_Found]) -> str:
    """How many LQ images are MATLAB's bicubic of their GT."""
    kinds = [one.bicubic for one in found]
    text = f"; MATLAB's bicubic bit for bit: {kinds.count('yes'):,}"
    if "inside" in kinds:
        text += f", and {kinds.count('inside'):,} but for borders, as of sub-images"
    return text
