"""The one list of the repairs of BasicSR's functions and methods, in the order of their use."""

from __future__ import annotations

from . import (
    checkpoints,
    images,
    lmdb_files,
    loading,
    losses,
    metric_inputs,
    metrics,
    options,
    registry,
    training,
)

REPAIRS = (
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
