"""Bounds of what an option file may cost while it is tried out: memory, layers, time."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from torch.nn.modules.module import (
    register_module_module_registration_hook,
    register_module_parameter_registration_hook,
)

from ...inference.memory import free_memory

MOST_LAYERS = 20_000  # of a network; the largest known ones have some thousands
STATUS = Path("/proc/self/status")


@contextmanager
def bounded_memory() -> Iterator[None]:
    """What takes more memory than is free fails with an exception, instead of the machine.

    On Linux alone; elsewhere nothing is bounded.
    """
    used = None
    with suppress(OSError):
        used = re.search(r"VmData:\s*(\d+) kB", STATUS.read_text())
    if used is None:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = int(used[1]) * 1024 + free_memory(torch.device("cpu"))
    limits = [value for value in (limit, soft, hard) if value != resource.RLIM_INFINITY]
    resource.setrlimit(resource.RLIMIT_DATA, (min(limits), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


@contextmanager
def bounded_network() -> Iterator[None]:
    """Networks that are built have parameters for which there is memory, and not too many layers.

    Raises:
        ValueError: they have not; before the parameters are filled.
    """
    free, size, layers = free_memory(torch.device("cpu")), 0, 0

    def count_layer(module: Any, name: str, layer: Any) -> None:
        nonlocal layers
        layers += 1
        if layers > MOST_LAYERS:
            raise ValueError(f"more than {MOST_LAYERS:,} layers; make it smaller")

    def count_parameter(module: Any, name: str, parameter: Any) -> None:
        nonlocal size
        size += 0 if parameter is None else parameter.numel() * parameter.element_size()
        if size > free:
            raise ValueError(
                f"more than {free / 1e9:.1f} GB of parameters, and no more memory is free; "
                "make it smaller"
            )

    hooks = (
        register_module_module_registration_hook(count_layer),
        register_module_parameter_registration_hook(count_parameter),
    )
    try:
        with bounded_memory():
            yield
    finally:
        for hook in hooks:
            hook.remove()
