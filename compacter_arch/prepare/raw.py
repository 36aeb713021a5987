"""Images decoded once into a raw store, from which training reads crops."""

from __future__ import annotations

import os
import shutil
import zlib
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from compacter_arch.data.raw_store import INDEX, PIXELS, SUFFIX, Entry, is_gray, parse_index
from compacter_arch.errors import UserError

from .files import Size
from .jobs import check_space, in_parallel
from .lmdb_files import batch_ends
from .sources import Raw, Source, open_source


def make_raw(root: Path, out: Path, *, workers: int | None = None) -> int:
    """Decode every image at ``root`` into ``out``, see :mod:`~compacter_arch.data.raw_store`.

    The images are those that BasicSR reads, in its order. ``out`` appears when it is complete and
    was read back; what an interrupted run has decoded is used by the next, and ends in the same
    bytes.

    Args:
        root: Folder of images (its sub-folders are not visited), or LMDB.
        out: The store, a folder whose name ends with ``.raw``.
        workers: Threads; default one per core.

    Returns:
        The number of images decoded now; 0 if ``out`` was there with these images.

    Raises:
        UserError: An image or a name cannot be used, ``out`` exists with other images, or the disk
            is too small.
    """
    if out.suffix != SUFFIX:
        raise UserError(f"{out}: give a name that ends with {SUFFIX}")
    with open_source(root) as source:
        sizes = source.measure(workers)
        for name in sizes:
            if not name.isprintable():
                raise UserError(f"{source.label(name)}: a name is one line of text; rename it")
        if out.exists():
            if _holds(out, sizes):
                return 0
            raise UserError(f"{out}: exists with other images; remove it or give another name")
        part = out.with_name(f".{out.name}.part")
        try:
            decoded = _decode(source, sizes, part, workers)
        except OSError as error:
            if error.filename is not None:
                raise
            raise UserError(f"{part}: {error.strerror}; make room on its disk, repeat") from error
    written = Raw(part)
    in_parallel(written.read, list(sizes), f"{out.name}: reading back", workers)
    os.replace(part, out)
    return decoded


def _holds(out: Path, sizes: Mapping[str, Size]) -> bool:
    """Whether ``out`` is a whole store of these images."""
    try:
        return Raw(out).measure() == sizes
    except UserError:
        return False


def _decode(source: Source, sizes: Mapping[str, Size], part: Path, workers: int | None) -> int:
    """Write what is missing in ``part``; the number of images written."""
    names = list(sizes)
    bounds = [3 * height * width for height, width in sizes.values()]  # bytes, less if gray
    done = _usable(sizes, part, newest=max(file.stat().st_mtime for file in source.files))
    start, end = len(done), done[-1].end if done else 0
    if not done and part.exists():
        shutil.rmtree(part)
    check_space({part.parent: sum(bounds[start:])})
    part.mkdir(parents=True, exist_ok=True)
    (part / INDEX).write_bytes("".join(entry.line() for entry in done).encode())
    bar = tqdm(desc=part.stem[1:], total=len(names), initial=start, unit="image", disable=None)
    with (part / PIXELS).open("ab") as pixels, (part / INDEX).open("ab") as index, bar:
        pixels.truncate(end)
        for stop in batch_ends(bounds):
            if stop <= start:
                continue
            images = in_parallel(source.read, names[start:stop], None, workers)
            lines = []
            for name, img in zip(names[start:stop], images, strict=True):
                if is_gray(img):
                    img = img[..., :1].copy()
                entry = Entry(name, img.shape, end, zlib.crc32(img.data))
                pixels.write(img.data)
                lines.append(entry.line())
                end = entry.end
            pixels.flush()  # the index tells of nothing that is not there
            index.write("".join(lines).encode())
            index.flush()
            bar.update(stop - start)
            start = stop
        os.fsync(pixels.fileno())
        os.fsync(index.fileno())
    return len(names) - len(done)


def _usable(sizes: Mapping[str, Size], part: Path, newest: float) -> list[Entry]:
    """What an earlier run has left in ``part``; nothing if it is of other or older files.

    Args:
        newest: When the images were changed last, seconds.
    """
    try:
        data = (part / INDEX).read_bytes()
        written, made = (part / PIXELS).stat().st_size, (part / INDEX).stat().st_mtime
        text = data[: data.rfind(b"\n") + 1].decode()
        entries = [entry for entry in parse_index(text, part / INDEX) if entry.end <= written]
    except (OSError, ValueError):
        return []
    found = [(entry.name, entry.shape[:2]) for entry in entries]
    return entries if made >= newest and found == list(sizes.items())[: len(found)] else []
