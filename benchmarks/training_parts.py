"""Where the time of a training step on a CPU goes: its parts, and what the machine can do at most.

    python -m benchmarks.training_parts --threads 2 --output benchmarks/README.md

A step is ``optimize_parameters`` of ``RestorationModel`` with ``compile: true``, the loss and the
averages of the option files for x2, and random images. The compiled passes are timed one by one;
Multi-Adds and bytes are those that they cannot do without.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from basicsr.models import build_model

from compacter_arch.execution.kernels.inference import kernel_constants
from compacter_arch.execution.kernels.training import TrainingKernels
from compacter_arch.tables.complexity import describe_device
from compacter_arch.training.checks.quiet import quiet_logger

from .arguments import batch_arguments, begin, run
from .report import markdown, publish
from .roofline import copy_rate, matrix_product, matrix_rate, memory_copy
from .training import SCALE, options

PASSES = ("mix", "feed", "feed_backward", "mix_backward")
TRAIN = {
    "compile": True,
    "ema_decay": 0.999,
    "pixel_opt": {
        "type": "L1FrequencyLoss",
        "loss_weight": 1.0,
        "frequency_weight": 0.1,
        "reduction": "mean",
    },
}
HEAD = ("part", "time (ms)", "of the step", "of the matrix rate", "of the copy rate")


def multi_adds(name: str, c: int, hidden: int, window: int) -> int:
    """The Multi-Adds of matrix products of a pass, for a pixel and a block."""
    return {
        "mix": 3 * c * c + c * c + 2 * window * c + 2 * c * c,
        "feed": 3 * c * hidden,
        "feed_backward": 6 * c * hidden,
        "mix_backward": 4 * c * c + 5 * window * c + 7 * c * c,
    }[name]


def bytes_moved(name: str, c: int, hidden: int) -> int:
    """The bytes of images that a pass reads and writes, for a pixel and a block."""
    floats = {
        "mix": (1 + 3) * c + (1 + 3 + 3 + 1) * c,  # x, qkv; x, qkv, s t u, y
        "feed": (1 + 1 + 1) * c + 2 * hidden,  # x, y, x; h
        "feed_backward": (1 + 1 + 1 + 1) * c + 2 * hidden,  # dy, x, dy, dx; h
        # dy, qkv, s t u, dqkv, du; du, v, dqkv, x, dy, dx
        "mix_backward": (1 + 3 + 3 + 3 + 1) * c + (1 + 1 + 3 + 1 + 1 + 1) * c,
    }
    return 4 * floats[name]


class Clock:
    """Adds up the seconds that functions take in each step."""

    def __init__(self) -> None:
        self.steps: dict[str, list[float]] = defaultdict(list)
        self.now: dict[str, float] = defaultdict(float)

    def timed(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """``function``, whose time counts under ``name``."""

        def call(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                self.now[name] += time.perf_counter() - start

        return call

    def end_step(self) -> None:
        """What was added up is the time of one step."""
        for name, seconds in self.now.items():
            self.steps[name].append(seconds)
        self.now.clear()

    def median(self, name: str) -> float:
        """Seconds in a step."""
        return statistics.median(self.steps[name])


class TimedLibrary:
    """The compiled passes with a clock."""

    def __init__(self, library: Any, clock: Clock) -> None:
        self.__dict__.update({name: clock.timed(name, getattr(library, name)) for name in PASSES})
        self.channels_size = library.channels_size


@dataclass(frozen=True)
class TimedKernels(TrainingKernels):
    """The kernels, whose functions are those of ``timed``."""

    timed: Any

    def library(self) -> Any:
        """As of the base class."""
        return self.timed


def main(argv: Sequence[str] | None = None) -> int:
    """Build, measure, print."""
    argv = sys.argv[1:] if argv is None else argv
    args = batch_arguments(__doc__).parse_args(argv)
    device = begin(args)
    with quiet_logger():
        model = build_model(options("Compacter", TRAIN, device, args.batch))
    network, clock = model.net_g, Clock()
    kernels = network.training_kernels
    network.training_kernels = TimedKernels(kernels.sizes, TimedLibrary(kernels.library(), clock))
    sides = {"lq": args.patch, "gt": args.patch * SCALE}
    data = {name: torch.rand(args.batch, 3, side, side) for name, side in sides.items()}

    def bare() -> None:
        network.zero_grad()
        network(data["lq"]).mean().backward()

    def step() -> None:
        model.feed_data(data)
        model.optimize_parameters(1)

    model.optimizer_g.step = clock.timed("optimizer", model.optimizer_g.step)
    model.model_ema = clock.timed("averages of the weights", model.model_ema)
    model.cri_pix.forward = clock.timed("loss", model.cri_pix.forward)
    whole = {
        "forward and backward alone": clock.timed("forward and backward alone", bare),
        "step": clock.timed("step", step),
        "matrix product": clock.timed("matrix product", matrix_product(device)),
        "copy": clock.timed("copy", memory_copy(device)),
    }
    for number in range(args.rounds + 2):
        for name in ("forward and backward alone", "matrix product", "copy", "step"):
            if name == "step":  # the passes of the bare one are not those of the step
                for part in PASSES:
                    clock.now.pop(part, None)
            whole[name]()
        clock.end_step()
        if number < 2:  # warm-up
            clock.steps.clear()

    sizes = kernel_constants(network)
    c, hidden = sizes["DIM"], sizes["HIDDEN"]
    window = sizes["WINDOW_H"] * sizes["WINDOW_W"]
    count = len(network.blocks) * args.batch * args.patch**2
    products = matrix_rate(clock.steps["matrix product"])
    copies = copy_rate(clock.steps["copy"])
    seconds = {name: clock.median(name) for name in clock.steps}
    total, all_adds = seconds["step"], 0
    rows: list[tuple[str, float, str, str]] = []
    for name in PASSES:
        adds = multi_adds(name, c, hidden, window) * count
        moved = bytes_moved(name, c, hidden) * count
        all_adds += adds
        shares = adds / seconds[name] / products, moved / seconds[name] / copies
        rows.append((f"`{name}`", seconds[name], f"{shares[0]:.0%}", f"{shares[1]:.0%}"))
    compiled = sum(seconds[name] for name in PASSES)
    rows.append(("the four", compiled, f"{all_adds / compiled / products:.0%}", ""))
    for name in ("loss", "optimizer", "averages of the weights"):
        rows.append((name, seconds[name], "", ""))
    rest = total - sum(seconds[name] for name in ("loss", "optimizer", "averages of the weights"))
    rows.append(("convolutions and the rest", rest - compiled, "", ""))
    rows.append(("a step", total, f"{all_adds / total / products:.0%}", ""))
    lines = [(name, f"{1e3 * t:,.1f}", f"{t / total:.1%}", *shares) for name, t, *shares in rows]
    caption = (
        f"{describe_device(device)}; batch {args.batch}, x{SCALE}, LR images of {args.patch} x "
        f"{args.patch} pixels. A step takes {total / seconds['forward and backward alone']:.3f} of "
        f"the time of its forward and backward pass alone. The machine multiplies "
        f"{products / 1e9:,.0f} G Multi-Adds and copies {copies / 1e9:,.1f} GB in a second."
    )
    publish("training_parts", argv, f"{markdown(HEAD, lines)}\n\n{caption}", args.output)
    return 0


if __name__ == "__main__":
    run(main)
