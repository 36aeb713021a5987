"""Initialisations of Compacter, each different from the shipped one in one or two places.

``python -m benchmarks.budget --starts`` trains and compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import nn

from compacter_arch.archs import CompacterArch

from .networks import Peer


def projections(network: CompacterArch) -> Iterator[tuple[str, nn.Linear]]:
    """The linear layers by name."""
    for name, module in network.named_modules():
        if isinstance(module, nn.Linear):
            yield name.split(".")[-1], module


def normal(network: CompacterArch) -> None:
    """A truncated normal of 0.02 for all projections, as in the Swin Transformer."""
    for _, linear in projections(network):
        nn.init.trunc_normal_(linear.weight, std=0.02)


def fan_in(network: CompacterArch) -> None:
    """A truncated normal of 1 / sqrt(inputs), smaller by sqrt(2 depth) at the end of a branch."""
    depth = 2 * len(network.blocks)
    for name, linear in projections(network):
        scale = depth**-0.5 if name in ("proj", "fc_out") else 1
        nn.init.trunc_normal_(linear.weight, std=scale * linear.in_features**-0.5)


@torch.no_grad()
def icnr(network: CompacterArch) -> None:
    """The sub-pixels of the reconstruction start equal (Aitken et al., arXiv 1707.02937)."""
    conv, count = network.reconstruct, network.upscale**2
    nn.init.kaiming_uniform_(conv.weight, a=5**0.5)
    for parameter in (conv.weight, conv.bias):
        assert parameter is not None
        parameter.copy_(parameter[::count].repeat_interleave(count, 0))


@torch.no_grad()
def unrelated(network: CompacterArch) -> None:
    """PyTorch's default for the reconstruction, whose sub-pixels start unrelated."""
    network.reconstruct.reset_parameters()


@torch.no_grad()
def zero(network: CompacterArch) -> None:
    """The reconstruction starts with zeros: the output is the enlarged input."""
    network.reconstruct.weight.zero_()
    network.reconstruct.bias.zero_()  # type: ignore[union-attr]


STEPS: dict[str, Callable[[CompacterArch], None]] = {
    step.__name__: step for step in (normal, fan_in, icnr, unrelated, zero)
}


class CompacterStarted(CompacterArch):
    """Compacter with other initial weights.

    Args:
        steps: names of :data:`STEPS`, carried out in this order.
        options: of ``CompacterArch``.
    """

    def __init__(self, steps: tuple[str, ...] = (), **options: Any) -> None:
        super().__init__(**options)
        for step in steps:
            STEPS[step](self)


def start(*steps: str) -> Peer:
    """An initialisation, in the form of :mod:`benchmarks.peers`."""
    options = {"input_skip": True, "steps": list(steps)}
    return Peer(__name__, "CompacterStarted", options, 392_909, "ours")


STARTS = {
    "normal 0.02, reconstruction near zero": start(),  # as shipped
    "normal 0.02": start("normal", "unrelated"),
    "normal 0.02, ICNR": start("normal", "icnr"),
    "normal 0.02, reconstruction zero": start("normal", "zero"),
    "fan-in": start("fan_in", "unrelated"),
    "fan-in, ICNR": start("fan_in", "icnr"),
    "fan-in, reconstruction zero": start("fan_in", "zero"),
}
