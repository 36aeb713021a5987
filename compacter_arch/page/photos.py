"""Photographs that come from a browser: read within limits, restored, shown and given back."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from ..atomic import write_file
from ..errors import UserError
from ..inference.encoding import encode, format_for, to_8_bits
from ..inference.images import DAMAGE, Photo, pillow_as_we_need_it, read_photo
from ..inference.restoration import Restorer
from ..inference.tiling import Progress

SHOWN = 3072  # pixels of the longer side of what a browser shows; the result has no such limit
BACKGROUND = 255  # of what is transparent, in what a browser shows


@dataclass(frozen=True)
class Limits:
    """What is accepted.

    Args:
        megabytes: of a file, in units of 2^20 bytes.
        pixels: of an image, before it is enlarged.
    """

    megabytes: int = 100
    pixels: int = 24_000_000

    @property
    def size(self) -> int:
        """Of a file, in bytes."""
        return self.megabytes * 2**20


@dataclass(frozen=True)
class Restored:
    """Files of a restored photograph.

    Args:
        file: the result, in full quality.
        before, after: of one size, for a browser.
        facts: sizes and depth, in words.
    """

    file: Path
    before: Path
    after: Path
    facts: str


def read_upload(path: Path, limits: Limits) -> Photo:
    """Read a file that was sent to us; its pixels are counted before they are decoded.

    Raises:
        UserError: too large, or what :func:`read_photo` refuses; names the file without its folder.
    """
    with without_folder(path.parent):
        if path.stat().st_size > limits.size:
            raise UserError(
                f"{path}: a file of more than {limits.megabytes} MB; send a smaller one"
            )
        width, height = size_of(path)
        if width * height > limits.pixels:
            raise UserError(
                f"{path}: {width} x {height} are more than {limits.pixels / 10**6:g} million "
                "pixels; cut out a part, or make it smaller"
            )
        return read_photo(path)


def size_of(path: Path) -> tuple[int, int]:
    """Width and height by the head of the file; 0, 0 if it is damaged, which reading it tells."""
    try:
        with pillow_as_we_need_it(), Image.open(path) as img:
            return img.size
    except DAMAGE:
        return 0, 0


def restore_upload(
    path: Path, limits: Limits, restorer: Restorer, folder: Path, progress: Progress | None = None
) -> Restored:
    """Restore a file that was sent to us.

    Args:
        folder: where a new folder is made for what results.
        progress: told of tiles done, and of tiles in all.

    Raises:
        UserError: see :func:`read_upload`; too little memory or room on the disk.
    """
    before = read_upload(path, limits)
    place = Path(tempfile.mkdtemp(dir=folder))
    with without_folder(place):
        after = restorer.photo(before, progress)
        file = place / path.with_suffix(suffix_for(after, path.suffix)).name
        result = Restored(
            file,
            before=place / "before" / "picture.jpg",
            after=place / "after" / "picture.jpg",
            facts=f"{facts_of(before)} → {facts_of(after)}",
        )
        size = shown_size(after)
        write_file(result.file, encode(after, file.suffix))
        write_file(result.before, as_picture(before, size))
        write_file(result.after, as_picture(after, size))
    return result


def show_upload(path: Path, limits: Limits, folder: Path) -> tuple[Path, str]:
    """A picture of a file that was sent to us, for a browser, and its facts.

    Raises:
        UserError: see :func:`read_upload`; no room on the disk.
    """
    photo = read_upload(path, limits)
    picture = Path(tempfile.mkdtemp(dir=folder)) / "picture.jpg"
    with without_folder(picture.parent):
        write_file(picture, as_picture(photo, shown_size(photo)))
    return picture, facts_of(photo)


def facts_of(photo: Photo) -> str:
    """Size, and what else is worth knowing, in words."""
    height, width = photo.pixels.shape[:2]
    notes = ["gray"] * (photo.pixels.ndim == 2) + ["16 bits"] * (photo.pixels.dtype == np.uint16)
    notes += ["transparency"] * (photo.alpha is not None)
    return ", ".join([f"{width} × {height}", *notes])


def suffix_for(photo: Photo, suffix: str) -> str:
    """The suffix itself; ``.png`` where its format is not written, or has no transparency."""
    try:
        format_for(photo, suffix)
    except UserError:
        return ".png"
    return suffix


def shown_size(photo: Photo) -> tuple[int, int]:
    """Width and height of what is shown of a photograph: its own, or as :data:`SHOWN` allows."""
    height, width = photo.pixels.shape[:2]
    ratio = min(SHOWN / max(width, height), 1)
    return max(round(width * ratio), 1), max(round(height * ratio), 1)


def as_picture(photo: Photo, size: tuple[int, int]) -> bytes:
    """A JPEG file of a photograph for a browser, without metadata but its color profile.

    Args:
        size: width and height in pixels.
    """
    pixels, alpha = photo.pixels, photo.alpha
    if pixels.dtype == np.uint16:
        pixels, alpha = to_8_bits(pixels), to_8_bits(alpha)
    height, width = pixels.shape[:2]
    if (width, height) != size:
        method = cv2.INTER_AREA if size[0] < width else cv2.INTER_CUBIC
        pixels = cv2.resize(pixels, size, interpolation=method)
        alpha = None if alpha is None else cv2.resize(alpha, size, interpolation=method)
    if alpha is not None:
        opacity = alpha.astype(np.float32) / 255
        opacity = opacity if pixels.ndim == 2 else opacity[..., None]
        pixels = (pixels * opacity + BACKGROUND * (1 - opacity)).round().astype(np.uint8)
    return encode(Photo(pixels, icc=photo.icc), ".jpg")


@contextmanager
def without_folder(folder: Path) -> Iterator[None]:
    """Errors as :class:`UserError` that name files without the folder on this machine."""
    try:
        yield
    except (UserError, OSError, MemoryError) as error:
        told = str(error) or "out of memory"
        raise UserError(told.replace(f"{folder}/", "")) from error
