"""Prepared data sets looked through: every image decodes, every pair fits."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import lmdb
import numpy as np
from PIL import Image, UnidentifiedImageError

from compacter_arch.errors import UserError
from compacter_arch.training.checks.data import ENDINGS, lmdb_sizes

from .files import list_images, read_image
from .jobs import in_parallel
from .resize import imresize

_RESEMBLES = 20.0  # dB; a wrong or shifted pair stays below, any bicubic LR image far above
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


class _Folder:
    """The images of a folder, by name without suffix."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {path.stem: path for path in list_images(root)}
        self.names = {stem: path.name for stem, path in self.paths.items()}

    def label(self, key: str) -> str:
        return str(self.paths[key])

    def read(self, key: str) -> np.ndarray:
        return read_image(self.paths[key], color=True)


class _Lmdb:
    """The images of an LMDB, by key."""

    def __init__(self, root: Path, environment: Any) -> None:
        self.root, self.environment = root, environment
        self.sizes = lmdb_sizes(str(root))
        self.names = {key: f"{key}.png" for key in self.sizes}
        entries = environment.stat()["entries"]
        if entries != len(self.sizes):
            raise UserError(
                f"{root}: {entries:,} images in data.mdb, {len(self.sizes):,} in meta_info.txt; "
                "pack it anew"
            )

    def label(self, key: str) -> str:
        return f"key {key!r} of {self.root}"

    def read(self, key: str) -> np.ndarray:
        with self.environment.begin() as transaction:
            data = transaction.get(key.encode())
        if data is None:
            raise UserError(f"{self.label(key)} is in meta_info.txt alone; pack it anew")
        try:
            with Image.open(io.BytesIO(data)) as header:
                ending = ENDINGS.get(header.format or "", b"")
        except UnidentifiedImageError:
            raise UserError(f"{self.label(key)} is not an image; pack it anew") from None
        img = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
        if img is None or ending not in data[-64:]:
            raise UserError(f"{self.label(key)} is damaged; pack it anew")
        if img.shape[:2] != self.sizes[key]:
            raise UserError(f"{self.label(key)} has another size in meta_info.txt; pack it anew")
        return img


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
        gt: Folder of images, or LMDB.
        lq: The same, of their degraded images.
        scale: GT has this times the sides of LQ. From 2 on, LQ is compared with MATLAB's bicubic.
        count: How many images there are to be.
        workers: Threads; default one per core.

    Returns:
        A summary and the problems.

    Raises:
        UserError: A folder or LMDB cannot be read at all.
    """
    if scale < 1:
        raise UserError(f"scale {scale}: give an integer of at least 1")
    if lq and lq.resolve() == gt.resolve():
        raise UserError(f"{lq}: is GT itself; give the folder of its LQ images")
    problems = []
    with ExitStack() as stack:
        large = stack.enter_context(_images(gt))
        small = stack.enter_context(_images(lq)) if lq else None
        if count is not None and len(large.names) != count:
            problems.append(f"{gt}: {len(large.names):,} images in place of {count:,}")
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


@contextmanager
def _images(root: Path) -> Iterator[_Folder | _Lmdb]:
    if root.suffix != ".lmdb":
        yield _Folder(root)
        return
    for file in ("data.mdb", "meta_info.txt"):
        if not (root / file).is_file():
            raise UserError(f"{root / file}: missing; pack it with basicsr prepare lmdb")
    try:
        environment = lmdb.open(str(root), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise UserError(f"{root}: cannot be read: {error}; pack it anew") from error
    with environment:
        yield _Lmdb(root, environment)


def _alone(side: _Folder | _Lmdb, other: _Folder | _Lmdb) -> list[str]:
    """A problem for every image of one side without one of the same name on the other."""
    keys = sorted(key for key, name in side.names.items() if other.names.get(key) != name)
    return [f"{side.label(key)}: no {side.names[key]} in {other.root}" for key in keys]


def _look(key: str, large: _Folder | _Lmdb, small: _Folder | _Lmdb | None, scale: int) -> _Found:
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
    if scale == 1:
        return _Found()
    ours = imresize(gt, 1 / scale)
    if np.array_equal(ours, lq):
        return _Found(bicubic="yes")
    psnr = cv2.PSNR(ours, lq)
    if psnr < _RESEMBLES:
        return _Found(
            f"{small.label(key)}: does not resemble its GT ({psnr:.1f} dB to MATLAB's bicubic)"
        )
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
