"""Names of images: files that are none, names that no message can show, names that are equal."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path

IMAGE_SUFFIXES = (".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


def is_image_name(name: str) -> bool:
    """Whether a file is named as an image."""
    return name.lower().endswith(IMAGE_SUFFIXES) and not name.startswith(".")


def is_plain(name: str) -> bool:
    """Whether a name is one line of text: no line ends, no bytes that are no UTF-8."""
    return not any(unicodedata.category(character) in ("Cc", "Cs") for character in name)


def odd_entries(folder: Path) -> Iterator[str]:
    """What is named as an image in a folder, but cannot be one: a line each.

    BasicSR leaves them out without a word, or never ends when a list names one.
    """
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda entry: entry.name):
            if not is_image_name(entry.name):
                continue
            try:
                ordinary = entry.is_file()
            except OSError:  # a link that leads to itself
                ordinary = False
            if not ordinary:
                yield f"{entry.path}: {_kind_of(entry)}; remove it"


def _kind_of(entry: os.DirEntry[str]) -> str:
    if entry.is_dir():
        return "is a folder"
    if entry.is_symlink() and not os.path.exists(entry.path):
        return "is a link to nothing"
    return "is no file, but a pipe or a device"


def equal_stems(paths: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Paths whose names without suffix are equal, were case to make no difference."""
    by_stem: dict[str, str] = {}
    for path in paths:
        stem = Path(path).stem.casefold()
        if stem in by_stem:
            yield by_stem[stem], path
        by_stem.setdefault(stem, path)
