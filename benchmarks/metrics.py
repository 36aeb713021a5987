"""Time of BasicSR's metrics as released, and as ``compacter_arch.compat`` repairs them.

    python -m benchmarks.metrics --rounds 15

A restored image beside its original, whole (RGB) and by luma (Y). Medians; both are measured by
turns. Exit status 1 when two values differ by more than 1e-6.
"""

from __future__ import annotations

import inspect
import statistics
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import product

import cv2
import numpy as np
from basicsr.metrics import psnr_ssim

from .arguments import begin, common_arguments, run
from .report import markdown, publish
from .timing import interleave, ratio

SIZES = ((512, 512), (720, 1280))  # rows, columns
METRICS = {"calculate_ssim": "SSIM", "calculate_psnr": "PSNR"}
REPAIRED = ("_ssim", "to_y_channel")
BORDER = 2
HEAD = ("metric", "rows x columns", "BasicSR, ms", "ours, ms", "times as fast", "difference")
Key = tuple[str, tuple[int, int], bool, bool]  # metric, size, Y, as released


@contextmanager
def as_released() -> Iterator[None]:
    """BasicSR's own functions below its metrics in the places of ours."""
    ours = {name: getattr(psnr_ssim, name) for name in REPAIRED}
    try:
        for name, function in ours.items():
            setattr(psnr_ssim, name, function.__wrapped__)
        yield
    finally:
        for name, function in ours.items():
            setattr(psnr_ssim, name, function)


def pair(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A smooth random image and a noisy copy: (H, W, 3) uint8."""
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (40, 40, 3)).astype(np.uint8), size[::-1])
    return image, (image + rng.normal(0, 8, image.shape)).clip(0, 255).astype(np.uint8)


def compute(key: Key, images: tuple[np.ndarray, np.ndarray]) -> float:
    """A metric of a pair."""
    metric, _, luma, released = key
    function = getattr(psnr_ssim, metric)
    if not released:
        return function(*images, BORDER, test_y_channel=luma)
    with as_released():
        return inspect.unwrap(function)(*images, BORDER, test_y_channel=luma)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print."""
    argv = sys.argv[1:] if argv is None else argv
    args = common_arguments(__doc__).parse_args(argv)
    device = begin(args)
    images = {size: pair(size) for size in SIZES}
    steps: dict[Key, Callable[[], float]] = {
        key: partial(compute, key, images[key[1]])
        for key in product(METRICS, SIZES, (True, False), (True, False))
    }
    times = interleave(steps, args.rounds, device)
    rows, largest = [], 0.0
    for metric, size, luma in product(METRICS, SIZES, (True, False)):
        released, ours = (metric, size, luma, True), (metric, size, luma, False)
        difference = abs(steps[released]() - steps[ours]())
        largest = max(largest, difference)
        medians = (f"{statistics.median(times[key]) * 1e3:.1f}" for key in (released, ours))
        factor = f"{ratio(times[released], times[ours]):.2f}"
        name = f"{METRICS[metric]}, {'Y' if luma else 'RGB'}"
        rows.append((name, f"{size[0]} x {size[1]}", *medians, factor, f"{difference:.0e}"))
    publish("metrics", argv, markdown(HEAD, rows), args.output)
    return int(largest > 1e-6)


if __name__ == "__main__":
    run(main)
