"""What the header of an image tells of it; no pixel is decoded and no memory taken for them."""

from __future__ import annotations

import io
import stat
import struct
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image, UnidentifiedImageError

from ...inference.images import DAMAGE, ORIENTATION, WITH_ALPHA, has_16_bits

# How a complete file ends; a truncated one does not.
ENDINGS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
Size = tuple[int, int]  # height, width

# Pillow's warnings, of odd metadata and of sizes that it still takes, do not name the file.
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Header:
    """What a header says.

    Args:
        size: height and width, upright, as OpenCV will read the image.
        mode: Pillow's.
        deep: whether there are 16 bits per channel.
        alpha: whether pixels can be transparent.
    """

    size: Size
    mode: str
    deep: bool
    alpha: bool

    @property
    def readable(self) -> bool:
        """Whether OpenCV makes 8 bits of it that show the same; of wide numbers it does not."""
        return self.deep or self.mode not in ("F", "I")


def read_header(path: Path) -> Header:
    """The header of an image file, whose end is looked at too.

    Raises:
        ValueError: no file, not an image, of too many pixels, or truncated; names the file.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):  # to open a pipe would be to wait for ever
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise ValueError(f"{path} is {kind}, not an image")
        if status.st_size == 0:
            raise ValueError(f"{path} is empty, not an image")
        with path.open("rb") as file:
            header, ending = _parse(file, str(path))
            file.seek(max(status.st_size - 64, 0))
            if ending not in file.read(64):
                raise ValueError(f"{path} is truncated")
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror or error}") from error
    return header


def parse_header(data: bytes, name: str, *, whole: bool = True) -> Header:
    """The header of an image in memory.

    Args:
        data: the file, or its beginning.
        name: what a message calls it.
        whole: ``data`` is the file, whose end is looked at.

    Raises:
        ValueError: not an image, of too many pixels, or truncated; says ``name``.
    """
    header, ending = _parse(io.BytesIO(data), name)
    if whole and ending not in data[-64:]:
        raise ValueError(f"{name} is truncated")
    return header


def image_size(path: Path) -> Size:
    """Height and width of an image file; see :func:`read_header`."""
    return read_header(path).size


def _parse(file: IO[bytes], name: str) -> tuple[Header, bytes]:
    """The header, and how the file has to end."""
    try:
        with Image.open(file) as image:
            width, height = image.size
            if _is_turned(image.info.get("exif")):
                width, height = height, width
            alpha = image.mode in WITH_ALPHA or "transparency" in image.info
            header = Header((height, width), image.mode, has_16_bits(image), alpha)
            return header, ENDINGS.get(image.format or "", b"")
    except UnidentifiedImageError as error:
        raise ValueError(f"{name} is not an image") from error
    except Image.DecompressionBombError as error:
        reason = str(error).split(",")[0]  # `Image size (N pixels) exceeds limit of M pixels`
        raise ValueError(f"{name} cannot be read: {reason}") from error
    except (*DAMAGE, MemoryError, OverflowError) as error:
        raise ValueError(f"{name} cannot be read: {error}") from error


def _is_turned(data: bytes | None) -> bool:
    """Whether EXIF data tell to swap the sides; OpenCV, too, ignores what it cannot read."""
    exif = Image.Exif()
    try:
        exif.load(data or b"")
        return exif.get(ORIENTATION, 1) in range(5, 9)
    except (SyntaxError, ValueError, struct.error):
        return False
