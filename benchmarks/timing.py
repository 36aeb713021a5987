"""Times that may be compared: taken side by side, again and again, in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TypeVar

import torch

WARM_UP = 2  # calls before those that count
Key = TypeVar("Key", bound=Hashable)


def interleave(
    steps: Mapping[Key, Callable[[], object]], rounds: int, device: torch.device
) -> dict[Key, list[float]]:
    """Time all steps in every round, so that what slows a machine down slows them all.

    Args:
        steps: called in this order.
        rounds: that count, after a warm-up.
        device: waited for before the clock is read.

    Returns:
        Seconds of each step, one number for each round.
    """
    times: dict[Key, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        for _ in range(WARM_UP):
            step()
    for _ in range(rounds):
        for name, step in steps.items():
            synchronize(device)
            start = time.perf_counter()
            step()
            synchronize(device)
            times[name].append(time.perf_counter() - start)
    return times


def ratio(times: Sequence[float], reference: Sequence[float]) -> float:
    """The median over the rounds of the time over the reference's of the same round."""
    return statistics.median(a / b for a, b in zip(times, reference, strict=True))


def synchronize(device: torch.device) -> None:
    """Wait until a GPU has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
