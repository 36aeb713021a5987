"""Bicubic upsampling as a network without parameters: the baseline row of every table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 4  # pixels mirrored at each border, more than the two that the cubic kernel can reach


class Bicubic(nn.Module):
    """MATLAB's ``imresize(x, upscale, 'bicubic')``.

    Torch's antialiased bicubic has MATLAB's kernel (a = -0.5) but drops the weights outside the
    image; MATLAB mirrors the image, border pixel included. Mirroring first makes them agree.

    Args:
        upscale: integer factor; 1 returns the input.
        uint8: work as on an 8-bit image, as published bicubic rows do: round to multiples of
            1 / 255 and clip to [0, 1] after the rows and again after the columns.
    """

    def __init__(self, upscale: int = 2, uint8: bool = True) -> None:
        super().__init__()
        self.upscale, self.uint8 = upscale, uint8

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H * upscale, W * upscale)."""
        if self.upscale == 1:
            return x
        if self.uint8:
            x = (x * 255).round()
        for dim in (2, 3):
            size = x.shape[dim]
            i = torch.arange(-REACH, size + REACH, device=x.device) % (2 * size)
            x = x.index_select(dim, torch.minimum(i, 2 * size - 1 - i))
            new_size = [x.shape[2], x.shape[3]]
            new_size[dim - 2] *= self.upscale
            x = F.interpolate(x, new_size, mode="bicubic", antialias=True)
            x = x.narrow(dim, REACH * self.upscale, size * self.upscale)
            if self.uint8:
                x = (x + 0.5).floor().clamp(0, 255)  # halves go up, as in MATLAB
        return x / 255 if self.uint8 else x
