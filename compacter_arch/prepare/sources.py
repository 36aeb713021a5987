"""The images of a folder, an LMDB or a raw store, by key, each read whole and looked at."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

from compacter_arch.data.raw_store import SUFFIX, RawStore, remedy
from compacter_arch.errors import UserError
from compacter_arch.training.checks.headers import parse_header
from compacter_arch.training.checks.lmdb_files import REMEDY, check_whole, lmdb_sizes

from .files import Size, decode, image_size, list_images, read_image
from .jobs import in_parallel
from .losses import tell_losses


class Folder:
    """The images of a folder, by name without suffix."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.paths = {path.stem: path for path in list_images(root)}
        self.names = {stem: path.name for stem, path in self.paths.items()}
        self.files = list(self.paths.values())

    def label(self, key: str) -> str:
        """How a message names an image."""
        return str(self.paths[key])

    def measure(self, workers: int | None = None) -> dict[str, Size]:
        """Height and width of all images, from their headers."""
        tell_losses(self.files, workers)
        sizes = in_parallel(image_size, self.files, "headers", workers)
        return dict(zip(self.paths, sizes, strict=True))

    def read(self, key: str) -> np.ndarray:
        """(H, W, 3) uint8 BGR, as BasicSR reads it; UserError if it is damaged."""
        return read_image(self.paths[key], color=True)


class Lmdb:
    """The images of an LMDB, by key."""

    def __init__(self, root: Path, environment: Any) -> None:
        self.root, self.environment = root, environment
        try:
            check_whole(environment, root)
            sizes = lmdb_sizes(root)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.sizes = {key: size for key, size in sizes.items() if size is not None}
        for key in sizes.keys() - self.sizes.keys():
            raise UserError(f"{self.label(key)} has no size in meta_info.txt; {REMEDY}")
        self.names = {key: f"{key}.png" for key in self.sizes}
        self.files = [root / "data.mdb"]
        entries = environment.stat()["entries"]
        if entries != len(self.sizes):
            raise UserError(
                f"{root}: {entries:,} images in data.mdb, {len(self.sizes):,} in meta_info.txt; "
                f"{REMEDY}"
            )

    def label(self, key: str) -> str:
        """How a message names an image."""
        return f"key {key!r} of {self.root}"

    def measure(self, workers: int | None = None) -> dict[str, Size]:
        """Height and width of all images, in BasicSR's order."""
        return dict(sorted(self.sizes.items()))

    def read(self, key: str) -> np.ndarray:
        """(H, W, 3) uint8 BGR, as BasicSR reads it; UserError if it is damaged."""
        with self.environment.begin() as transaction:
            data = transaction.get(key.encode())
        if data is None:
            raise UserError(f"{self.label(key)} is in meta_info.txt alone; {REMEDY}")
        try:
            size = parse_header(data, self.label(key)).size
        except ValueError as error:
            raise UserError(f"{error}; {REMEDY}") from error
        if size != self.sizes[key]:
            raise UserError(f"{self.label(key)} has another size in meta_info.txt; {REMEDY}")
        try:
            return decode(data, (*size, 3), self.label(key), color=True)
        except UserError as error:
            raise UserError(f"{self.label(key)} is damaged; {REMEDY}") from error


class Raw:
    """The images of a raw store, by name."""

    def __init__(self, root: Path) -> None:
        self.root = root
        try:
            self.store = RawStore(root)
        except ValueError as error:
            raise UserError(str(error)) from error
        self.names = {name: f"{name}.png" for name in self.store.entries}
        self.files = [root]

    def label(self, key: str) -> str:
        """How a message names an image."""
        return f"{key!r} of {self.root}"

    def measure(self, workers: int | None = None) -> dict[str, Size]:
        """Height and width of all images."""
        return {name: entry.shape[:2] for name, entry in self.store.entries.items()}

    def read(self, key: str) -> np.ndarray:
        """(H, W, 3) uint8 BGR; UserError if it is not what was written."""
        img = self.store[key]
        if zlib.crc32(img.data) != self.store.entries[key].crc:
            raise UserError(f"{self.label(key)} is damaged; {remedy(self.root)}")
        return img if img.shape[2] == 3 else img.repeat(3, axis=2)


Source = Folder | Lmdb | Raw


@contextmanager
def open_source(root: Path) -> Iterator[Source]:
    """The images at ``root``; what it is, its suffix tells.

    Raises:
        UserError: They cannot be read at all.
    """
    if root.suffix == SUFFIX:
        yield Raw(root)
        return
    if root.suffix != ".lmdb":
        yield Folder(root)
        return
    for file in ("data.mdb", "meta_info.txt"):
        if not (root / file).is_file():
            raise UserError(f"{root / file}: missing; {REMEDY}")
    try:
        environment = lmdb.open(str(root), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise UserError(f"{root}: cannot be read: {error}; {REMEDY}") from error
    with environment:
        yield Lmdb(root, environment)
