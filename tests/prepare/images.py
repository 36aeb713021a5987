"""Images that claim to be large: a few hundred bytes, of which a reader makes gigabytes."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import cv2
import numpy as np
from PIL import Image

SMALL = np.zeros((8, 8, 3), np.uint8)


def png(width: int, height: int) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    body = chunk(b"IDAT", zlib.compress(bytes(1000)))
    return b"\x89PNG\r\n\x1a\n" + head + body + chunk(b"IEND", b"")


def jpeg(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".jpg", SMALL)[1])
    start = data.find(b"\xff\xc0") + 5
    data[start : start + 4] = struct.pack(">HH", min(height, 65535), min(width, 65535))
    return bytes(data)


def tiff(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(SMALL).save(file, "TIFF")
    data = bytearray(file.getvalue())
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in (256, 257):
            struct.pack_into("<HII", data, entry + 2, 4, 1, width if tag == 256 else height)
    return bytes(data)


def bmp(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".bmp", SMALL)[1])
    struct.pack_into("<ii", data, 18, width, -height)
    return bytes(data)


def webp(width: int, height: int) -> bytes:
    data = bytearray(cv2.imencode(".webp", SMALL, [cv2.IMWRITE_WEBP_QUALITY, 80])[1])
    start = data.find(b"\x9d\x01\x2a") + 3
    struct.pack_into("<HH", data, start, min(width, 16383), min(height, 16383))
    return bytes(data)


CLAIMS: dict[str, Callable[[int, int], bytes]] = {
    ".png": png,
    ".jpg": jpeg,
    ".tif": tiff,
    ".bmp": bmp,
    ".webp": webp,
}
