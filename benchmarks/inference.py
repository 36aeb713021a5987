"""Time of a forward pass of each network over SwinIR-light's, all measured side by side.

    python -m benchmarks.inference --output benchmarks/README.md
    python -m benchmarks.inference --scale 4 --size 90 160
    python -m benchmarks.inference --modes bf16 compile --only Compacter SwinIR-light

Each mode is applied to all networks, so that the table tells what each gains by it. A network that
cannot run in a mode is named below the table.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compacter_arch import CompacterArch
from compacter_arch.cli.arguments import positive
from compacter_arch.errors import UserError
from compacter_arch.inference import accelerate
from compacter_arch.tables.complexity import (
    count_multi_adds,
    count_parameters,
    describe_device,
    measure_peak_memory,
)
from compacter_arch.training.checks.findings import describe

from .arguments import begin, common_arguments, run
from .networks import INSTALL
from .peers import PEERS, REFERENCE, installed_peers
from .report import markdown, publish
from .roofline import matrix_product, over_matrix_time
from .timing import interleave, ratio

HEAD = (
    "network",
    "mode",
    "parameters (K)",
    "Multi-Adds (G)",
    "time (ms)",
    f"time / {REFERENCE}",
    "time / its eager",
    "share of the matrix rate (%)",
    "peak memory (MiB)",
)


@dataclass(frozen=True)
class Mode:
    """How a network is run.

    Attributes:
        dtype: of autocast; None for float32 without it.
        compile: the mode of ``torch.compile``; None for eager.
        fast: the fast path of :mod:`compacter_arch.inference`, which there is for Compacter alone.
    """

    dtype: torch.dtype | None = None
    compile: str | None = None
    fast: bool = False


EAGER = "eager"
PRODUCT = "matrix product"  # its times stand beside those of the networks, by the type of autocast
MODES = {
    EAGER: Mode(),
    "bf16": Mode(torch.bfloat16),
    "fp16": Mode(torch.float16),
    "compile": Mode(compile="default"),
    "compile-bf16": Mode(torch.bfloat16, "default"),
    "fast": Mode(fast=True),
    "fast-bf16": Mode(torch.bfloat16, fast=True),
    "graphs": Mode(compile="reduce-overhead"),  # CUDA graphs
    "graphs-fp16": Mode(torch.float16, "reduce-overhead"),
}


def forward_pass(network: nn.Module, x: Tensor, mode: Mode) -> Callable[[], Tensor]:
    """A call that runs the network on ``x`` in a mode.

    Raises:
        UnavailableError: the network has no fast path.
    """
    autocast = mode.dtype if not mode.fast else None
    ready: Callable[[Tensor], Tensor] = network
    if mode.fast:
        ready = accelerate(network, "fp32" if mode.dtype is None else "bf16")
    elif mode.compile:
        ready = torch.compile(network, mode=mode.compile, dynamic=False)

    def call() -> Tensor:
        with (
            torch.inference_mode(),
            torch.autocast(x.device.type, autocast, enabled=autocast is not None),
        ):
            return ready(x)

    return call


def runnable(
    networks: dict[str, nn.Module], x: Tensor, modes: Sequence[str]
) -> tuple[dict[tuple[str, str], Callable[[], Tensor]], list[str]]:
    """The passes that work, by network and mode, and a line for each that does not."""
    calls, failures = {}, []
    for mode in modes:
        for name, network in networks.items():
            if MODES[mode].fast and not isinstance(network, CompacterArch):
                continue
            try:
                call = forward_pass(network, x, MODES[mode])
                call()
            except Exception as error:  # of whatever kind: the others are measured nevertheless
                failures.append(f"- {name}, {mode}: {describe(error).splitlines()[0]}")
            else:
                calls[name, mode] = call
    return calls, failures


def table_row(
    name: str,
    mode: str,
    network: nn.Module,
    size: tuple[int, int],
    times: dict[tuple[str, str], list[float]],
) -> list[str]:
    """One line below :data:`HEAD`; memory is measured for eager alone."""
    seconds = times[name, mode]
    adds = count_multi_adds(network, size).total
    device = next(network.parameters()).device
    memory = measure_peak_memory(network, size, device=device) if mode == EAGER else None
    own, product = times.get((name, EAGER)), times[PRODUCT, str(MODES[mode].dtype)]
    return [
        name,
        mode,
        f"{count_parameters(network) / 1e3:,.0f}",
        f"{adds / 1e9:,.1f}",
        f"{statistics.median(seconds) * 1e3:,.1f}",
        f"{ratio(seconds, times[REFERENCE, EAGER]):.3f}",
        "" if own is None else f"{ratio(seconds, own):.2f}",
        f"{100 / over_matrix_time(seconds, adds, product):.0f}",
        "" if memory is None else f"{memory / 2**20:,.0f}",
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Build, measure, print."""
    argv = sys.argv[1:] if argv is None else argv
    parser = common_arguments(__doc__)
    parser.add_argument("--scale", type=int, choices=(2, 3, 4), default=2)
    parser.add_argument(
        "--size",
        type=positive,
        nargs=2,
        default=(180, 320),
        metavar=("H", "W"),
        help="of the input in pixels (default: 180 320)",
    )
    parser.add_argument(
        "--modes",
        nargs="+",
        choices=MODES,
        default=[],
        help="besides eager float32: autocast, torch.compile, Compacter's fast path, CUDA graphs",
    )
    parser.add_argument(
        "--only", nargs="+", choices=PEERS, metavar="NAME", help="networks (default: all)"
    )
    args = parser.parse_args(argv)
    device, size = begin(args), tuple(args.size)
    names = args.only or installed_peers()
    networks = {
        name: PEERS[name].build(args.scale).to(device)
        for name in dict.fromkeys([REFERENCE, *names])
    }
    modes = list(dict.fromkeys([EAGER, *args.modes]))
    dtypes = {MODES[mode].dtype for mode in modes}
    if device.type == "cpu" and torch.float16 in dtypes:
        raise UserError("--modes: fp16 needs a GPU; use bf16 on a CPU")

    x = torch.rand(1, 3, *size, device=device)
    calls, failures = runnable(networks, x, modes)
    if (REFERENCE, EAGER) not in calls:
        raise UserError("\n".join(failures))
    products = {
        (PRODUCT, str(dtype)): matrix_product(device, dtype or torch.float32) for dtype in dtypes
    }
    times = interleave({**calls, **products}, args.rounds, device)
    rows = [
        table_row(name, mode, networks[name], size, times)
        for name, mode in sorted(calls, key=lambda key: statistics.median(times[key]))
    ]
    lines = [f"{describe_device(device)}; x{args.scale}, input {size[0]} x {size[1]} pixels."]
    lines += ["Not run:", *failures] if failures else []
    missing = [] if args.only else [name for name in PEERS if name not in names]
    lines += [f"Not installed ({INSTALL}): {', '.join(missing)}."] if missing else []
    publish("inference", argv, "\n".join([markdown(HEAD, rows), "", *lines]), args.output)
    return 0


if __name__ == "__main__":
    run(main)
