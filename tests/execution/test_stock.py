"""Whatever a user adds to a network, no faster way to compute it passes it by."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compacter_arch import CompacterArch, accelerate
from compacter_arch.execution import UnavailableError, bands, find_modified
from compacter_arch.execution.exported import ExportedCompacter
from compacter_arch.execution.kernels import train_by_kernels


class Doubled(nn.Linear):
    """A layer that is a Linear, and is not."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * super().forward(x)


class Wrapped(nn.Module):
    """A layer that shows the weight of the one inside, as adapters do."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.layer, self.weight, self.bias = layer, layer.weight, layer.bias

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x)
        return 1.5 * y


def double(*arguments: Any) -> Tensor:
    output: Tensor = arguments[-1]
    return 2 * output


def double_input(module: nn.Module, arguments: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return 2 * arguments[0], *arguments[1:]


def swap(network: CompacterArch) -> None:
    layer = network.blocks[1].casa.qkv
    network.blocks[1].casa.qkv = Doubled(layer.in_features, layer.out_features)


def replace_forward(network: CompacterArch) -> None:
    ffn = network.blocks[0].ffn
    plain = ffn.forward
    ffn.forward = lambda x: 2 * plain(x)


def replace_method(network: CompacterArch) -> None:
    casa = network.blocks[0].casa
    plain = casa.channel_map
    casa.channel_map = lambda q, k: 2 * plain(q, k)


def replace_convolution(network: CompacterArch) -> None:
    old = network.blocks[0].casa.local
    new = nn.Conv2d(48, 48, 3, padding=2, dilation=2, groups=48)
    new.load_state_dict(old.state_dict())
    network.blocks[0].casa.local = new


def replace_norm(network: CompacterArch) -> None:
    network.blocks[0].norm1.eps = 0.1


def wrap(network: CompacterArch) -> None:
    network.blocks[1].ffn.fc_out = Wrapped(network.blocks[1].ffn.fc_out)


def parametrise(network: CompacterArch) -> None:
    nn.utils.parametrizations.weight_norm(network.blocks[0].casa.proj)
    with torch.no_grad():
        network.blocks[0].casa.proj.parametrizations.weight.original0.mul_(2)


CHANGES: dict[str, tuple[Callable[[CompacterArch], Any], str]] = {
    "forward hook": (
        lambda n: n.blocks[1].casa.local.register_forward_hook(double),
        "blocks.1.casa.local has a forward hook",
    ),
    "forward pre-hook": (
        lambda n: n.blocks[0].ffn.dwconv.register_forward_pre_hook(double_input),
        "blocks.0.ffn.dwconv has a forward pre hook",
    ),
    "hook of a block": (
        lambda n: n.blocks[1].register_forward_hook(double),
        "blocks.1 has a forward hook",
    ),
    "subclass": (swap, "blocks.1.casa.qkv is a Doubled"),
    "wrapper": (wrap, "blocks.1.ffn.fc_out is a Wrapped"),
    "parametrisation": (parametrise, "blocks.0.casa.proj is a ParametrizedLinear"),
    "forward of its own": (replace_forward, "blocks.0.ffn has a forward of its own"),
    "method of its own": (replace_method, "blocks.0.casa has a channel_map of its own"),
    "other convolution": (replace_convolution, r"blocks.0.casa.local has padding \(2, 2\)"),
    "other norm": (replace_norm, "blocks.0.norm1 has eps 0.1"),
}
OUTSIDE: dict[str, tuple[Callable[[CompacterArch], Any], str]] = {
    "hook of the network": (
        lambda n: n.register_forward_hook(double),
        "the network has a forward hook",
    ),
    "hook of a convolution": (
        lambda n: n.conv_last.register_forward_hook(double),
        "conv_last has a forward hook",
    ),
}


def lively() -> CompacterArch:
    torch.manual_seed(0)
    network = CompacterArch(num_blocks=2).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return network


@pytest.mark.parametrize(("change", "reason"), (CHANGES | OUTSIDE).values(), ids=CHANGES | OUTSIDE)
def test_a_change_is_seen_and_never_passed_by(change: Callable[[Any], Any], reason: str):
    network, x = lively(), torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        before = network(x)
    assert find_modified(network) is None
    change(network)
    exact = network(x).detach()  # with gradients the plain network runs
    assert (exact - before).abs().max() > 1e-3, "the change does nothing"
    close = {"rtol": 0, "atol": 1e-5 * float(exact.abs().max())}
    with torch.no_grad():
        torch.testing.assert_close(network(x), exact, **close)
    for backend in (accelerate, ExportedCompacter, train_by_kernels):
        with pytest.raises(UnavailableError, match=f"the network was changed: {reason}"):
            backend(network)
    with torch.no_grad():
        torch.testing.assert_close(network(x), exact, **close)


def test_a_stock_network_is_computed_in_bands(monkeypatch: pytest.MonkeyPatch):
    called = []
    monkeypatch.setattr(bands, "body", lambda n, x: called.append(1) or n.body(x))
    network, x = lively(), torch.rand(1, 3, 24, 32)
    with torch.no_grad():
        network(x)
    assert called == [1]
    network(x)  # with gradients
    with torch.no_grad():
        for change, _ in CHANGES.values():
            changed = deepcopy(network)
            change(changed)
            changed(x)

        class Subclass(CompacterArch):
            pass

        Subclass(num_blocks=1)(x)
    assert called == [1]


def test_quantised_weights_are_seen():
    """A layer keeps its type, its weight does not, as libraries of quantisation do it."""

    class Weight(Tensor):
        pass

    network = lively()
    layer = network.blocks[0].ffn.fc_in
    weight = layer.weight.detach().as_subclass(Weight)
    del layer.weight
    layer.register_parameter("weight", None)
    layer._parameters["weight"] = weight
    assert find_modified(network) == "blocks.0.ffn.fc_in has a Weight"


def test_accelerate_refuses_subclasses():
    class Subclass(CompacterArch):
        pass

    with pytest.raises(UnavailableError, match="the network is a Subclass"):
        accelerate(Subclass(num_blocks=1))
