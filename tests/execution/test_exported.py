"""The network for exporters: the results of the network itself, whatever its design."""

from __future__ import annotations

import pytest
import torch

from compacter_arch import CompacterArch
from compacter_arch.execution.exported import ExportedCompacter, has_half

# Four of eight rows are as many as have to be added, one more than can be mirrored.
SIZES = [(1, 1, 1), (2, 7, 5), (1, 4, 30), (1, 17, 23), (2, 16, 24), (1, 33, 8)]
DESIGNS = [
    {"upscale": 1},
    {"upscale": 1, "in_chans": 1},
    {"upscale": 2, "input_skip": True},
    {"upscale": 3, "in_chans": 1},
    {"upscale": 4, "in_chans": 1, "input_skip": True},
    {"shared_projection": False},
    {"spatial": False},
    {"channel": False},
    {"local": False, "interaction": False},
    {"ffn": "mlp"},
    {"shift": False},
    {"position_bias": False},
    {"window_size": (4, 16)},
]


def network(**options: object) -> CompacterArch:
    """A small one, in which every parameter counts."""
    torch.manual_seed(0)
    model = CompacterArch(**{"dim": 24, "num_blocks": 2, **options}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return model.requires_grad_(False)


@pytest.mark.parametrize("options", DESIGNS, ids=str)
def test_results_are_those_of_the_network(options):
    model = network(**options)
    exported = ExportedCompacter(model)
    for batch, height, width in SIZES:
        x = torch.rand(batch, model.conv_first.in_channels, height, width)
        y = model(x)
        assert (exported(x) - y).abs().max() < 1e-5 * y.abs().max(), (batch, height, width)


def test_weights_are_copies():
    model = network()
    exported = ExportedCompacter(model, torch.float16)
    before = {name: value.clone() for name, value in exported.state_dict().items()}
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1
    assert model.conv_first.weight.dtype == torch.float32
    for name, value in exported.state_dict().items():
        assert torch.equal(value, before[name]), name


@pytest.mark.skipif(not has_half(), reason="this PyTorch has no float16 on a CPU")
def test_second_moments_may_exceed_half_precision():
    model = network()
    with torch.no_grad():
        for block in model.blocks:
            block.norm1.weight *= 40  # 64 x 64 x 40^2 is a hundred times what float16 holds
            block.casa.qkv.weight /= 40
    x = torch.rand(1, 3, 64, 64)
    y = ExportedCompacter(model, torch.float16)(x)
    assert y.dtype == torch.float32
    exact = model(x)
    assert (y - exact).abs().max() < 0.02 * exact.abs().max()
