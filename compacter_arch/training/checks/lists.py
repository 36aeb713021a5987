"""A ``meta_info_file``: the names of the images that a data set takes, one in each line."""

from __future__ import annotations

import os
from pathlib import Path

LARGEST = 2**28  # bytes; some millions of lines


def read_list(file: Path) -> list[str]:
    """The names that BasicSR takes from a list.

    Raises:
        ValueError: no file, too large, no text, or a line that names nothing below the folder of
            the images; says the file and the line.
    """
    if not file.is_file():
        raise ValueError(f"{file} is no file")
    if (size := file.stat().st_size) > LARGEST:
        raise ValueError(f"{file}: {size:,} bytes are no list of images")
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{file}: is no text; give a list of names, one in each line") from None
    if not lines:
        raise ValueError(f"{file}: is empty; give a list of names, one in each line")
    names = []
    for number, line in enumerate(lines, 1):
        name = line.strip().split(" ")[0]
        if not name:
            raise ValueError(f"{file}, line {number}: is blank; remove it")
        if os.path.isabs(name) or os.path.normpath(name).split(os.sep)[0] == "..":
            raise ValueError(
                f"{file}, line {number}: {name} is not below the folder of the images; "
                "give names relative to it"
            )
        if "\0" in name:
            raise ValueError(f"{file}, line {number}: is damaged")
        names.append(name)
    return names
