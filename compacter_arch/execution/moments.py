"""The channel attention from the second moments of its input.

The channel map of CASA is a softmax of cosines between the channels of Q and of K, over all pixels.
Q and K being projections of x, their products follow from those of x alone: with M the sum over all
pixels of ``[x, 1]^T [x, 1]`` and the biases as last column of the weights, ``Q^T K = W_q M W_k^T``.
So neither Q nor K is needed for the whole image at once.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import reduce

import torch
from torch import Tensor, nn

from ..archs.casa_arch import NORM_EPS


def moments_of(parts: Iterable[Tensor]) -> Tensor:
    """The sum over all pixels of ``[x, 1]^T [x, 1]``, (B, C + 1, C + 1), in float32 at least.

    Args:
        parts: an image in pieces, (B, h, W, C) each.
    """
    sums = []
    for part in parts:
        x = part.flatten(1, 2).to(torch.promote_types(part.dtype, torch.float32))  # (B, n, C)
        sums.append(assemble(x.mT @ x, x.sum(1), x.shape[1]))
    return reduce(torch.add, sums)


def assemble(second: Tensor, first: Tensor, count: int) -> Tensor:
    """The moments from ``x^T x``, (B, C, C), the sums of x, (B, C), and the count of pixels."""
    last = first.new_full((len(first), 1), count)
    right = torch.cat([first, last], 1)[:, :, None]  # (B, C + 1, 1)
    return torch.cat([torch.cat([second, first[:, None]], 1), right], 2)


def with_bias(linear: nn.Linear) -> Tensor:
    """The weight of a projection with its bias as last column: (N, C + 1)."""
    return torch.cat([linear.weight, linear.bias[:, None]], 1)


def channel_map(qkv: Tensor, moments: Tensor, temperature: Tensor) -> Tensor:
    """``CASA.channel_map`` of the Q and K of an image.

    Args:
        qkv: the projection to Q, K and V, (3C, C + 1), biases last.
        moments: (B, C + 1, C + 1).
        temperature: (1,).

    Returns:
        (B, C, C).
    """
    w_q, w_k, _ = qkv.to(moments.dtype).chunk(3)
    q, k = w_q @ moments, w_k @ moments  # (B, C, C + 1)
    q_norm = (q * w_q).sum(-1).clamp_min(NORM_EPS**2).sqrt()  # (B, C)
    k_norm = (k * w_k).sum(-1).clamp_min(NORM_EPS**2).sqrt()
    cosine = q @ w_k.mT / (q_norm[:, :, None] * k_norm[:, None])
    return (cosine * temperature.to(moments.dtype)).softmax(-1)
