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

from .bands import may_overwrite
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
        return self.gate(*self.branches(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def branches(self, x: Tensor) -> list[Tensor]:
        """a and b of (B, H, W, C), each (B, H, W, rC): a pixel follows from those around it.

        Each by itself, as what follows is slower on halves of a tensor.
        """
        return [self.branch(x, part) for part in (slice(self.hidden), slice(self.hidden, None))]

    def gate(self, a: Tensor, b: Tensor) -> Tensor:
        """W_out (sigmoid(a) * b + GELU(b) * a): (B, H, W, C)."""
        y = torch.sigmoid(a)
        if may_overwrite():
            y.mul_(b).addcmul_(F.gelu(b), a)
        else:
            y = torch.addcmul(y * b, F.gelu(b), a)
        return self.fc_out(y)

    def branch(self, x: Tensor, part: slice) -> Tensor:
        """One half of the channels of DWConv3x3(W_in x): (B, H, W, C) -> (B, H, W, rC)."""
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
        return self.gate(*self.branches(x.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)

    def branches(self, x: Tensor) -> list[Tensor]:
        """The hidden layer of (B, H, W, C), before its activation: (B, H, W, rC)."""
        return [self.fc_in(x)]

    def gate(self, hidden: Tensor) -> Tensor:
        """W_out GELU(hidden): (B, H, W, C)."""
        return self.fc_out(F.gelu(hidden))
