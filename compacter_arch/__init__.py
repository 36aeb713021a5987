"""Compacter for BasicSR: importing this repairs BasicSR 1.4.2 and registers our parts.

The import itself is light. The repairs wait for BasicSR to be imported (`compat`), our parts are
registered when a registry is first asked for one (`registration`), and the names below are imported
when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from . import compat
from .registration import register_when_asked

__version__ = "0.1.0"
__all__ = [
    "CASA",
    "DSGM",
    "CompacterArch",
    "__version__",
    "accelerate",
    "load_model",
    "restore",
]

if TYPE_CHECKING:
    from .inference import accelerate, load_model, restore
    from .networks import CASA, DSGM, CompacterArch
else:  # hidden from type checkers, which would take every name for one of ours
    _HOMES = {
        "CASA": "networks",
        "DSGM": "networks",
        "CompacterArch": "networks",
        "accelerate": "inference",
        "load_model": "inference",
        "restore": "inference",
    }
    _PACKAGES = ("archs", "data", "inference", "losses", "metrics", "models")

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return importlib.import_module(f".{name}", __name__)
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__, *_PACKAGES})


compat.repair_when_imported(then=register_when_asked)
