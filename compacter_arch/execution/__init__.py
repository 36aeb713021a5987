"""Other ways to compute the network of :mod:`compacter_arch.archs`, with the same results.

- :mod:`.bands`: inference on a CPU without a compiler; the blocks of the plain network, a band of
  rows at a time.
- :mod:`.kernels.inference`: inference on a CPU; each block by three compiled functions.
- :mod:`.kernels.training`: training on a CPU; each block and its gradients by compiled functions.
- :mod:`.exported`: ONNX and PyTorch's export; gathers, any size in one graph.

The plain network is the definition. Each of the others is tested against it, and is used only
where :mod:`.stock` finds every layer as the plain network built it.

Importing this package lets every ``CompacterArch`` use :mod:`.bands` where they apply.
"""

from __future__ import annotations

from typing import Any, cast

from torch import Tensor

from ..archs import CompacterArch
from . import bands
from .stock import UnavailableError, find_modified


def execute(network: CompacterArch, x: Tensor) -> Tensor:
    """``network.body(x)`` by what applies: (B, C, H, W) -> (B, C, H, W)."""
    kernels: Any = vars(network).get("training_kernels")
    if kernels is not None and kernels.apply_to(network, x):
        return cast(Tensor, kernels.body(network, x))
    return bands.body(network, x) if bands.apply_to(network, x) else network.body(x)


CompacterArch.execute = execute  # type: ignore[assignment]

__all__ = ["UnavailableError", "execute", "find_modified"]
