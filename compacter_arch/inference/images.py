"""Photographs read from files: upright, in their depth, with all that belongs to them."""

from __future__ import annotations

import io
import math
import re
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tifffile
import torch
from PIL import Image, ImageCms, TiffImagePlugin

from ..errors import UserError
from ..messages import as_line
from .memory import free_memory

MAX_PIXELS = 500_000_000  # of an image that is read
LONGEST = 120  # characters of what is told of a damage
ORIENTATION = 0x0112  # EXIF
BITS, PLANES, EXTRA_SAMPLES = 258, 284, 338  # TIFF
PREMULTIPLIED = 1  # what an extra sample is: alpha by which color is multiplied
EXIF_PREFIX = b"Exif\0\0"
# What is told of a photograph in a TIFF file; its other tags are about the file itself.
ABOUT = (270, 271, 272, 305, 306, 315, 33432)  # description ... copyright
DIRECTORIES = (0x8769, 0x8825)  # EXIF's own, GPS
GRAY = ("1", "L", "LA", "La")
WITH_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
UNKNOWN = ("F", "HSV", "I", "LAB")
PIXEL_BYTES = 16  # of memory that reading a pixel takes at most: decoded, converted, turned
DAMAGE = (  # what Pillow, OpenCV and tifffile raise on damaged files
    *(OSError, SyntaxError, ValueError, EOFError, TypeError, LookupError, AttributeError),
    *(ArithmeticError, RuntimeError, AssertionError, struct.error, zlib.error, cv2.error),
    tifffile.TiffFileError,
)

# Pillow has no mode for gray with alpha of 16 bits. So that it opens such a TIFF file all the same,
# and tells what is beside the pixels, they go by the name of those of 8 bits.
for order in (b"II", b"MM"):
    for extra in (0, 1, 2):
        TiffImagePlugin.OPEN_INFO.setdefault(
            (order, 1, (1,), 1, (16, 16), (extra,)), ("LA", "LA;16")
        )


@dataclass
class Photo:
    """A photograph, upright.

    Args:
        pixels: (H, W) gray or (H, W, 3) RGB, ``uint8`` or ``uint16``.
        alpha: (H, W) of the same type, if it has any.
        icc: the profile of its colours; empty if there is none, as for the next two.
        exif: as in a JPEG file, with ``Exif\\0\\0`` in front.
        xmp: XML.
        dpi: dots per inch, across and down.
    """

    pixels: np.ndarray
    alpha: np.ndarray | None = None
    icc: bytes = b""
    exif: bytes = b""
    xmp: bytes = b""
    dpi: tuple[float, float] | None = None

    @property
    def channels(self) -> np.ndarray:
        """All channels, with alpha as the last: (H, W) if there is one, (H, W, 2 to 4)."""
        return self.pixels if self.alpha is None else np.dstack([self.pixels, self.alpha])


def read_photo(path: Path | str) -> Photo:
    """Read PNG, JPEG, WebP, TIFF, BMP or whatever else Pillow knows, of 8 or 16 bits.

    Palettes, CMYK and YCbCr become RGB, 1 bit becomes gray of 8 bits. An orientation in the EXIF
    data is carried out and taken out.

    Raises:
        UserError: not there, not an image, damaged, too large, several images, or of a kind that
            has no place in a :class:`Photo`; one line that names the file.
    """
    path = Path(path)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # a pipe waits for a writer
            raise UserError(f"{path}: not a regular file")
        data = path.read_bytes()
    except (OSError, ValueError) as error:  # a name may hold what none can
        raise UserError(f"{path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        with pillow_as_we_need_it(), Image.open(io.BytesIO(data)) as img:
            check(img, path)
            return decode(img, data)
    except Image.UnidentifiedImageError as error:
        raise UserError(f"{path}: not an image, or of an unknown kind") from error
    except NotImplementedError as error:
        raise UserError(f"{path}: cannot be read: {error}") from error
    except MemoryError as error:
        raise UserError(f"{path}: too large for the memory that is free") from error
    except DAMAGE as error:
        told = as_line(" ".join(str(error).split()) or type(error).__name__, LONGEST)
        raise UserError(f"{path}: damaged ({told})") from error


def check(img: Image.Image, path: Path) -> None:
    """Refuse what is not one image of 8 or 16 bits that fits into memory.

    Raises:
        UserError: says what.
    """
    if img.width * img.height > MAX_PIXELS:
        raise UserError(
            f"{path}: {img.width} x {img.height} are more than {MAX_PIXELS // 10**6} million "
            "pixels; cut it into parts"
        )
    need, free = img.width * img.height * PIXEL_BYTES, free_memory(torch.device("cpu"))
    if need > free:
        raise UserError(
            f"{path}: {img.width} x {img.height} pixels take {need / 1e9:.1f} GB of memory, "
            f"{free / 1e9:.1f} GB are free; cut it into parts"
        )
    count = getattr(img, "n_frames", 1)
    if count > 1 and img.format != "MPO":  # a JPEG with previews after it
        raise UserError(f"{path}: holds {count} images; save them one by one")
    if img.mode in UNKNOWN and not has_16_bits(img):
        raise UserError(f"{path}: {img.mode} is not gray or RGB of 8 or 16 bits; convert it")


def decode(img: Image.Image, data: bytes) -> Photo:
    """The photograph that Pillow has opened ``data`` as."""
    stored, deep = stored_mode(img), has_16_bits(img)
    exif, orientation = exif_of(img)
    by_tifffile = needs_tifffile(img)
    if not by_tifffile:
        img.load()  # finds damage, also where OpenCV reads, which would not tell
    turned = img.format == "TIFF" and orientation != 1  # Pillow has done so by itself
    icc = img.info.get("icc_profile") or b""
    if by_tifffile:
        array, turned = decode_tiff(data), False
    elif deep and img.mode in ("RGB", "RGBA", "LA"):
        array, turned = decode_16_bits(img, data), False
        if stored.startswith("LA"):  # which both show as color
            array = array[..., [0, -1]]
    elif deep or img.mode.startswith("I"):
        array = np.asarray(img).astype(np.uint16)
    else:
        if img.mode == "CMYK":
            img, icc = from_cmyk(img, icc), b""
        alpha = img.mode in WITH_ALPHA or "transparency" in img.info
        mode = ("L" if img.mode in GRAY else "RGB") + "A" * alpha
        array = np.asarray(img.convert(mode))
    color = img.info.get("transparency")
    if deep and color is not None and img.mode not in WITH_ALPHA:
        array = with_transparent_color(array, color)
    if not turned:
        array = upright(array, orientation)
    pixels, opacity = split_alpha(array)
    if deep and opacity is not None and tiff_tag(img, EXTRA_SAMPLES) == (PREMULTIPLIED,):
        pixels = divided(pixels, opacity)
    return Photo(pixels, opacity, icc, exif, xmp_of(img), dpi_of(img))


def split_alpha(array: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
    """Of (H, W) or (H, W, 1 to 4) the gray (H, W) or RGB (H, W, 3), and alpha (H, W) if any."""
    count = 1 if array.ndim == 2 else array.shape[2]
    array = np.ascontiguousarray(array).reshape(*array.shape[:2], count)
    pixels = array[..., 0] if count < 3 else array[..., :3]
    alpha = array[..., -1] if count in (2, 4) else None
    return np.ascontiguousarray(pixels), None if alpha is None else np.ascontiguousarray(alpha)


def stored_mode(img: Image.Image) -> str:
    """Mode of the pixels in the file, as ``RGB;16B`` of those of which Pillow shows 8 bits."""
    for tile in getattr(img, "tile", ()):  # until it is loaded
        arguments = tile[3]
        return str(arguments if isinstance(arguments, str) or not arguments else arguments[0])
    return img.mode


def has_16_bits(img: Image.Image) -> bool:
    """Whether there are 16 bits per channel in the file."""
    if 16 in tiff_tag(img, BITS):  # which alone tells it of planes
        return True
    return ";16" in stored_mode(img) or img.mode.startswith("I;16")


def decode_16_bits(img: Image.Image, data: bytes) -> np.ndarray:
    """Color or alpha of 16 bits, which Pillow cuts to 8: (H, W, C), as stored, not turned."""
    buffer = np.frombuffer(data, np.uint8).copy()
    if img.format == "TIFF":  # OpenCV would turn some orientations and fail on others
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            tag = file.pages.first.tags.get(ORIENTATION)
            if tag is not None:
                one = struct.pack(f"{file.byteorder}H", 1)
                buffer[tag.valueoffset : tag.valueoffset + 2] = list(one)
    array = cv2.imdecode(buffer, cv2.IMREAD_UNCHANGED)
    if array is None or array.dtype != np.uint16 or array.ndim != 3:
        raise ValueError("OpenCV cannot decode it")
    return array[..., [2, 1, 0, 3][: array.shape[2]]]


def needs_tifffile(img: Image.Image) -> bool:
    """Whether it is TIFF of a kind that Pillow and OpenCV mistake for another one.

    That is gray with alpha of 16 bits, and the same of 8 bits or color of 16 in planes.
    """
    if img.format != "TIFF":
        return False
    planes, with_alpha = tiff_tag(img, PLANES) == (2,), img.mode in ("LA", "La")
    return [planes, with_alpha, has_16_bits(img)].count(True) >= 2


def decode_tiff(data: bytes) -> np.ndarray:
    """A TIFF file of several channels: (H, W, C), as stored, not turned.

    Raises:
        NotImplementedError: it is compressed in a way that tifffile alone cannot read.
    """
    with tifffile.TiffFile(io.BytesIO(data)) as file:
        page: tifffile.TiffPage = file.pages.first
        try:
            array = page.asarray()
        except ValueError as error:
            if "imagecodecs" not in str(error):
                raise
            kind = "TIFF of 16 bits in planes, or of gray with alpha,"
            raise NotImplementedError(f"{kind} in this compression; save it without") from error
        if page.planarconfig == tifffile.PLANARCONFIG.SEPARATE:
            array = np.moveaxis(array, 0, 2)
    return array


def tiff_tag(img: Image.Image, tag: int) -> tuple[int, ...]:
    """The numbers of a tag; none if it is not there, or the file is no TIFF."""
    found = img.getexif().get(tag, ()) if img.format == "TIFF" else ()
    return found if isinstance(found, tuple) else (found,)


def divided(pixels: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    """Color that was multiplied by alpha as it was before; black where alpha is 0."""
    whole = np.iinfo(alpha.dtype).max
    share = alpha if pixels.ndim == 2 else alpha[..., None]
    color = (pixels.astype(np.float64) * whole / share.clip(1)).round().clip(0, whole)
    return color.astype(pixels.dtype)


def with_transparent_color(array: np.ndarray, color: object) -> np.ndarray:
    """(H, W) or (H, W, 3) with alpha: 0 where a pixel is of the one transparent color."""
    if array.ndim == 3 and array.shape[2] == 4:
        return array  # OpenCV has done so
    equal = array == np.array(color, array.dtype)
    clear = equal if array.ndim == 2 else equal.all(2)
    return np.dstack([array, np.where(clear, 0, np.iinfo(array.dtype).max).astype(array.dtype)])


def from_cmyk(img: Image.Image, icc: bytes) -> Image.Image:
    """CMYK as sRGB, by its profile if it has one."""
    try:
        profile = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        srgb = ImageCms.createProfile("sRGB")
        converted = ImageCms.profileToProfile(img, profile, srgb, outputMode="RGB")
    except (OSError, ImageCms.PyCMSError):
        converted = None
    return img.convert("RGB") if converted is None else converted


def exif_of(img: Image.Image) -> tuple[bytes, int]:
    """EXIF data of an upright image, and the orientation that they had, 1 to 8 (1: upright)."""
    raw = img.info.get("exif") or b""
    try:
        exif = img.getexif()
        orientation = int(exif.get(ORIENTATION, 1))
        if img.format == "TIFF":
            told = about_photograph(exif)
            raw = told.tobytes() if len(told) else b""
        elif orientation != 1:
            exif[ORIENTATION] = 1
            raw = exif.tobytes()
    except (SyntaxError, ValueError, TypeError, KeyError, ArithmeticError, struct.error):
        return b"", 1  # damaged; viewers ignore it, too
    if raw and not raw.startswith(EXIF_PREFIX):
        raw = EXIF_PREFIX + raw
    return raw, orientation if orientation in range(1, 9) else 1


def about_photograph(exif: Image.Exif) -> Image.Exif:
    """Without what a TIFF file tells of itself by the same tags, as its width."""
    told = Image.Exif()
    for tag in (*ABOUT, *DIRECTORIES):
        value = exif.get_ifd(tag) if tag in DIRECTORIES else exif.get(tag)
        if value:
            told[tag] = value
    read = Image.Exif()
    read.load(told.tobytes())  # Pillow writes directories into TIFF only if they were read
    return read


def dpi_of(img: Image.Image) -> tuple[float, float] | None:
    """Dots per inch, across and down; None if the file tells none, or nonsense."""
    try:
        across, down = map(float, img.info.get("dpi") or ())
    except (TypeError, ValueError, ArithmeticError):
        return None
    known = all(math.isfinite(number) and number > 0 for number in (across, down))
    return (across, down) if known else None


def xmp_of(img: Image.Image) -> bytes:
    """The XMP data of an upright image."""
    xmp = img.info.get("xmp") or img.info.get("XML:com.adobe.xmp") or b""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    return re.sub(rb"(tiff:Orientation(?:=[\"']|>))[2-8]", rb"\g<1>1", xmp)


def upright(array: np.ndarray, orientation: int) -> np.ndarray:
    """An image (H, W, ...) turned as its EXIF orientation, 1 to 8, says."""
    if orientation >= 5:
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return array


@contextmanager
def pillow_as_we_need_it() -> Iterator[None]:
    """Pillow opens an image of any size, :func:`check` has a limit of its own; no warnings."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that are not quite right
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
