"""Dual selective gated module (DSGM), the feed-forward part of Compacter (ACM MM 2024).

From the paper's figure: two branches of Linear and DWConv3x3, one through a sigmoid, one through
GELU, two products added, one Linear. Drawn literally both products are the same. Ours is the other
reading of its arrows, which makes the second product useful.

    x -> fc_in -> depth-wise convolution 3x3 -> a, b -> sigmoid(a) * b + GELU(b) * a -> fc_out
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .casa_arch import projection


class DSGM(nn.Module):
    """``fc_out(sigmoid(a) * b + GELU(b) * a)``; ``expansion_ratio``: r, width of a branch / C."""

    def __init__(self, dim: int, expansion_ratio: float = 2) -> None:
        super().__init__()
        hidden = round(dim * expansion_ratio)
        self.fc_in = projection(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.fc_out = projection(hidden, dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.fc_in(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)  # (B, 2rC, H, W)
        x = self.dwconv(x).permute(0, 2, 3, 1)
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
        return self.fc_out(F.gelu(self.fc_in(x.permute(0, 2, 3, 1)))).permute(0, 3, 1, 2)
