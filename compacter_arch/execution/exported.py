"""Compacter for exporters: any size in one graph, and operations that ONNX Runtime does fast.

The plain network with some of its methods and layers replaced. Sizes are never turned into numbers:
padding, cropping, windows and shift are gathers by an index that is computed from the size. The
rest is for speed on a CPU: projections of pixels as rows of one matrix, with their bias in one
operation; the projection into DSGM's depth-wise convolution as a 1 x 1 convolution, whose memory
layout it shares; keys transposed by the product itself; one gather for shift, windows and heads,
which threads share, where a transposition has one thread and a roll several copies.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs import CASA, DSGM, CompacterArch
from ..archs.casa_arch import NORM_EPS, padding_to_windows
from ..archs.compacter_arch import deduce_options
from .stock import UnavailableError, find_modified

FORBIDDEN = -1e4  # on logits in place of -inf, which has no place in a quantised network


class Windows(NamedTuple):
    """The (shifted) windows of an image of some size.

    Attributes:
        mask: see :func:`~compacter_arch.archs.casa_arch.attention_mask`.
        forth: for each pixel of each head of each window in order, (nW * heads * N,), which one of
            (H * W * heads,) it is.
        back: the inverse.
    """

    mask: Tensor
    forth: Tensor
    back: Tensor


class ExportedCompacter(CompacterArch):
    """The network for exporters. The weights are those of now.

    Args:
        network: in float32, as :mod:`compacter_arch.archs` built it.
        dtype: of weights and computation; the channel attention, whose sums exceed float16, and the
            images at both ends are float32.

    Raises:
        UnavailableError: the network was changed, by a hook or a wrapped layer for example.
    """

    def __init__(self, network: CompacterArch, dtype: torch.dtype = torch.float32) -> None:
        if difference := find_modified(network):
            raise UnavailableError(f"the network was changed: {difference}")
        state = network.state_dict()
        super().__init__(**deduce_options(state))
        self.load_state_dict(state)
        for block in self.blocks:
            block.casa = ExportedCASA(block.casa)  # type: ignore[arg-type]
            ffn: nn.Module = block.ffn  # type: ignore[assignment]
            for name, form in (
                ("fc_in", PixelConv if isinstance(ffn, DSGM) else PixelLinear),
                ("fc_out", PixelLinear),
            ):
                setattr(ffn, name, form(getattr(ffn, name)))
        self.dtype = dtype
        self.to(dtype).eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale), float32, not clipped."""
        height, width = x.shape[2] * self.upscale, x.shape[3] * self.upscale
        y = self.restore(self.pad(x.to(self.dtype)))
        # No slice: torch.export would record that it is smaller than the image, or that it is not.
        for dim, size in ((2, height), (3, width)):
            y = y.index_select(dim, torch.arange(size, device=x.device))
        return y.float()

    def pad(self, x: Tensor) -> Tensor:
        """Pad to whole windows as the plain network does, which is decided in the graph."""
        _, right, _, below = padding_to_windows(x, self.window)
        last_y, last_x = x.shape[2] - 1, x.shape[3] - 1
        y = torch.arange(x.shape[2] + below, device=x.device)
        z = torch.arange(x.shape[3] + right, device=x.device)
        small = (y > 2 * last_y).any() | (z > 2 * last_x).any()
        for dim, i, last in ((2, y, last_y), (3, z, last_x)):
            mirrored = (last - (last - i).abs()).clamp_min(0)
            x = x.index_select(dim, torch.where(small, i.clamp_max(last), mirrored))
        return x

    def body(self, x: Tensor) -> Tensor:
        """The blocks: (B, C, H, W) -> (B, C, H, W)."""
        masks = self.attention_masks(x)
        windows = [
            self.windows(x, mask.clamp_min(FORBIDDEN), shift) for shift, mask in enumerate(masks)
        ]
        for block, shifted in zip(self.blocks, self.shifts, strict=True):
            x = block(x, windows[shifted])
        return x

    execute = body

    def windows(self, x: Tensor, mask: Tensor, shift: int) -> Windows:
        """The windows of (B, C, H, W), shifted by half their size or not."""
        (height, width), (h, w) = x.shape[2:], self.window
        casa: Any = self.blocks[0].casa
        num_heads = casa.num_heads
        dy, dx = (h // 2, w // 2) if shift else (0, 0)
        rows, columns, heads = (
            torch.arange(n, device=x.device) for n in (height, width, num_heads)
        )
        y = ((rows + dy) % height).reshape(-1, 1, 1, h, 1)
        z = ((columns + dx) % width).reshape(-1, 1, 1, w)  # with y: (nH, nW, 1, h, w)
        forth = (y * width + z) * num_heads + heads[:, None, None]
        y, z = (rows + height - dy) % height, (columns + width - dx) % width
        window = (y // h)[:, None] * (width // w) + z // w  # (H, W)
        inside = (y % h)[:, None] * w + z % w
        back = (window[..., None] * num_heads + heads) * (h * w) + inside[..., None]
        return Windows(mask, forth.flatten(), back.flatten())


class ExportedCASA(CASA):
    """CASA with attentions for exporters.

    Args:
        casa: whose parameters and settings this one shares.
    """

    def __init__(self, casa: CASA) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(vars(casa))
        self.qkv, self.proj = PixelLinear(self.qkv), PixelLinear(self.proj)
        if self.qkv_channel is not None:
            self.qkv_channel = PixelLinear(self.qkv_channel)

    def spatial_attention(  # type: ignore[override]
        self, q: Tensor, k: Tensor, v: Tensor, mask: Windows
    ) -> Tensor:
        """As :meth:`CASA.spatial_attention`."""
        (b, height, width, c), heads = q.shape, self.num_heads
        (h, w), d = self.window, c // heads
        shape = b, height // h * (width // w), heads, h * w, d
        q, k, v = (
            x.reshape(b, -1, d).index_select(1, mask.forth).reshape(shape) for x in (q, k, v)
        )
        logits = (q * d**-0.5) @ k.transpose(-1, -2) + mask.mask  # (B, nW, heads, N, N)
        y = logits.softmax(-1) @ v
        return y.reshape(b, -1, d).index_select(1, mask.back).reshape(b, height, width, c)

    def channel_map(self, q: Tensor, k: Tensor) -> Tensor:
        """As :meth:`CASA.channel_map`; row by row of the image first, as threads share the rows."""
        q, k = q.float(), k.float()
        product = (q.transpose(2, 3) @ k).sum(1)  # (B, C, C)
        norms = [
            x.square().sum((1, 2)).clamp_min(NORM_EPS**2).sqrt() for x in (q, k)
        ]  # (B, C) each
        cosine = product / (norms[0][:, :, None] * norms[1][:, None])
        return (cosine * self.temperature.float()).softmax(-1)


class PixelLinear(nn.Linear):
    """A projection of the channels of (B, H, W, C), as one matrix product with its bias."""

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(vars(linear))

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C')."""
        y = F.linear(x.flatten(0, 2), self.weight, self.bias)
        return y.reshape(*x.shape[:3], self.out_features)


class PixelConv(PixelLinear):
    """A projection of the channels of (B, H, W, C), as a convolution."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C')."""
        y = F.conv2d(x.permute(0, 3, 1, 2), self.weight[:, :, None, None], self.bias)
        return y.permute(0, 2, 3, 1)


def has_half() -> bool:
    """Whether this version of PyTorch, 2.3 or so, computes in float16 on a CPU, as tracing does."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float16)
    try:
        F.conv2d(x, x)
    except RuntimeError:
        return False
    return True
