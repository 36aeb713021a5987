"""Cost of Compacter against the size of the image, the batch, the window and the depth.

    python -m benchmarks.scaling --plot benchmarks/scaling.png --output benchmarks/README.md
    python -m benchmarks.scaling --sides 2048 4096 --batches --windows --depths

    python -m benchmarks.scaling --fast --windows 4 8 16

One table for each; the rows of a table are measured side by side. x2, float32.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compacter_arch.archs import CompacterArch
from compacter_arch.cli.arguments import positive
from compacter_arch.errors import UserError
from compacter_arch.execution import UnavailableError
from compacter_arch.inference import accelerate
from compacter_arch.tables.complexity import (
    count_multi_adds,
    describe_device,
    measure_peak_memory,
)
from compacter_arch.tables.plots import BLUE, GRAY, check_plot_file, new_figure

from .arguments import begin, common_arguments, run
from .report import markdown, publish
from .roofline import (
    copy_rate,
    count_bytes,
    matrix_product,
    matrix_rate,
    memory_copy,
    over_copy_time,
    over_matrix_time,
)
from .timing import interleave

HEAD = (
    "Multi-Adds (G)",
    "time (ms)",
    "time per pixel (µs)",
    "time / Multi-Adds at the matrix rate",
    "time / bytes at the copy rate",
    "peak memory (MiB)",
)


class Batch(nn.Module):
    """A network on ``size`` copies of its image, for what measures one image."""

    def __init__(self, network: nn.Module, size: int) -> None:
        super().__init__()
        self.network, self.size = network, size

    def forward(self, x: Tensor) -> Tensor:
        """(1, C, H, W) -> (size, C, H * upscale, W * upscale)."""
        return self.network(x.repeat(self.size, 1, 1, 1))


@dataclass(frozen=True)
class Point:
    """What one row measures.

    Attributes:
        label: what is varied.
        side: of the square input in pixels.
        batch: images.
        options: of the network.
        fast: by the fast path of :mod:`compacter_arch.inference`.
    """

    label: str
    side: int
    batch: int
    options: dict[str, Any]
    fast: bool = False

    def build(self, device: torch.device, fast: bool = False) -> nn.Module:
        """The network in evaluation mode; the plain one, or its fast path.

        Raises:
            UnavailableError: there is no fast path.
        """
        network: nn.Module = CompacterArch(**self.options).to(device).eval()
        return Batch(accelerate(network) if fast else network, self.batch)


@dataclass(frozen=True)
class Measured:
    """One forward pass.

    Attributes:
        point: what was measured.
        multi_adds: of it.
        moved: bytes, see :func:`count_bytes`.
        seconds: of it, of a matrix product and of a copy beside it, one number for each round.
        memory: peak in bytes; None where the system does not tell.
    """

    point: Point
    multi_adds: int
    moved: int
    seconds: tuple[list[float], list[float], list[float]]
    memory: int | None

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.seconds[0])

    def cells(self) -> list[str]:
        """One line below :data:`HEAD`."""
        seconds, product, copy = self.seconds
        pixels = self.point.batch * self.point.side**2
        return [
            self.point.label,
            f"{self.multi_adds / 1e9:,.2f}",
            f"{self.median * 1e3:,.1f}",
            f"{self.median * 1e6 / pixels:.2f}",
            f"{over_matrix_time(seconds, self.multi_adds, product):.1f}",
            f"{over_copy_time(seconds, self.moved, copy):.1f}",
            "" if self.memory is None else f"{self.memory / 2**20:,.0f}",
        ]


def measure(points: Sequence[Point], rounds: int, device: torch.device) -> list[Measured]:
    """Measure points side by side."""
    networks = [point.build(device, point.fast) for point in points]
    images = [torch.rand(1, 3, point.side, point.side, device=device) for point in points]
    steps: dict[int | str, Callable[[], object]] = {
        i: partial(network, x) for i, (network, x) in enumerate(zip(networks, images, strict=True))
    }
    bounds = {"product": matrix_product(device), "copy": memory_copy(device)}
    with torch.inference_mode():
        times = interleave({**steps, **bounds}, rounds, device)
    measured = []
    for i, (point, network) in enumerate(zip(points, networks, strict=True)):
        size = (point.side, point.side)
        plain = point.build(torch.device("meta"))
        moved, adds = count_bytes(plain, size), count_multi_adds(plain, size).total
        memory = measure_peak_memory(network, size, device=device)
        seconds = (times[i], times["product"], times["copy"])
        measured.append(Measured(point, adds, moved, seconds, memory))
    return measured


def plot(measured: Sequence[Measured], file: Path, caption: str) -> None:
    """Time and its two bounds, and memory, against the pixels of the image."""
    measured = sorted(measured, key=lambda m: m.point.side)
    pixels = [m.point.side**2 for m in measured]
    figure = new_figure(figsize=(9.2, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.loglog(pixels, [m.median for m in measured], "o-", color=BLUE, label="measured")
    _, product, copy = measured[0].seconds
    bounds = {
        "bytes at the copy rate": ("--", [m.moved / copy_rate(copy) for m in measured]),
        "Multi-Adds at the matrix rate": (
            ":",
            [m.multi_adds / matrix_rate(product) for m in measured],
        ),
    }
    for label, (style, seconds) in bounds.items():
        left.loglog(pixels, seconds, style, color=GRAY, label=label)
    left.set_ylabel("time (s)")
    left.legend(frameon=False)
    known = [(p, m.memory / 2**20) for p, m in zip(pixels, measured, strict=True) if m.memory]
    right.loglog(*zip(*known, strict=True), "o-", color=BLUE) if known else None
    right.set_ylabel("peak memory (MiB)")
    for axes in (left, right):
        axes.set_xticks(pixels, [f"{m.point.side}²" for m in measured])
        bottom, top = axes.get_ylim()
        ticks = [f * 10.0**e for e in range(-4, 6) for f in (1, 2, 5)]
        axes.set_yticks(
            inside := [t for t in ticks if bottom <= t <= top], map("{:g}".format, inside)
        )
        axes.minorticks_off()
        axes.set_xlabel("input in pixels")
        axes.grid(True, color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    figure.suptitle("Compacter x2, one forward pass", fontweight="bold")
    figure.supxlabel(caption, fontsize="small", color=GRAY)
    figure.savefig(file, dpi=150)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print, plot."""
    argv = sys.argv[1:] if argv is None else argv
    parser = common_arguments(__doc__)
    axes = {
        "sides": ([64, 128, 256, 512], "of the image in pixels"),
        "batches": ([1, 2, 4, 8], "images at a time"),
        "windows": ([4, 8, 16, 32], "side of the attention window"),
        "depths": ([7, 14, 28], "blocks"),
    }
    for name, (default, meaning) in axes.items():
        parser.add_argument(
            f"--{name}",
            type=positive,
            nargs="*",
            default=default,
            metavar="N",
            help=f"{meaning} (default: {' '.join(map(str, default))}; none: no table)",
        )
    parser.add_argument(
        "--side", type=positive, default=128, help="of the image for the others (default: 128)"
    )
    parser.add_argument(
        "--fast", action="store_true", help="the fast path (on a CPU: compiled kernels)"
    )
    parser.add_argument("--plot", type=Path, metavar="FILE", help="of --sides, as PNG, PDF or SVG")
    args = parser.parse_args(argv)
    if args.plot:
        check_plot_file(args.plot)
    device = begin(args)
    tables = {
        "image": [Point(f"{side} x {side}", side, 1, {}, args.fast) for side in args.sides],
        "batch": [Point(f"{n}", args.side, n, {}, args.fast) for n in args.batches],
        "window": [
            Point(f"{w} x {w}", args.side, 1, {"window_size": w}, args.fast) for w in args.windows
        ],
        "blocks": [Point(f"{n}", args.side, 1, {"num_blocks": n}, args.fast) for n in args.depths],
    }
    caption = describe_device(device)
    parts = []
    for name, points in tables.items():
        if not points:
            continue
        try:
            measured = measure(points, args.rounds, device)
        except UnavailableError as error:
            raise UserError(f"--fast, {name}: {error}") from error
        parts.append(markdown((name, *HEAD), [m.cells() for m in measured]))
        if name == "image" and args.plot:
            plot(measured, args.plot, caption)
    side = f"{args.side} x {args.side}"
    parts.append(f"{caption}; batch, window and blocks: images of {side} pixels.")
    publish("scaling", argv, "\n\n".join(parts), args.output)
    return 0


if __name__ == "__main__":
    run(main)
