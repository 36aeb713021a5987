"""The fast path of a trained network: compiled kernels on a CPU, mixed precision on a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..archs import CompacterArch
from ..execution import UnavailableError
from ..execution.kernels import FusedCompacter

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Autocast(nn.Module):
    """A network on a GPU in mixed precision; images are float32 outside of it."""

    def __init__(self, network: nn.Module, dtype: torch.dtype) -> None:
        super().__init__()
        self.network, self.dtype = network, dtype

    def forward(self, x: Tensor) -> Tensor:
        """As the network's."""
        with torch.autocast(x.device.type, self.dtype):
            y: Tensor = self.network(x)
        return y.float()


def accelerate(network: nn.Module, precision: str = "fp32") -> nn.Module:
    """A network for inference, as fast as it can be had where its weights are.

    On a CPU that is :class:`~compacter_arch.execution.kernels.FusedCompacter`; on a GPU the network
    itself under autocast. The weights are those of now.

    Args:
        network: with its weights on the device where it will be used.
        precision: ``fp32`` (on a CPU equal to the network to 1e-5), ``bf16`` or ``fp16``: of the
            factors of matrix products, and on a GPU of convolutions too.

    Raises:
        UnavailableError: there is nothing of the kind here; says why.
    """
    dtype = PRECISIONS[precision]
    device = next(network.parameters()).device
    if device.type != "cpu":
        return network if dtype == torch.float32 else Autocast(network, dtype)
    if not isinstance(network, CompacterArch):
        raise UnavailableError(f"there are kernels for CompacterArch, not {type(network).__name__}")
    return FusedCompacter(network, dtype)
