"""What the tests of restoration share: a tiny network, and networks whose result is known."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compacter_arch import CompacterArch


class Double(nn.Module):
    """Of one or three channels, each pixel ``scale`` x ``scale`` times; remembers what it got."""

    def __init__(self, channels: int = 3, scale: int = 2) -> None:
        super().__init__()
        self.conv_first, self.upscale = nn.Conv2d(channels, 1, 1), scale
        self.seen: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.seen.append(x.clone())
        return F.interpolate(x, scale_factor=self.upscale, mode="nearest")


def tiny(scale: int = 2, channels: int = 3) -> CompacterArch:
    """A Compacter of two blocks, with random weights."""
    torch.manual_seed(0)
    return CompacterArch(
        scale, channels, dim=16, num_blocks=2, num_heads=1, input_skip=scale > 1
    ).eval()


def tiny_weights(file: Path, scale: int = 2, channels: int = 3) -> Path:
    """The weights of :func:`tiny` in a file."""
    torch.save({"params": tiny(scale, channels).state_dict()}, file)
    return file
