"""The networks as users and BasicSR get them.

`archs` alone defines them and depends on torch alone. Whatever else a network that is built by its
name shall have is imported here.
"""

from __future__ import annotations

from . import execution  # noqa: F401 (computes them faster on a CPU)
from .archs import CASA, DSGM, Bicubic, CompacterArch

__all__ = ["CASA", "DSGM", "Bicubic", "CompacterArch"]
