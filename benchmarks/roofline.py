"""What a machine can do at most: multiply matrices, and copy memory.

    python -m benchmarks.roofline --output benchmarks/README.md

The rest of this folder compares with it: Multi-Adds over the matrix rate is the time that a network
would take if it did nothing but multiply, at the rate of a large matrix product.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from compacter_arch.tables.complexity import describe_device

from .arguments import begin, common_arguments, run
from .report import markdown, publish
from .timing import interleave, ratio

SIDE = 2048  # of the matrices
COPIED = 2**28  # bytes: more than caches hold
# Operations whose operands and results must pass through memory; the others can be fused with them.
HEAVY = ("convolution", "mm", "addmm", "bmm", "baddbmm", "native_layer_norm", "_scaled_dot_product")


def matrix_product(
    device: torch.device, dtype: torch.dtype = torch.float32
) -> Callable[[], object]:
    """A product of two square matrices of :data:`SIDE`, to be timed beside what it is a bound of.

    Args:
        device: where, with as many threads as PyTorch has now.
        dtype: of the matrices.
    """
    a, b = torch.rand(2, SIDE, SIDE, device=device).to(dtype)
    return lambda: a @ b


def memory_copy(device: torch.device) -> Callable[[], object]:
    """A copy of :data:`COPIED` bytes, to be timed likewise."""
    source = torch.ones(COPIED // 4, device=device)
    target = torch.empty_like(source)
    return lambda: target.copy_(source)


def matrix_rate(seconds: Sequence[float]) -> float:
    """Multi-Adds per second, from the times of :func:`matrix_product`."""
    return SIDE**3 / statistics.median(seconds)


def copy_rate(seconds: Sequence[float]) -> float:
    """Bytes read and written per second, from the times of :func:`memory_copy`."""
    return 2 * COPIED / statistics.median(seconds)


def over_matrix_time(seconds: Sequence[float], multi_adds: int, product: Sequence[float]) -> float:
    """How many times as long something took as its Multi-Adds at the rate of the matrix product.

    Args:
        seconds: of it, one number for each round.
        multi_adds: of it.
        product: seconds of :func:`matrix_product` in the same rounds.
    """
    return ratio(seconds, product) * SIDE**3 / multi_adds


def over_copy_time(seconds: Sequence[float], moved: int, copy: Sequence[float]) -> float:
    """Likewise for ``moved`` bytes at the rate of :func:`memory_copy`."""
    return ratio(seconds, copy) * 2 * COPIED / moved


class _Bytes(TorchDispatchMode):
    """Adds up the bytes of operands and results of all :data:`HEAVY` operations."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = func.overloadpacket.__name__
        if name in HEAVY or name.startswith(HEAVY[-1]):
            leaves, _ = tree_flatten((args, kwargs, result))
            self.total += sum(t.nbytes for t in leaves if isinstance(t, torch.Tensor))
        return result


def count_bytes(network: nn.Module, size: tuple[int, int]) -> int:
    """What a forward pass moves through memory at least, computed operation by operation.

    Operands, weights and results of every convolution, matrix product, attention and norm, once
    each, in float32; all that is element-wise, and all copies, are taken as fused into them. What
    computes several operations on parts that stay in a cache can do with less.

    Args:
        network: on the meta device, where counting costs no computation.
        size: (height, width) of an image of three channels.
    """
    counter = _Bytes()
    with torch.no_grad(), counter:
        network(torch.zeros(1, 3, *size, device="meta"))
    return counter.total


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, print."""
    argv = sys.argv[1:] if argv is None else argv
    args = common_arguments(__doc__).parse_args(argv)
    device = begin(args)
    dtypes = [torch.float32, torch.bfloat16]
    if device.type == "cuda":  # CPUs multiply float16 matrices a thousand times slower
        dtypes.append(torch.float16)
    steps = {f"matrix product, {dtype}": matrix_product(device, dtype) for dtype in dtypes}
    times = interleave({**steps, "copy": memory_copy(device)}, args.rounds, device)
    rows = [(name, f"{matrix_rate(times[name]) / 1e9:,.0f} G Multi-Adds/s") for name in steps]
    rows.append(("copy", f"{copy_rate(times['copy']) / 1e9:,.1f} GB/s"))
    caption = f"{describe_device(device)}; products of {SIDE} x {SIDE} matrices."
    publish("roofline", argv, f"{markdown(('', 'rate'), rows)}\n\n{caption}", args.output)
    return 0


if __name__ == "__main__":
    run(main)
