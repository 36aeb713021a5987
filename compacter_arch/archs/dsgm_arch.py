"""Dual selective gated module (DSGM), the feed-forward part of Compacter (ACM MM 2024).

From the paper's figure: two branches of Linear and DWConv3x3, one through a sigmoid, one through
GELU, two products added, one Linear. The figure's arrows allow two readings. Drawn literally both
products are the same; we take the reading that makes the second one useful.

    x -> fc_in -> depth-wise convolution 3x3 -+-> a -+-> sigmoid(a) * b + GELU(b) * a -> fc_out
                                              +-> b -+
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .casa_arch import convolve, projection


class DSGM(nn.Module):
    """``fc_out(sigmoid(a) * b + GELU(b) * a)`` with ``a, b = split(DWConv3x3(fc_in(x)))``.

    Args:
        dim: channels C.
        expansion_ratio: width of each branch over C.
    """

    def __init__(self, dim: int, expansion_ratio: float = 2) -> None:
        super().__init__()
        hidden = round(dim * expansion_ratio)
        self.fc_in = projection(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.fc_out = projection(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = convolve(self.dwconv, self.fc_in(x.permute(0, 2, 3, 1)))  # (B, H, W, 2rC)
        return self.fc_out(self.gate(x)).permute(0, 3, 1, 2)

    def gate(self, x: Tensor) -> Tensor:
        """Each branch decides what passes of the other one: (B, H, W, 2rC) -> (B, H, W, rC)."""
        a, b = x.chunk(2, -1)
        return torch.sigmoid(a) * b + F.gelu(b) * a


class MLP(nn.Module):
    """Linear, GELU, Linear: what DSGM is compared with (ablation). Arguments as for DSGM."""

    def __init__(self, dim: int, expansion_ratio: float = 2) -> None:
        super().__init__()
        hidden = round(dim * expansion_ratio)
        self.fc_in, self.fc_out = projection(dim, hidden), projection(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return self.fc_out(F.gelu(self.fc_in(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
