"""Time of a training step over that of a SwinIR of about the same size, measured side by side.

    python -m benchmarks.training --output benchmarks/README.md
    python -m benchmarks.training --device cuda --patch 64 --rounds 50

A step is ``optimize_parameters`` of BasicSR's models: forward, L1, backward, Adam; x2, random
images. The first three rows are BasicSR's own ``SRModel`` in eager float32; the others are our
``RestorationModel`` with its keys.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from functools import partial
from typing import Any

import torch
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from torch import Tensor

from compacter_arch.errors import UserError
from compacter_arch.tables.complexity import describe_device
from compacter_arch.training.checks.findings import describe
from compacter_arch.training.checks.quiet import quiet_logger

from .arguments import batch_arguments, begin, run
from .peers import PEERS
from .report import markdown, publish
from .timing import interleave, ratio

SCALE = 2
REFERENCE = "SwinIR-400K, SRModel"
STOCK = "Compacter, SRModel"
COMPILE = {"compile": True}
ADAM = {"type": "Adam", "lr": 5e-4, "betas": [0.9, 0.99]}
FUSED = {"optim_g": {**ADAM, "fused": True}}
# Row: network, keys of RestorationModel (None: SRModel).
ROWS: dict[str, tuple[str, Mapping[str, Any] | None]] = {
    REFERENCE: ("SwinIR-400K", None),
    "SwinIR-light, SRModel": ("SwinIR-light", None),
    STOCK: ("Compacter", None),
    "Compacter, channels_last": ("Compacter", {"channels_last": True}),
    "Compacter, amp: bf16": ("Compacter", {"amp": "bf16"}),
    "Compacter, amp: bf16, optim_g: fused": ("Compacter", {"amp": "bf16", **FUSED}),
    "Compacter, amp: fp16": ("Compacter", {"amp": "fp16"}),
    "Compacter, compile": ("Compacter", COMPILE),
    "Compacter, compile, amp: bf16": ("Compacter", {**COMPILE, "amp": "bf16"}),
    "Compacter, compile, amp: bf16, optim_g: fused": (
        "Compacter",
        {**COMPILE, "amp": "bf16", **FUSED},
    ),
    "Compacter, compile, amp: fp16": ("Compacter", {**COMPILE, "amp": "fp16"}),
}
HEAD = ("row", "time (ms)", "steps/s", f"time / {REFERENCE}", f"time / {STOCK}")


def options(
    network: str, keys: Mapping[str, Any] | None, device: torch.device, batch: int
) -> dict[str, Any]:
    """What BasicSR would read from an option file."""
    opt = {
        "model_type": "SRModel" if keys is None else "RestorationModel",
        "num_gpu": int(device.type != "cpu"),
        "dist": False,
        "is_train": True,
        "scale": SCALE,
        "datasets": {"train": {"batch_size_per_gpu": batch}},
        "network_g": PEERS[network].network_options(SCALE),
        "path": {},
        "train": {
            "optim_g": ADAM,
            "scheduler": {"type": "MultiStepLR", "milestones": [250_000], "gamma": 0.5},
            "total_iter": 500_000,
            "pixel_opt": {"type": "L1Loss"},
            **(keys or {}),
        },
    }
    return deepcopy(opt)  # BasicSR takes parts of it out


def take_step(model: SRModel, data: Mapping[str, Tensor]) -> None:
    """One iteration of BasicSR's training loop."""
    model.feed_data(data)
    model.optimize_parameters(1)


def main(argv: Sequence[str] | None = None) -> int:
    """Build, measure, print."""
    argv = sys.argv[1:] if argv is None else argv
    parser = batch_arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=ROWS, metavar="ROW", help="default: all")
    args = parser.parse_args(argv)
    device = begin(args)
    sides = {"lq": args.patch, "gt": args.patch * SCALE}
    data = {
        name: torch.rand(args.batch, 3, side, side, device=device) for name, side in sides.items()
    }

    steps: dict[str, Callable[[], None]] = {}
    failures = []
    possible = [name for name in ROWS if device.type == "cuda" or "fp16" not in name]
    for name in dict.fromkeys([REFERENCE, STOCK, *(args.only or possible)]):
        network, keys = ROWS[name]
        try:
            with quiet_logger():
                model = build_model(options(network, keys, device, args.batch))
            step = partial(take_step, model, data)
            step()
        except Exception as error:  # of whatever kind: the others are measured nevertheless
            failures.append(f"- {name}: {describe(error)}")
        else:
            steps[name] = step
    if not {REFERENCE, STOCK} <= steps.keys():
        raise UserError("\n".join(failures))
    times = interleave(steps, args.rounds, device)
    rows = []
    for name, seconds in times.items():
        median = statistics.median(seconds)
        ratios = (f"{ratio(seconds, times[other]):.3f}" for other in (REFERENCE, STOCK))
        rows.append((name, f"{median * 1e3:,.1f}", f"{1 / median:,.2f}", *ratios))
    lines = [
        f"{describe_device(device)}; batch {args.batch}, x{SCALE}, "
        f"LR images of {args.patch} x {args.patch} pixels."
    ]
    lines += ["Not run:", *failures] if failures else []
    publish("training", argv, "\n".join([markdown(HEAD, rows), "", *lines]), args.output)
    return 0


if __name__ == "__main__":
    run(main)
