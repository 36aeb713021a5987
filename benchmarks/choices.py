"""Designs of Compacter that the paper leaves open, each changed in one place.

``python -m benchmarks.budget --choices`` trains and compares them.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from compacter_arch.archs import CASA, DSGM, CompacterArch

from .networks import Peer


class DrawnDSGM(DSGM):
    """DSGM by the arrows of the paper's figure: both products are ``sigmoid(a) * GELU(b)``."""

    def gate(self, x: Tensor) -> Tensor:
        """2 sigmoid(a) * GELU(b): (B, H, W, 2rC) -> (B, H, W, rC)."""
        a, b = x.chunk(2, -1)
        return 2 * torch.sigmoid(a) * F.gelu(b)


class HeadedCASA(CASA):
    """CASA whose channel attention has as many heads as its window attention."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.temperature = nn.Parameter(torch.ones(self.num_heads))

    def channel_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Each head by itself, see :class:`CASA`."""
        heads = zip(*(x.chunk(self.num_heads, -1) for x in (q, k, v)), strict=True)
        parts = []
        for (q, k, v), temperature in zip(heads, self.temperature, strict=True):
            q, k = (F.normalize(x.flatten(1, 2), dim=1) for x in (q, k))
            attention = (q.mT @ k * temperature).softmax(-1)
            parts.append(v @ attention.mT[:, None])
        return torch.cat(parts, -1)


class CompacterDrawn(CompacterArch):
    """Compacter with :class:`DrawnDSGM`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for block in self.blocks:
            casa: Any = block.casa
            block.ffn = DrawnDSGM(casa.proj.in_features)


class CompacterHeaded(CompacterArch):
    """Compacter with :class:`HeadedCASA`."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for block in self.blocks:
            casa: Any = block.casa
            block.casa = HeadedCASA(
                casa.proj.in_features, casa.num_heads, casa.window, casa.shift, False
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
