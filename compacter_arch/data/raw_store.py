"""Decoded images in one file, read as crops without decoding or reading the rest.

A store is a folder, ``NAME.raw``, that ``basicsr prepare raw`` writes:

- ``images.bin``: the pixels of all images, one image after the other. Each is (H, W, C) ``uint8``
  in C order, BGR as OpenCV reads it; C is 1 where the three channels of an image are equal.
- ``meta_info.txt``: a line ``name (H,W,C) offset CRC`` for each, such as
  ``0001_s001 (480,480,3) 0 5d1c0a2f``: its name without suffix, where its pixels begin in
  ``images.bin`` (bytes), and their CRC-32.

Any NumPy reads an image: ``np.memmap("a.raw/images.bin", np.uint8, "r", offset, (H, W, C))``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

SUFFIX = ".raw"
PIXELS, INDEX = "images.bin", "meta_info.txt"
_LINE = re.compile(r"(.+) \(([1-9]\d{0,8}),([1-9]\d{0,8}),([13])\) (\d{1,18}) ([0-9a-f]{8})")


def remedy(root: Path) -> str:
    """What to do about a damaged store."""
    return f"remove {root} and make it anew with basicsr prepare raw"


class Entry(NamedTuple):
    """One image of a store: a line of its index."""

    name: str
    shape: tuple[int, int, int]  # height, width, channels
    offset: int  # bytes
    crc: int

    @property
    def end(self) -> int:
        """Where the next image begins, bytes."""
        return self.offset + math.prod(self.shape)

    def line(self) -> str:
        """As :func:`parse_index` reads it."""
        height, width, channels = self.shape
        return f"{self.name} ({height},{width},{channels}) {self.offset} {self.crc:08x}\n"


class View(NamedTuple):
    """Bytes of ``images.bin`` as RGB planes: a crop, flipped and turned, that is not copied.

    Its byte (k, i, j) is the one at ``start + k * strides[0] + i * strides[1] + j * strides[2]``.
    """

    start: int
    shape: tuple[int, int, int]
    strides: tuple[int, int, int]


class Turn(NamedTuple):
    """BasicSR's augmentation: the flips, then rows become columns."""

    hflip: bool = False
    vflip: bool = False
    rot90: bool = False


def is_gray(image: np.ndarray) -> bool:
    """Whether the channels of an (H, W, 3) image are equal everywhere."""
    blue, green, red = image[..., 0], image[..., 1], image[..., 2]
    return np.array_equal(blue, green) and np.array_equal(green, red)


def view_of(entry: Entry, top: int, left: int, height: int, width: int, turn: Turn) -> View:
    """A rectangle of an image, turned; gray as three equal planes, as BasicSR reads it.

    Args:
        entry: The image.
        top, left, height, width: The rectangle, pixels; inside the image.
        turn: What is done to it.
    """
    _, columns, channels = entry.shape
    row, column = columns * channels, channels
    start = entry.offset + top * row + left * column
    if turn.hflip:
        start, column = start + (width - 1) * column, -column
    if turn.vflip:
        start, row = start + (height - 1) * row, -row
    plane = 0 if channels == 1 else -1  # from R, the last byte of a pixel, back to B
    start += channels - 1
    if turn.rot90:
        return View(start, (3, width, height), (plane, column, row))
    return View(start, (3, height, width), (plane, row, column))


def parse_index(text: str, file: Path) -> Iterator[Entry]:
    """The entries of an index.

    Raises:
        ValueError: A line is none; names ``file`` and the line.
    """
    end = 0
    for number, line in enumerate(text.removesuffix("\n").split("\n"), 1):
        match = _LINE.fullmatch(line)
        if match is None or int(match[5]) != end:
            raise ValueError(f"{file}, line {number}: is damaged; {remedy(file.parent)}")
        shape = int(match[2]), int(match[3]), int(match[4])
        entry = Entry(match[1], shape, end, int(match[6], 16))
        yield entry
        end = entry.end


class RawStore:
    """A store, opened for reading.

    The file is mapped when the first pixel is read, in each process for itself: workers share its
    pages in memory, and what is sent to a spawned worker is the index alone.

    Args:
        root: The folder.

    Attributes:
        entries: The images by name, in their order.

    Raises:
        ValueError: There is no store, or a damaged one; names the file and the remedy.
    """

    def __init__(self, root: str | PathLike[str]) -> None:
        self.root = Path(root)
        for file in (self.root / INDEX, self.root / PIXELS):
            if not file.is_file():
                raise ValueError(f"{file}: missing; {remedy(self.root)}")
        try:
            text = (self.root / INDEX).read_text(encoding="utf-8")
        except UnicodeDecodeError:
            raise ValueError(f"{self.root / INDEX}: is no text; {remedy(self.root)}") from None
        entries = list(parse_index(text, self.root / INDEX))
        self.entries = {entry.name: entry for entry in entries}
        self.size = entries[-1].end
        found = (self.root / PIXELS).stat().st_size
        if found != self.size or len(self.entries) != len(entries):
            raise ValueError(
                f"{self.root / PIXELS}: {found:,} bytes do not fit {self.size:,} of "
                f"{len(self.entries):,} images in {INDEX}; {remedy(self.root)}"
            )
        self._pixels: np.ndarray | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_pixels": None}

    @property
    def pixels(self) -> np.ndarray:
        """(size,) uint8: all bytes of ``images.bin``, read-only."""
        if self._pixels is None:
            # A plain array in place of the memmap: its slices are made faster.
            self._pixels = np.asarray(np.memmap(self.root / PIXELS, np.uint8, "r"))
        return self._pixels

    def __getitem__(self, name: str) -> np.ndarray:
        """(H, W, C) uint8, BGR or gray, read-only; nothing is read yet."""
        entry = self.entries[name]
        return self.pixels[entry.offset : entry.end].reshape(entry.shape)

    def planes(self, view: View) -> np.ndarray:
        """(3, H, W) uint8, RGB, read-only; nothing is read yet."""
        start, shape, strides = view
        return np.ndarray(shape, np.uint8, self.pixels, start, strides)

    def names(self, meta_info_file: str | None = None) -> list[str]:
        """The names of all images, or of those that a ``meta_info_file`` of BasicSR lists.

        Raises:
            ValueError: One is not here.
        """
        if meta_info_file is None:
            return list(self.entries)
        lines = Path(meta_info_file).read_text(encoding="utf-8").splitlines()
        names = [Path(line.strip().split(" ")[0]).stem for line in lines]
        for name in names:
            if name not in self.entries:
                raise ValueError(
                    f"{meta_info_file}: {name!r} is not in {self.root}; correct the list, or "
                    f"{remedy(self.root)}"
                )
        return names
