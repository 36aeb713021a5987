"""Image files: listed, measured, read whole, and written complete or not at all."""

from __future__ import annotations

import os
import re
from collections.abc import Collection
from pathlib import Path

import cv2
import numpy as np

from compacter_arch.atomic import copy_file, write_file
from compacter_arch.errors import UserError
from compacter_arch.training.checks.headers import Header, Size, read_header
from compacter_arch.training.checks.names import IMAGE_SUFFIXES, is_image_name, is_plain

Shape = tuple[int, int, int]  # height, width, channels

# What OpenCV makes of Pillow's modes; the others have more than 8 bits per channel.
_CHANNELS = {"1": 1, "L": 1, "LA": 4, "P": 3, "RGB": 3, "RGBA": 4, "CMYK": 3, "YCbCr": 3}


def list_images(folder: Path) -> list[Path]:
    """The images directly in ``folder``, sorted by name.

    Raises:
        UserError: There is no such folder, no image in it, a name is no line of text, or two
            differ in suffix, or in small and capital letters only.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; give a folder of images")
    paths = sorted(path for path in folder.iterdir() if is_image_name(path.name))
    if not paths:
        raise UserError(f"{folder}: no images here ({' '.join(IMAGE_SUFFIXES)})")
    by_stem: dict[str, Path] = {}
    for path in paths:
        if not is_plain(path.name):
            raise UserError(f"{ascii(str(path))}: a name is one line of text; rename it")
        stem = path.stem.casefold()  # a disk may not tell a.png from A.png
        if stem in by_stem:
            raise UserError(f"{path} and {by_stem[stem].name} give the same PNG; rename one")
        by_stem[stem] = path
    return paths


def image_size(path: Path) -> Size:
    """Height and width as OpenCV will read them, from the header and the end of the file.

    Raises:
        UserError: Not an image, a truncated one, or one of numbers that are no 8 or 16 bits.
    """
    header = image_header(path)
    if not header.readable:
        raise UserError(f"{path}: {header.mode} is not 8 bits per channel; save it as an 8-bit PNG")
    return header.size


def image_shape(path: Path) -> Shape:
    """(height, width, channels), 1, 3 or 4 channels, from the header and the end of the file.

    Raises:
        UserError: Not an image, a truncated one, or one of more than 8 bits per channel.
    """
    header = image_header(path)
    if header.deep or header.mode not in _CHANNELS:
        kind = "16 bits" if header.deep else header.mode
        raise UserError(f"{path}: {kind} is not 8 bits per channel; save it as an 8-bit PNG")
    return *header.size, _CHANNELS[header.mode]


def read_image(path: Path, *, color: bool = False) -> np.ndarray:
    """Read a whole image.

    Args:
        path: The file.
        color: Convert to three channels of 8 bits, as BasicSR reads images.

    Returns:
        (H, W) or (H, W, C), ``uint8``, BGR or BGRA: of the shape that :func:`image_shape` tells.

    Raises:
        UserError: The file is damaged, or has more than 8 bits per channel and not ``color``.
    """
    shape = (*image_size(path), 3) if color else image_shape(path)
    return decode(path.read_bytes(), shape, str(path), color=color)


def decode(data: bytes, shape: Shape, name: str, *, color: bool = False) -> np.ndarray:
    """The image in ``data`` if it has the ``shape`` of its header; see :func:`read_image`."""
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH  # unlike IMREAD_UNCHANGED, turned upright
    if color:
        flags = cv2.IMREAD_COLOR
    elif shape[2] == 4:
        flags = cv2.IMREAD_UNCHANGED
    try:
        img = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:  # among them, too large for the memory
        img = None
    if img is None:
        raise UserError(f"{name} is damaged; replace or remove it")
    if img.dtype != np.uint8 or (*img.shape, 1)[:3] != shape:
        raise UserError(
            f"{name}: read as {img.dtype} of {img.shape}, its header says {shape}; "
            "save it as an 8-bit PNG"
        )
    return img


def encode_png(img: np.ndarray, level: int | None = None) -> bytes:
    """A ``uint8`` BGR, BGRA or gray image as PNG."""
    flags = [] if level is None else [cv2.IMWRITE_PNG_COMPRESSION, level]
    return cv2.imencode(".png", img, flags)[1].tobytes()


def write_png(path: Path, img: np.ndarray) -> None:
    """Write a ``uint8`` BGR or gray image so that ``path`` is complete or absent at any moment."""
    write_file(path, encode_png(img))


def link_or_copy(source: Path, path: Path) -> None:
    """Make ``path`` a second name of ``source`` or, on another disk, a copy of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source.resolve(), path)
    except OSError:  # another disk, or one without links; copying tells what else is wrong
        copy_file(source, path)


def remove_leftovers(folder: Path, names: Collection[str]) -> None:
    """Remove what killed runs have left of the files ``names`` in ``folder``."""
    if not folder.is_dir():
        return
    for path in folder.glob(".*.tmp"):
        match = re.fullmatch(r"\.(.+)\.(\d+)\.tmp", path.name)
        if match and match[1] in names and not _is_running(int(match[2])):
            path.unlink(missing_ok=True)


def _is_running(pid: int) -> bool:
    """Whether another process has this number, so that its files are best left alone."""
    if pid == os.getpid() or os.name != "posix":  # elsewhere, signal 0 would end it
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def image_header(path: Path) -> Header:
    """What the header of an image says.

    Raises:
        UserError: Not an image, or a truncated one.
    """
    try:
        return read_header(path)
    except ValueError as error:
        raise UserError(f"{error}; replace or remove it") from error


def same_place(*paths: Path) -> bool:
    """Whether two of the paths are one; of links that lead to themselves, too."""
    return len({os.path.realpath(path) for path in paths}) < len(paths)
