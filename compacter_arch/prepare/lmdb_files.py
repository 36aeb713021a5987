"""Folders of images packed into one LMDB in BasicSR's format."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import lmdb
from tqdm import tqdm

from compacter_arch.errors import UserError

from .files import Shape, decode, encode_png, image_shape, list_images
from .jobs import check_space, in_parallel

_AS_THEY_ARE = (".png", ".jpg", ".jpeg")  # packed without a change
_LONGEST_KEY = 511  # bytes; LMDB's limit
_BATCH = 256, 2**28  # a batch is committed when it holds so many images or so many bytes


def make_lmdb(folder: Path, out: Path, *, workers: int | None = None) -> int:
    """Pack every image in ``folder`` into ``out``, an LMDB for BasicSR's data sets.

    PNG and JPEG files are decoded once, to be sure, and packed as they are; others become PNG.
    The key of an image is its name without suffix. ``out`` appears when it is complete; what an
    interrupted run has packed is used by the next, and ends in the same bytes.

    Args:
        folder: 8-bit images; its sub-folders are not visited.
        out: The LMDB, a folder whose name ends with ``.lmdb``: ``data.mdb`` and ``meta_info.txt``.
        workers: Threads; default one per core.

    Returns:
        The number of images packed now; 0 if ``out`` was there with the same ``meta_info.txt``.

    Raises:
        UserError: The folder, an image or a name cannot be used, ``out`` exists with other
            images, or the disk is too small.
    """
    if out.suffix != ".lmdb":
        raise UserError(f"{out}: BasicSR wants a name that ends with .lmdb")
    paths = sorted(list_images(folder), key=lambda path: path.stem)
    for path in paths:
        if not (path.stem.isascii() and path.stem.isprintable()):
            raise UserError(f"{path}: an LMDB key is its name in ASCII; rename it")
        if len(path.stem) > _LONGEST_KEY:
            raise UserError(f"{path}: an LMDB key has at most {_LONGEST_KEY} bytes; rename it")
    shapes = in_parallel(image_shape, paths, "headers", workers)
    images = list(zip(paths, shapes, strict=True))
    meta_info = "".join(f"{path.stem}.png ({h},{w},{c}) 1\n" for path, (h, w, c) in images)

    if out.exists():
        file = out / "meta_info.txt"
        if file.is_file() and file.read_text(encoding="utf-8") == meta_info:
            return 0
        raise UserError(f"{out}: exists with other images; remove it or give another name")
    part = out.with_name(f".{out.name}.part")
    try:
        packed = _pack(images, part, out, workers)
    except lmdb.Error as error:
        raise UserError(f"{part}: {error}; remove it, make room on its disk, repeat") from error
    (part / "meta_info.txt").write_text(meta_info, encoding="utf-8")
    os.replace(part, out)
    return packed


def _pack(images: Sequence[tuple[Path, Shape]], part: Path, out: Path, workers: int | None) -> int:
    """Write what is missing in ``part``; the number of images written.

    The file is opened anew for every batch. LMDB fills the gaps between its entries with what is
    left in its memory; so they hold the same wherever an earlier run was killed.
    """
    sizes = [_largest(path, shape) for path, shape in images]
    ends = list(batch_ends(sizes))
    map_size = sum(size + 2**14 for size in sizes) * 2 + 2**24  # not written, only reserved

    done = _usable(images, ends, part, map_size)
    if done == 0 and part.exists():
        shutil.rmtree(part)
    check_space({out.parent: sum(sizes[done:])})
    part.mkdir(parents=True, exist_ok=True)
    bar = tqdm(desc=out.name, total=len(images), initial=done, unit="image", disable=None)
    with bar:
        start = done
        for end in ends:
            if end <= done:
                continue
            values = in_parallel(_value, images[start:end], None, workers)
            with _open(part, map_size) as env, env.begin(write=True) as transaction:
                for (path, _), value in zip(images[start:end], values, strict=True):
                    transaction.put(path.stem.encode(), value, append=True)
            bar.update(end - start)
            start = end
    return len(images) - done


def _open(part: Path, map_size: int) -> Any:
    return lmdb.open(str(part), map_size=map_size, lock=False)  # we are alone, and leave no file


def _largest(path: Path, shape: Shape) -> int:
    """The most bytes that an image may take."""
    size = path.stat().st_size
    if path.suffix.lower() in _AS_THEY_ARE:
        return size
    height, width, channels = shape
    raw = height * (width * channels + 1)
    return max(size, raw + raw // 1000 + 2**10)  # deflate grows by less


def _value(image: tuple[Path, Shape]) -> bytes:
    path, shape = image
    data = path.read_bytes()
    img = decode(data, shape, str(path))
    return data if path.suffix.lower() in _AS_THEY_ARE else encode_png(img, level=1)


def batch_ends(sizes: Sequence[int]) -> Iterator[int]:
    """Where batches end, whatever was done before."""
    count = held = 0
    for end, size in enumerate(sizes, 1):
        count, held = count + 1, held + size
        if count == _BATCH[0] or held >= _BATCH[1] or end == len(sizes):
            yield end
            count = held = 0


def _usable(
    images: Sequence[tuple[Path, Shape]], ends: Sequence[int], part: Path, map_size: int
) -> int:
    """How many images an earlier run has left in ``part``; 0 if they are of other files."""
    if not (part / "data.mdb").exists():
        return 0
    found = 0
    try:
        with _open(part, map_size) as env, env.begin(buffers=True) as transaction:
            for key, value in transaction.cursor():
                if found == len(images):
                    return 0
                path, _ = images[found]
                same_file = path.suffix.lower() not in _AS_THEY_ARE or (
                    len(value) == path.stat().st_size
                )
                if bytes(key) != path.stem.encode() or not same_file:
                    return 0
                found += 1
    except lmdb.Error:  # killed before the first page was whole
        return 0
    return found if found in ends else 0
