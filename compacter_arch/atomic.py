"""Files that are complete or absent at any moment."""

from __future__ import annotations

import os
import shutil
from pathlib import Path


def part_of(path: Path) -> Path:
    """Where ``path`` is written first; hidden, so that BasicSR lists it nowhere."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def write_file(path: Path, data: bytes) -> None:
    """Write ``data``; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        part.write_bytes(data)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def copy_file(source: Path, path: Path) -> None:
    """Copy a file; folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = part_of(path)
    try:
        shutil.copyfile(source, part)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
