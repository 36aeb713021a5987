"""Results that are known already: by what was measured, on what and how."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from ..atomic import write_file


def fingerprint(parts: Iterable[Any]) -> str:
    """One text for any number of plain values."""
    text = json.dumps(list(parts), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def hash_network(network: nn.Module) -> str:
    """Of the structure, as it is printed, and of all weights."""
    digest = hashlib.sha256(repr(network).encode())
    for name, value in network.state_dict().items():
        digest.update(f"{name} {tuple(value.shape)} {value.dtype}".encode())
        digest.update(value.detach().cpu().contiguous().view(-1).numpy().tobytes())
    return digest.hexdigest()


def hash_folder(folder: Path) -> str:
    """Of the names and the bytes of all files in a folder, not below it."""
    digest = hashlib.sha256()
    for path in sorted(folder.iterdir()):
        if path.is_file():
            digest.update(f"{path.name} {path.stat().st_size}".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()


class Cache:
    """Scores in small JSON files below a folder.

    Args:
        folder: created when something is stored; None keeps nothing.
    """

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def get(self, key: str) -> dict[str, float] | None:
        """What was stored under ``key``, if anything whole was."""
        if self.folder is None:
            return None
        try:
            return json.loads((self.folder / f"{key}.json").read_text())["scores"]
        except (FileNotFoundError, json.JSONDecodeError, KeyError):
            return None

    def put(self, key: str, scores: Mapping[str, float], about: Mapping[str, Any]) -> None:
        """Store ``scores``, with what they are about for people who look."""
        if self.folder is None:
            return
        text = json.dumps({"scores": dict(scores), "about": dict(about)}, indent=1)
        write_file(self.folder / f"{key}.json", text.encode())
