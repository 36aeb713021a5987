"""Photographs as the bytes of PNG, JPEG, WebP, TIFF and BMP files."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ..atomic import write_file
from ..errors import UserError
from .images import ABOUT, DAMAGE, DIRECTORIES, Photo, about_photograph

FORMATS = {
    ".png": "PNG",
    ".jpg": "JPEG",
    ".jpeg": "JPEG",
    ".webp": "WEBP",
    ".tif": "TIFF",
    ".tiff": "TIFF",
    ".bmp": "BMP",
}
DEEP = ("PNG", "TIFF")  # hold 16 bits
OPAQUE = ("JPEG", "BMP")  # hold no alpha
COLORED = ("WEBP",)  # hold no gray
XMP_TAG = 700  # TIFF
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
PNG_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
UP = 2  # a filter of PNG: what is stored is the difference from the row above


def write_photo(path: Path, photo: Photo, quality: int = 95) -> None:
    """Write a photograph so that ``path`` is complete or absent at any moment.

    Args:
        path: its suffix, one of :data:`FORMATS`, tells the format. 16 bits are kept by PNG and
            TIFF and become 8 in others.
        quality: of JPEG and WebP, 1 to 100.

    Raises:
        UserError: unknown suffix; an alpha that the format has no place for; a size that it has no
            numbers for; no place or permission to write.
    """
    try:
        write_file(path, encode(photo, path.suffix, quality))
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    except (*DAMAGE, MemoryError) as error:  # the metadata of a damaged file may be anything
        raise UserError(f"{path}: cannot be written ({error})") from error


def encode(photo: Photo, suffix: str, quality: int = 95) -> bytes:
    """The file of a photograph; see :func:`write_photo`."""
    name = format_for(photo, suffix)
    if name not in DEEP and photo.pixels.dtype == np.uint16:
        photo = replace(photo, pixels=to_8_bits(photo.pixels), alpha=to_8_bits(photo.alpha))
    if name in COLORED and photo.pixels.ndim == 2:
        photo = replace(photo, pixels=np.dstack([photo.pixels] * 3))
    if photo.icc[16:20] not in (b"GRAY" if photo.pixels.ndim == 2 else b"RGB ", b""):
        photo = replace(photo, icc=b"")  # of other colors than these
    if photo.pixels.dtype == np.uint16:
        return encode_png(photo) if name == "PNG" else encode_tiff(photo)
    return save(Image.fromarray(photo.channels), photo, name, quality)


def format_for(photo: Photo, suffix: str) -> str:
    """Pillow's name of the format.

    Raises:
        UserError: there is none, or none that can hold this photograph.
    """
    name = FORMATS.get(suffix.lower())
    if name is None:
        raise UserError(f"{suffix or 'no suffix'}: give one of {' '.join(FORMATS)}")
    if name in OPAQUE and photo.alpha is not None:
        raise UserError(f"{name} has no transparency, this image has; choose png, webp or tif")
    return name


def to_8_bits(channels: Any) -> Any:
    """``uint16`` as ``uint8``, rounded; None as None."""
    return (
        None if channels is None else ((channels.astype(np.uint32) + 128) // 257).astype(np.uint8)
    )


def save(img: Image.Image, photo: Photo, name: str, quality: int) -> bytes:
    """The file that Pillow makes of ``img`` with what belongs to the photograph."""
    options: dict[str, Any] = {"dpi": photo.dpi, "icc_profile": photo.icc, "exif": photo.exif}
    if name == "TIFF":
        exif = Image.Exif()
        exif.load(photo.exif)
        exif = about_photograph(exif)
        if photo.xmp:
            exif[XMP_TAG] = photo.xmp
        options["exif"] = exif
        if not any(directory in exif for directory in DIRECTORIES):  # Pillow writes these raw alone
            options["compression"] = "tiff_adobe_deflate"
    elif name == "PNG":
        texts = PngInfo()
        if photo.xmp:
            texts.add_itxt("XML:com.adobe.xmp", photo.xmp.decode("utf-8", "replace"))
        options["pnginfo"] = texts
    elif name in ("JPEG", "WEBP"):
        options |= {"xmp": photo.xmp, "quality": quality}
        if name == "JPEG":
            options["subsampling"] = 0
    file = io.BytesIO()
    img.save(file, name, **{key: value for key, value in options.items() if value})
    return file.getvalue()


def encode_png(photo: Photo) -> bytes:
    """PNG of 16 bits: Pillow has only gray of them, OpenCV no gray with alpha and no profiles."""
    channels = np.atleast_3d(photo.channels)
    height, width, count = channels.shape
    rows = channels.astype(">u2").reshape(height, -1).view(np.uint8)
    filtered = np.empty((height, 1 + rows.shape[1]), np.uint8)
    filtered[:, 0], filtered[0, 1:] = UP, rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 16, PNG_COLOR_TYPES[count], 0, 0, 0)
    # All that is not pixels is as in a PNG file of one pixel that Pillow writes.
    pixel = Image.fromarray(np.zeros((1, 1, 3), np.uint8))
    extras = [
        (kind, content)
        for kind, content in png_chunks(save(pixel, photo, "PNG", 0))
        if kind not in (b"IHDR", b"IDAT", b"IEND")
    ]
    chunks = [
        (b"IHDR", header),
        *extras,
        (b"IDAT", zlib.compress(filtered.tobytes(), 6)),
        (b"IEND", b""),
    ]
    return png_of_chunks(chunks)


def png_of_chunks(chunks: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A PNG file of kinds and contents; the inverse of :func:`png_chunks`."""
    return PNG_SIGNATURE + b"".join(
        struct.pack(">I", len(content))
        + kind
        + content
        + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in chunks
    )


def png_chunks(png: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the chunks of a PNG file."""
    position = len(PNG_SIGNATURE)
    while position < len(png):
        size = int.from_bytes(png[position : position + 4], "big")
        yield png[position + 4 : position + 8], png[position + 8 : position + 8 + size]
        position += size + 12


def encode_tiff(photo: Photo) -> bytes:
    """TIFF of 16 bits: Pillow has only gray of them, OpenCV no gray with alpha and no profiles.

    Of the EXIF data, what TIFF has tags of its own for is kept.
    """
    exif = Image.Exif()
    exif.load(photo.exif)
    tags: list[tuple[int, str, int, Any, bool]] = [
        (tag, "s", 0, str(exif[tag]), True) for tag in ABOUT if tag in exif
    ]
    if photo.xmp:
        tags.append((XMP_TAG, "B", len(photo.xmp), photo.xmp, True))
    file = io.BytesIO()
    tifffile.imwrite(
        file,
        photo.channels,
        photometric="minisblack" if photo.pixels.ndim == 2 else "rgb",
        planarconfig=None if photo.channels.ndim == 2 else "contig",
        extrasamples=None if photo.alpha is None else ["unassalpha"],
        compression="adobe_deflate",
        iccprofile=photo.icc or None,
        resolution=photo.dpi,
        resolutionunit="INCH" if photo.dpi else None,
        software=False,
        metadata=None,
        extratags=tags,
    )
    return file.getvalue()
