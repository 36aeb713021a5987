"""Compacter for BasicSR: importing this repairs BasicSR 1.4.2 and registers our parts."""

from __future__ import annotations

from . import compat

compat.apply()

from .archs import CASA, DSGM, CompacterArch  # noqa: E402 (BasicSR must be repaired first)
from .inference import accelerate, load_model, restore  # noqa: E402
from .registration import register  # noqa: E402

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

register()
