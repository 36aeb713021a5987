"""Which attention kernels a Compacter runs in each precision, and whether its output is finite.

    python -m benchmarks.kernels --device cuda

With trained weights, whose activations are larger than those of random ones. Exit status 1 when an
output is not finite.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.profiler import profile

from compacter_arch.cli.arguments import WEIGHTS, positive
from compacter_arch.inference import load_model
from compacter_arch.tables.complexity import describe_device

from .arguments import begin, common_arguments, run
from .report import markdown, publish

PRECISIONS = {  # name: type of autocast, type of weights and image
    "float32": (None, torch.float32),
    "bf16 autocast": (torch.bfloat16, torch.float32),
    "fp16 autocast": (torch.float16, torch.float32),
    "bf16 weights": (None, torch.bfloat16),
    "fp16 weights": (None, torch.float16),
}
HEAD = ("precision", "attention kernels", "finite", "largest difference to float32 (of 255)")


def images(size: tuple[int, int], device: torch.device) -> dict[str, Tensor]:
    """What networks have failed on: noise, and flat images, black and white."""
    shape = (1, 3, *size)
    return {
        "noise": torch.rand(shape, device=device),
        "black": torch.zeros(shape, device=device),
        "white": torch.ones(shape, device=device),
    }


def restore(
    network: nn.Module, x: Tensor, autocast: torch.dtype | None, dtype: torch.dtype
) -> Tensor:
    """The output in float32; ``network`` is moved to ``dtype``."""
    network.to(dtype)
    with (
        torch.inference_mode(),
        torch.autocast(x.device.type, autocast, enabled=autocast is not None),
    ):
        return network(x.to(dtype)).float()


def attention_kernels(
    network: nn.Module, x: Tensor, autocast: torch.dtype | None, dtype: torch.dtype
) -> list[str]:
    """The attention operators that the profiler sees; ``scaled_dot_product_attention`` is all."""
    with profile() as record:
        restore(network, x, autocast, dtype)
    names = {event.key.removeprefix("aten::").strip("_") for event in record.key_averages()}
    found = {name for name in names if "attention" in name and "forward" not in name}
    return sorted(found - {"scaled_dot_product_attention"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run, print."""
    argv = sys.argv[1:] if argv is None else argv
    parser = common_arguments(__doc__)
    parser.add_argument("--weights", type=Path, default=WEIGHTS / "Compacter_SRx2.pth")
    parser.add_argument("--size", type=positive, nargs=2, default=(180, 320), metavar=("H", "W"))
    args = parser.parse_args(argv)
    device = begin(args)
    inputs = images(tuple(args.size), device)
    exact: dict[str, Tensor] = {}
    rows, all_finite = [], True
    for precision, types in PRECISIONS.items():
        network = load_model(args.weights).to(device)
        outputs = {name: restore(network, x, *types) for name, x in inputs.items()}
        exact = exact or outputs
        finite = all(y.isfinite().all() for y in outputs.values())
        all_finite &= finite
        difference = max((outputs[name] - exact[name]).abs().max().item() for name in inputs)
        kernels = attention_kernels(network, inputs["noise"], *types)
        row = (
            precision,
            ", ".join(kernels) or "none",
            "yes" if finite else "NO",
            f"{255 * difference:.2f}",
        )
        rows.append(row)
    caption = f"{describe_device(device)}; {args.weights.name}, {' x '.join(map(str, args.size))}."
    publish("kernels", argv, f"{markdown(HEAD, rows)}\n\n{caption}", args.output)
    return 0 if all_finite else 1


if __name__ == "__main__":
    run(main)
