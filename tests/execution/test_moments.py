"""The channel attention from second moments against that of the plain network."""

from __future__ import annotations

import pytest
import torch

from compacter_arch import CASA
from compacter_arch.execution.moments import assemble, channel_map, moments_of, with_bias


@pytest.mark.parametrize("rows", [1, 3, 8])
def test_the_channel_map_is_that_of_casa(rows: int):
    torch.manual_seed(0)
    casa = CASA(6, num_heads=2, window_size=4).double()
    with torch.no_grad():
        for parameter in casa.parameters():
            parameter += torch.randn_like(parameter)
    x = torch.randn(2, 8, 5, 6, dtype=torch.float64)  # (B, H, W, C)
    q, k, _ = casa.qkv(x).chunk(3, -1)
    moments = moments_of(x.split(rows, 1))
    result = channel_map(with_bias(casa.qkv), moments, casa.temperature)
    torch.testing.assert_close(result, casa.channel_map(q, k), rtol=1e-10, atol=1e-12)


def test_moments_are_those_of_x_and_one():
    x = torch.randn(2, 4, 3, 5)
    ones = torch.cat([x, torch.ones(2, 4, 3, 1)], -1).flatten(1, 2)
    torch.testing.assert_close(moments_of([x]), ones.mT @ ones)
    pixels = x.flatten(1, 2)
    torch.testing.assert_close(assemble(pixels.mT @ pixels, pixels.sum(1), 12), ones.mT @ ones)


def test_moments_of_half_precision_are_sums_in_float32():
    x = torch.full((1, 512, 512, 2), 2.0, dtype=torch.bfloat16)
    moments = moments_of([x])
    assert moments.dtype == torch.float32
    assert moments[0].tolist() == [
        [2**20, 2**20, 2**19],
        [2**20, 2**20, 2**19],
        [2**19, 2**19, 2**18],
    ]
