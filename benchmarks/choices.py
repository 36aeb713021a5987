"""Designs of Compacter that the paper leaves open, each changed in one place.

``python -m benchmarks.budget --choices`` trains and compares them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compacter_arch.archs import CASA, DSGM, CompacterArch
from compacter_arch.archs.casa_arch import channel_projection, moments

from .networks import Peer


class DrawnDSGM(DSGM):
    """DSGM by the arrows of the paper's figure: both products are ``sigmoid(a) * GELU(b)``."""

    def gate(self, a: Tensor, b: Tensor) -> Tensor:
        """W_out (2 sigmoid(a) * GELU(b)): (B, H, W, C)."""
        return self.fc_out(2 * torch.sigmoid(a) * F.gelu(b))


class HeadedCASA(CASA):
    """CASA whose channel attention has as many heads as its window attention."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.temperature = nn.Parameter(torch.ones(self.num_heads))

    def channel_attention(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """Each head a projection of its own; see :class:`CASA`."""
        m = moments(x, rows)
        weight = torch.cat([self.qkv.weight, self.qkv.bias[:, None]], 1)  # (3C, C + 1)
        heads = weight.unflatten(0, (3, self.num_heads, -1)).unbind(1)
        projections = [
            channel_projection(head.flatten(0, 1), m, t)
            for head, t in zip(heads, self.temperature, strict=True)
        ]
        projection = torch.cat(projections, 1)
        return projection[..., :-1].contiguous(), projection[..., -1].contiguous()


class CompacterDrawn(CompacterArch):
    """Compacter with :class:`DrawnDSGM`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for block in self.blocks:
            casa: Any = block.casa
            block.ffn = DrawnDSGM(casa.dim)


class CompacterHeaded(CompacterArch):
    """Compacter with :class:`HeadedCASA`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for block in self.blocks:
            casa: Any = block.casa
            block.casa = HeadedCASA(
                casa.dim, casa.num_heads, casa.window, casa.shift, position_bias=False
            )


def choice(parameters: int, type_: str = "CompacterArch", **options: Any) -> Peer:
    """A design, in the form of :mod:`benchmarks.peers`."""
    module = "compacter_arch.archs" if type_ == "CompacterArch" else __name__
    return Peer(module, type_, {"input_skip": True, **options}, parameters, "ours")


CHOICES = {
    "as shipped": choice(392_909),
    "window 16 x 16": choice(395_117, window_size=16),
    "window 8 x 32": choice(395_069, window_size=[8, 32]),
    "6 heads": choice(393_584, num_heads=6),
    "no position bias": choice(392_234, position_bias=False),
    "channel attention of 3 heads": choice(392_937, "CompacterHeaded"),
    "DSGM as drawn": choice(392_909, "CompacterDrawn"),
    "no input skip": choice(392_909, input_skip=False),
}
