"""How a network of another project is built: from its class and options, as it is deployed."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from compacter_arch.errors import UserError

INSTALL = 'pip install "compacter-arch[spandrel]"'


@dataclass(frozen=True)
class Peer:
    """How a network is built.

    Attributes:
        module: the Python module that has it.
        type: its class, and its name in BasicSR's registry where BasicSR brings it along.
        options: arguments of the class, the scale excepted.
        parameters: how many it has at x2.
        source: where the options were published.
        scale: what the class calls the scale.
        multiple: height and width must be multiples of it; others pad by themselves.
    """

    module: str
    type: str
    options: Mapping[str, Any]
    parameters: int
    source: str
    scale: str = "upscale"
    multiple: int = 1

    @property
    def installed(self) -> bool:
        """Whether the package with the module is there."""
        return find_spec(self.module.partition(".")[0]) is not None

    def network_options(self, scale: int) -> dict[str, Any]:
        """The ``network_g`` section of an option file; for networks registered with BasicSR."""
        return {"type": self.type, self.scale: scale, **self.options}

    def build(self, scale: int) -> nn.Module:
        """The network in evaluation mode, as it is deployed.

        Raises:
            UserError: its package is not installed.
        """
        if not self.installed:
            raise UserError(f"{self.type} needs {self.module.partition('.')[0]}: {INSTALL}")
        build = getattr(importlib.import_module(self.module), self.type)
        network = merge_branches(build(**{self.scale: scale}, **self.options))
        return (Padded(network, self.multiple, scale) if self.multiple > 1 else network).eval()


class Padded(nn.Module):
    """A network with the padding that BasicSR's ``SwinIRModel`` does outside of it."""

    def __init__(self, network: nn.Module, multiple: int, scale: int) -> None:
        super().__init__()
        self.network, self.multiple, self.scale = network, multiple, scale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H * scale, W * scale)."""
        height, width = x.shape[2:]
        x = F.pad(x, (0, -width % self.multiple, 0, -height % self.multiple), "reflect")
        return self.network(x)[:, :, : height * self.scale, : width * self.scale]


def merge_branches(network: nn.Module) -> nn.Module:
    """Put one convolution in place of SPAN's parallel ones, which it merges for deployment."""
    for module in list(network.modules()):
        child: Any
        for name, child in module.named_children():
            if hasattr(child, "eval_conv"):
                child.update_params()
                setattr(module, name, child.eval_conv)
    return network
