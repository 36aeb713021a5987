"""Tables of results: what is published, and what is measured here."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from ..archs import Bicubic
from ..tasks import TASKS
from .cache import Cache
from .complexity import (
    count_multi_adds,
    count_parameters,
    describe_device,
    measure_latency,
    measure_peak_memory,
    published_input_size,
)
from .measure import measure_once, missing_folder
from .models import Model
from .protocols import Protocol
from .published import published_rows
from .rows import Row, Table


def build_table(
    protocol: Protocol,
    models: Sequence[Model],
    *,
    device: torch.device | str = "cpu",
    cache: Path | None = None,
    save_images: Path | None = None,
    rounds: int = 3,
) -> Table:
    """The table of a protocol: published rows, the input's row and a row for each model.

    Args:
        protocol: what is measured and how.
        models: their scale must be the protocol's.
        device: where they run.
        cache: folder of results that are known already; None measures anew.
        save_images: folder for the restored images, ``<method>/<set>/<level>/<image>.png``.
        rounds: of the measurement of latency; 0 for neither latency nor memory.

    Returns:
        The table; test sets without their folders are named in its notes.
    """
    known = Cache(cache)
    sets = list(protocol.datasets)
    missing = {name: root for name in sets if (root := missing_folder(protocol, name))}
    label = TASKS[protocol.task].baseline
    baseline = Model(label, Bicubic(protocol.scale), "", protocol.scale, protocol.in_chans)
    rows = list(published_rows(protocol.task, protocol.level, sets))
    for model in (baseline, *models):
        network = model.network.to(device)
        level = str(protocol.level or "")
        scores = {}
        for name in sets:
            if name not in missing:
                images = save_images and save_images / model.label / name / level
                scores[name] = measure_once(
                    network, protocol, name, known, model.label, device=device, save_to=images
                )
        row = Row(model.label, scores=scores)
        if model is not baseline:
            row = with_cost(row, model, protocol.scale, device, rounds)
        rows.append(row)
    notes = [f"{name}: not measured, {root} does not exist" for name, root in missing.items()]
    if rounds and models:
        notes.append(f"Latency and memory: output of 1280 x 720 pixels, {describe_device(device)}")
    for note in notes:
        print(f"{protocol.title}: {note}", file=sys.stderr)
    return Table(protocol.title, sets, list(protocol.metrics), rows, notes)


def with_cost(row: Row, model: Model, scale: int, device: torch.device | str, rounds: int) -> Row:
    """The row with what the network costs."""
    network, channels = model.network, model.in_chans
    size = published_input_size(scale)
    row = replace(
        row,
        params=count_parameters(network),
        multi_adds=count_multi_adds(network, size, channels).total,
    )
    if not rounds:
        return row
    return replace(
        row,
        latency=measure_latency(network, size, channels, rounds=rounds, device=device),
        memory=measure_peak_memory(network, size, channels, device=device),
    )
