"""Dual selective gated module (DSGM), the feed-forward part of Compacter.

Source: Compacter, A Lightweight Transformer for Image Restoration (ACM MM 2024). From the paper's
figure: two branches of Linear and DWConv3x3, one through a sigmoid, one through GELU, two products
added, one Linear. The figure's arrows allow two readings; drawn literally both products are the
same, so we take the one that makes the second one useful: ``sigmoid(a) * b + GELU(b) * a``.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .casa_arch import init_projection


class DSGM(nn.Module):
    """``y = W_out (sigmoid(a) * b + GELU(b) * a)`` with ``a, b = split(DWConv3x3(W_in x))``.

    Args:
        dim: channels C.
        expansion_ratio: width of each branch over C.
    """

    def __init__(self, dim: int, expansion_ratio: float = 2) -> None:
        super().__init__()
        self.hidden = hidden = round(dim * expansion_ratio)
        self.fc_in = nn.Linear(dim, 2 * hidden)
        self.dwconv = nn.Conv2d(2 * hidden, 2 * hidden, 3, padding=1, groups=2 * hidden)
        self.fc_out = nn.Linear(hidden, dim)
        init_projection(self.fc_in)
        init_projection(self.fc_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = x.permute(0, 2, 3, 1)
        a, b = (self.branch(x, part) for part in (slice(self.hidden), slice(self.hidden, None)))
        y = torch.addcmul(torch.sigmoid(a) * b, F.gelu(b), a)
        return self.fc_out(y).permute(0, 3, 1, 2)

    def branch(self, x: Tensor, part: slice) -> Tensor:
        """One half of the channels of DWConv3x3(W_in x): (B, H, W, C) -> (B, H, W, rC).

        Each half by itself, as what follows is slower on halves of a tensor.
        """
        linear: Any = self.fc_in
        conv: Any = self.dwconv
        y = F.linear(x, linear.weight[part], linear.bias[part]).permute(0, 3, 1, 2)
        y = F.conv2d(y, conv.weight[part], conv.bias[part], padding=1, groups=self.hidden)
        return y.permute(0, 2, 3, 1)


class MLP(nn.Module):
    """The plain feed-forward network that DSGM is compared with: Linear, GELU, Linear (ablation).

    Args:
        dim: channels C.
        expansion_ratio: width of the hidden layer over C.
    """

    def __init__(self, dim: int, expansion_ratio: float = 2) -> None:
        super().__init__()
        hidden = round(dim * expansion_ratio)
        self.fc_in = nn.Linear(dim, hidden)
        self.fc_out = nn.Linear(hidden, dim)
        init_projection(self.fc_in)
        init_projection(self.fc_out)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = F.gelu(self.fc_in(x.permute(0, 2, 3, 1)))
        return self.fc_out(x).permute(0, 3, 1, 2)
