"""Bands against the plain network; what they need of memory and of time is in `benchmarks/`."""

from __future__ import annotations

import pytest
import torch

from compacter_arch import CompacterArch
from compacter_arch.execution import bands

from .test_exported import DESIGNS

SIZES = [(1, 1, 1), (2, 3, 5), (1, 8, 8), (2, 17, 23), (1, 40, 33), (1, 130, 67)]
# A row of windows each; two, the last alone; all.
PIXELS = {"one row": 1, "some rows": 2 * 2 * 8 * 24, "all": 10**6}


@pytest.mark.parametrize("pixels", PIXELS.values(), ids=PIXELS)
@pytest.mark.parametrize("options", [{}, *DESIGNS], ids=str)
def test_bands_equal_the_plain_network(monkeypatch, options, pixels):
    monkeypatch.setattr(bands, "BAND_PIXELS", pixels)
    monkeypatch.setattr(bands, "FEWEST_ROWS", 1)
    torch.manual_seed(0)
    network = CompacterArch(**{"dim": 24, "num_blocks": 2, **options}).double().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    for batch, height, width in SIZES:
        x = torch.rand(batch, network.conv_first.in_channels, height, width).double()
        plain = network(x).detach()  # with gradients the plain network runs
        with torch.no_grad():
            y = network(x)
        torch.testing.assert_close(y, plain, rtol=0, atol=1e-10 * float(plain.abs().max()))


def test_bands_under_autocast():
    torch.manual_seed(0)
    network, x = CompacterArch(num_blocks=2).eval(), torch.rand(1, 3, 24, 40)
    with torch.no_grad():
        exact = network(x)
        with torch.autocast("cpu", torch.bfloat16):
            assert bands.apply_to(network, x)
            mixed = network(x)
    assert 0 < (mixed.float() - exact).abs().max() < 0.02


def test_bands_are_for_inference_on_a_cpu_alone():
    network, x = CompacterArch(num_blocks=1), torch.rand(1, 48, 8, 8)
    assert not bands.apply_to(network, x), "gradients are wanted"
    with torch.no_grad():
        assert bands.apply_to(network, x)
        assert not bands.apply_to(network, x.to("meta"))
    with torch.inference_mode():
        assert bands.apply_to(network, x)
