"""Image files of all formats, damaged by a seeded mutator, and those made to do harm."""

from __future__ import annotations

import io
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import tifffile
from PIL import Image

from compacter_arch.errors import UserError
from compacter_arch.inference.encoding import FORMATS, encode, png_chunks, png_of_chunks
from compacter_arch.inference.images import Photo, split_alpha

from ..inference.test_images import SRGB, XMP, exif, random_array

SIZE = (16, 20)
HEAD = 200  # bytes; most harm is done there
NUMBERS = [0, 1, 2, 3, 7, 15, 16, 17, 31, 255, 256, 32767, 60_000, 65_535, 2**16, 2**24]
NUMBERS += [2**31 - 1, 2**31, 2**32 - 1]
TIFFS = (None, "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg", "group4")


def good_images() -> dict[str, bytes]:
    """A small image of every format, depth and mode, with all that can belong to it."""
    found = {}
    for mode in ("L", "LA", "RGB", "RGBA"):
        for depth in ("uint8", "uint16"):
            photo = Photo(
                *split_alpha(random_array(mode, depth, SIZE)),
                icc=SRGB if mode.startswith("RGB") else b"",
                exif=exif(6).tobytes(),
                xmp=XMP,
                dpi=(72, 72),
            )
            for suffix in FORMATS:
                try:
                    found[f"{mode}_{depth}{suffix}"] = encode(photo, suffix)
                except UserError:  # no alpha in JPEG and BMP
                    continue
    color = Image.fromarray(random_array("RGB", "uint8", SIZE))
    for compression in TIFFS:
        image = color.convert("1") if compression == "group4" else color
        found[f"{compression}.tif"] = saved(image, "TIFF", compression=compression)
    found["palette.png"] = saved(color.quantize(16), "PNG", transparency=1)
    found["cmyk.jpg"] = saved(color.convert("CMYK"), "JPEG", icc_profile=SRGB)
    found["progressive.jpg"] = saved(color, "JPEG", progressive=True)
    found["lossless.webp"] = saved(color, "WEBP", lossless=True)
    planes, file = np.moveaxis(random_array("RGB", "uint16", SIZE), 2, 0), io.BytesIO()
    tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate")
    found["planes.tif"] = file.getvalue()
    return found


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    """The file that Pillow writes."""
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def mutated(name: str, data: bytes, rng: random.Random) -> bytes:
    """A file changed in one to four places; most PNG files get checksums that are right again."""
    changed = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 4])):
        at = rng.randrange(min(len(changed), HEAD) if rng.random() < 0.6 else len(changed))
        rng.choice(CHANGES)(changed, at, rng)
        if len(changed) < 4:
            break
    if name.endswith(".png") and rng.random() < 0.8:
        return png_of_chunks(png_chunks(bytes(changed)))
    return bytes(changed)


def flip(data: bytearray, at: int, rng: random.Random) -> None:
    data[at] ^= 1 << rng.randrange(8)


def cut(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at:]


def insert(data: bytearray, at: int, rng: random.Random) -> None:
    data[at:at] = rng.randbytes(rng.randrange(1, 9))


def remove(data: bytearray, at: int, rng: random.Random) -> None:
    del data[at : at + rng.randrange(1, 9)]


def write_number(data: bytearray, at: int, rng: random.Random) -> None:
    """A number that a width, a depth or a length may not be."""
    size = rng.choice([1, 2, 4])
    number = rng.choice(NUMBERS) % 256**size
    data[at : at + size] = number.to_bytes(size, rng.choice(["big", "little"]))


CHANGES: list[Callable[[bytearray, int, random.Random], None]] = [
    *(flip, cut, insert, remove, write_number, write_number)
]


def png(width: int, height: int, *extras: tuple[bytes, bytes], bits: int = 8) -> bytes:
    """A PNG file that claims a size, and has hardly any pixels."""
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    idat = zlib.compress(bytes(100))
    return png_of_chunks([(b"IHDR", header), *extras, (b"IDAT", idat), (b"IEND", b"")])


def resized(data: bytes, places: list[tuple[int, str]], side: int) -> bytes:
    """A file whose head has another width and height, at these places in these formats."""
    changed = bytearray(data)
    for at, form in places:
        struct.pack_into(form, changed, at, side)
    return bytes(changed)


def harmful_files() -> dict[str, bytes]:
    """Files that want memory or time, or are not what they are called."""
    bomb = zlib.compress(bytes(200_000_000))
    color = Image.fromarray(random_array("RGB", "uint8", SIZE))
    jpeg, bmp = saved(color, "JPEG"), saved(color, "BMP")
    sof = jpeg.index(b"\xff\xc0")
    found = {
        "huge.png": png(60_000, 60_000),
        "huge16.png": png(60_000, 60_000, bits=16),
        "wide.png": png(2**31 - 1, 1),
        "largest.png": png(2**31 - 1, 2**31 - 1),
        "huge.jpg": resized(jpeg, [(sof + 5, ">H"), (sof + 7, ">H")], 65_500),
        "huge.bmp": resized(bmp, [(18, "<i"), (22, "<i")], 60_000),
        "profile.png": png(8, 8, (b"iCCP", b"bomb\0\0" + bomb)),
        "text.png": png(8, 8, (b"zTXt", b"bomb\0\0" + bomb)),
        "international.png": png(8, 8, (b"iTXt", b"bomb\0\1\0\0\0" + bomb)),
        "empty.png": b"",
        "empty.tif": b"",
        "words.png": b"a shopping list\n",
        "page.jpg": b"<!DOCTYPE html><title>404</title>",
        "pointer.webp": b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n",
    }
    for value in (np.nan, np.inf):
        file = io.BytesIO()
        tifffile.imwrite(file, np.full(SIZE, value, np.float32))
        found[f"{value}.tif"] = file.getvalue()
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((4, *SIZE), np.uint8), photometric="minisblack")
    found["two\nlines \x1b[31m.png"] = b""
    found["pages.tif"] = file.getvalue()
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros(SIZE, np.uint8))
    tiff = file.getvalue()
    found["huge.tif"] = resized(tiff, [(place_of(tiff, 256), "<I"), (place_of(tiff, 257), "<I")],
                                60_000)  # fmt: skip
    return found


def place_of(tiff: bytes, tag: int) -> int:
    """Where the value of a tag of a little-endian TIFF file is."""
    with tifffile.TiffFile(io.BytesIO(tiff)) as file:
        return file.pages.first.tags[tag].valueoffset


def make_links(folder: Path) -> list[str]:
    """Links that lead nowhere or in circles, and pipes; the names of those that are no image."""
    os.symlink("absent.png", folder / "dangling.png")
    os.symlink("circle.png", folder / "circle.png")
    os.symlink(".", folder / "again")
    os.symlink("..", folder / "above")
    os.mkfifo(folder / "pipe.png")
    return ["circle.png", "dangling.png", "pipe.png"]
