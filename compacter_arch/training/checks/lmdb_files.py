"""LMDBs: all images that ``meta_info.txt`` lists are there, whole as far as headers tell."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .headers import Header, Size, parse_header

BEGINNING = 2**12  # bytes of an image, a page, where its header is; all of it if that is longer
SAMPLED = 4096  # images of an LMDB whose headers are looked at
# As BasicSR's own reader (repaired, see `compat.lmdb_files`) understands a line.
_LINE = re.compile(r"(\S.*?)(?:\s+\((\d{1,9}),\s*(\d{1,9})(?:,\s*\d{1,3})?\)(?:\s+\d+)?)?\s*")
REMEDY = "pack it anew with basicsr prepare lmdb"


def lmdb_sizes(root: Path) -> dict[str, Size | None]:
    """Image sizes by key from the ``meta_info.txt`` of an LMDB; None where none is told.

    A line is ``name.png (480,480,3) 1``.

    Raises:
        ValueError: no such file, no text, or a line that is none, or twice; says which.
    """
    file = root / "meta_info.txt"
    if not file.is_file():
        raise ValueError(f"{file}: missing; {REMEDY}")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is no text; {REMEDY}") from None
    sizes: dict[str, Size | None] = {}
    for number, line in enumerate(lines, 1):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"{file}, line {number}: is damaged; {REMEDY}")
        key = os.path.splitext(match[1])[0]
        if key.startswith("/") or ".." in key.split("/"):
            raise ValueError(f"{file}, line {number}: {key!r} is no name of an image; {REMEDY}")
        if key in sizes:
            raise ValueError(f"{file}, line {number}: {key!r} is there twice; {REMEDY}")
        sizes[key] = (int(match[2]), int(match[3])) if match[2] else None
    return sizes


def check_whole(environment: Any, root: Path) -> None:
    """``data.mdb`` is as long as it says; to read beyond its end would end the process.

    Args:
        environment: of LMDB, open.
        root: its folder.

    Raises:
        ValueError: it is truncated.
    """
    pages, size = environment.info()["last_pgno"] + 1, environment.stat()["psize"]
    if (root / "data.mdb").stat().st_size < pages * size:
        raise ValueError(f"{root / 'data.mdb'} is truncated; {REMEDY}")


def lmdb_headers(root: Path) -> Iterator[tuple[str, Header]]:
    """Key and header of all images, in the order of ``meta_info.txt``.

    All images are there; of more than :data:`SAMPLED`, some are looked at, spread evenly, and the
    others taken for what ``meta_info.txt`` says.

    Raises:
        ValueError: the LMDB is truncated, an image is missing, none, or of another size.
    """
    from basicsr.utils.file_client import LmdbBackend

    sizes = lmdb_sizes(root)
    if not (root / "data.mdb").is_file():
        raise ValueError(f"{root / 'data.mdb'}: missing; {REMEDY}")
    # Through BasicSR, since a process opens an LMDB once alone.
    environment = LmdbBackend(str(root), "images")._client["images"]
    check_whole(environment, root)
    with environment.begin(buffers=True) as transaction:
        step = -(-len(sizes) // SAMPLED)
        for number, (key, size) in enumerate(sizes.items()):
            name = f"key {key!r} of {root}"
            value = transaction.get(key.encode())
            if value is None:
                raise ValueError(f"{name} is in meta_info.txt alone; {REMEDY}")
            if size is not None and number % step:
                yield key, Header(size, "RGB", deep=False, alpha=False)
                continue
            header = _header_of(value, name)
            if size is not None and header.size != size:
                raise ValueError(f"{name} has another size in meta_info.txt; {REMEDY}")
            yield key, header


def _header_of(value: memoryview, name: str) -> Header:
    try:
        return parse_header(bytes(value[:BEGINNING]), name, whole=len(value) <= BEGINNING)
    except ValueError:
        if len(value) <= BEGINNING:
            raise
    return parse_header(bytes(value), name)
