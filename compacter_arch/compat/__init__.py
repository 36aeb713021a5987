"""Repairs of BasicSR 1.4.2, and nothing else.

The released BasicSR no longer imports beside a current torchvision, and several of its parts stop,
hang or go quietly wrong. They are repaired from outside: first the modules that BasicSR's own
import needs, then its functions and methods. Each repair is one function that names the defect;
line numbers are those of BasicSR 1.4.2, paths are relative to ``basicsr/``. A repair wraps what it
finds (the original stays reachable as ``__wrapped__``), is applied once, and does nothing where
there is nothing to repair.

Nothing is imported for this until BasicSR is: `repair_when_imported` waits for its import, by
whatever module comes first, and the repairs run as its last step. So every module that gets a name
from BasicSR gets the repaired one. If BasicSR is imported already, it is repaired at once. If it
is not installed, nothing happens; if it cannot be imported, its own error is what the user sees.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

from .first_import import around_import

__all__ = ["apply", "repair_when_imported"]

_applied = False


def repair_when_imported(then: Callable[[], None]) -> None:
    """Repair BasicSR when it is imported, or now if it is; then call ``then``."""

    def repair_and_go_on() -> None:
        _repair()
        then()

    around_import("basicsr", _make_importable, repair_and_go_on)


def apply() -> None:
    """Import BasicSR and repair it; a second call does nothing.

    Raises:
        ImportError: BasicSR is not installed or cannot be imported.
    """
    _make_importable()
    importlib.import_module("basicsr")
    _repair()


def _make_importable() -> None:
    from .imports import SHIMS

    for shim in SHIMS:
        shim()


def _repair() -> None:
    global _applied
    if _applied:
        return
    from .repairs import REPAIRS

    for repair in REPAIRS:
        repair()
    _applied = True
