"""Bicubic upsampling as a network without parameters: the baseline row of every table."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

REACH = 4  # pixels mirrored at each border, more than the two that the cubic kernel can reach


class Bicubic(nn.Module):
    """MATLAB's ``imresize(x, upscale, 'bicubic')`` on float images.

    Torch's antialiased bicubic uses MATLAB's kernel (a = -0.5) but drops the weights outside the image;
    MATLAB mirrors the image, border pixel included. Mirroring first makes them agree.

    Args:
        upscale: integer factor; 1 returns the input.
    """

    def __init__(self, upscale: int = 2) -> None:
        super().__init__()
        self.upscale = upscale

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H * upscale, W * upscale), not clipped."""
        if self.upscale == 1:
            return x
        for dim in (2, 3):
            size = x.shape[dim]
            i = torch.arange(-REACH, size + REACH, device=x.device) % (2 * size)
            x = x.index_select(dim, torch.minimum(i, 2 * size - 1 - i))
        x = F.interpolate(x, scale_factor=self.upscale, mode="bicubic", antialias=True)
        crop = REACH * self.upscale
        return x[:, :, crop:-crop, crop:-crop]
