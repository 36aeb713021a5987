"""Repairs of BasicSR 1.4.2, and nothing else.

The released BasicSR no longer imports beside a current torchvision, and several of its parts stop,
hang or go quietly wrong. `apply` mends them from outside: first the modules that BasicSR's own
import needs, then, if BasicSR can be imported, its functions and methods. Each repair is one
function that names the defect; line numbers are those of BasicSR 1.4.2, paths are relative to
``basicsr/``. A repair wraps what it finds (the original stays reachable as ``__wrapped__``), is
applied once, and does nothing where there is nothing to repair.
"""

from __future__ import annotations

import importlib
import importlib.util
import logging

from . import (
    checkpoints,
    images,
    imports,
    lmdb_files,
    loading,
    losses,
    metric_inputs,
    metrics,
    options,
    registry,
    training,
)
from .checkpoints import UNREADABLE, load_safely
from .options import safe_loader

__all__ = ["UNREADABLE", "apply", "load_safely", "safe_loader"]

# Most repairs run before BasicSR sets its logger up, and asking for that logger early would cost it
# its log file.
_logger = logging.getLogger(__name__)

_REPAIRS = (
    *options.REPAIRS,
    *checkpoints.REPAIRS,
    *training.REPAIRS,
    *loading.REPAIRS,
    *images.REPAIRS,
    *lmdb_files.REPAIRS,
    *losses.REPAIRS,
    *metrics.REPAIRS,
    *metric_inputs.REPAIRS,
    *registry.REPAIRS,
)
_applied = False


def apply() -> None:
    """Repair BasicSR in this process; a second call does nothing.

    Without BasicSR this returns quietly, so that the network can be used by itself. If BasicSR is
    installed but cannot be imported, a warning tells why.
    """
    global _applied
    if _applied or importlib.util.find_spec("basicsr") is None:
        return
    for shim in imports.SHIMS:
        shim()
    try:
        importlib.import_module("basicsr")
    except (ImportError, RuntimeError) as error:
        _logger.warning("BasicSR cannot be imported and is left unrepaired: %s", error)
        return
    for repair in _REPAIRS:
        repair()
    _applied = True
