"""Compact adaptive self-attention (CASA), the token mixer of Compacter (ACM MM 2024).

From the paper: one projection to queries, keys and values for a spatial window attention (SWSA) and
a channel attention (CWSA), each gated by the sigmoid of the other; a depth-wise convolution of the
values. Ours: position bias, shifted windows, a single head among channels, initialisation.

    x -> qkv -+-> Q, K, V -> SWSA -> S -+-> S * sigmoid(T) + T * sigmoid(S) -+
              +-> Q, K, V -> CWSA -> T -+                                   (+) -> proj
              +-> V -> depth-wise convolution 3x3 ---------------------------+

Shapes: B batch, H x W image, C channels, h x w window, N = h * w pixels of a window, nW windows of
an image, d = C / heads. Images are (B, C, H, W), ``channels_last``, and (B, H, W, C) in a module.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-4  # the smallest L2 norm that a channel is divided by


class CASA(nn.Module):
    """``proj(S * sigmoid(T) + T * sigmoid(S) + DWConv3x3(V))``.

    Args:
        dim: channels C; a multiple of ``num_heads``.
        num_heads: heads of the window attention; PyTorch's fused attention likes 16 channels each.
        window_size: side of the window, or (height, width); even when ``shift`` is set.
        shift: move the windows by half their size, as in every second block.
        position_bias: own a table of position biases. ``CompacterArch`` has one for all blocks.
        spatial, channel, local: keep SWSA, CWSA, the depth-wise convolution (ablation).
        interaction: gate each attention by the other; otherwise they are added (ablation).
        shared_projection: otherwise CWSA has a Q, K, V of its own (ablation).
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 3,
        window_size: int | tuple[int, int] = 8,
        shift: bool = False,
        position_bias: bool = True,
        *,
        spatial: bool = True,
        channel: bool = True,
        local: bool = True,
        interaction: bool = True,
        shared_projection: bool = True,
    ) -> None:
        super().__init__()
        h, w = (window_size, window_size) if isinstance(window_size, int) else window_size
        if h < 1 or w < 1:
            raise ValueError(f"window_size must be at least 1, got {window_size}")
        if dim % num_heads:
            raise ValueError(f"CASA: dim {dim} is not a multiple of num_heads {num_heads}")
        if shift and (h % 2 or w % 2):
            raise ValueError(f"CASA: a shifted window needs even sides, got {window_size}")
        if not (spatial or channel or local):
            raise ValueError("CASA: spatial, channel and local are all off, nothing is left")
        self.num_heads, self.window, self.shift = num_heads, (int(h), int(w)), shift
        self.spatial, self.channel, self.interaction = spatial, channel, interaction
        self.qkv = projection(dim, 3 * dim)
        own = spatial and channel and not shared_projection
        self.qkv_channel = projection(dim, 3 * dim) if own else None
        own = position_bias and spatial
        self.bias = RelativePositionBias(self.window, num_heads) if own else None
        if channel:
            self.temperature = nn.Parameter(torch.ones(1))
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if local else None
        self.proj = projection(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); ``mask`` as :func:`attention_mask` gives it."""
        (height, width), padding = x.shape[2:], padding_to_windows(x, self.window)
        x = (F.pad(x, padding) if any(padding) else x).permute(0, 2, 3, 1)
        q, k, v = self.qkv(x).chunk(3, -1)  # (B, H, W, C) each
        own = (q, k, v) if self.qkv_channel is None else self.qkv_channel(x).chunk(3, -1)
        s = self.spatial_attention(q, k, v, mask) if self.spatial else None
        t = self.channel_attention(*own) if self.channel else None
        local = self.local(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1) if self.local else None
        return self.aggregate(s, t, local).permute(0, 3, 1, 2)[:, :, :height, :width]

    def spatial_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """SWSA, the attention inside (shifted) windows: (B, H, W, C) each -> (B, H, W, C)."""
        (h, w), size = self.window, q.shape[1:3]
        if mask is None:
            bias = None if self.bias is None else self.bias()
            mask = attention_mask(bias, self.shift, q, self.window)
        if self.shift:
            q, k, v = (torch.roll(x, (-(h // 2), -(w // 2)), (1, 2)) for x in (q, k, v))
        q, k, v = (to_windows(x, self.window, self.num_heads, mask.shape[0]) for x in (q, k, v))
        mask = mask.to(q.dtype).expand(-1, self.num_heads, -1, -1).flatten(0, 1)
        y = F.scaled_dot_product_attention(q, k, v, mask)
        y = from_windows(y, size, self.window, self.num_heads)
        return torch.roll(y, (h // 2, w // 2), (1, 2)) if self.shift else y

    def channel_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """CWSA, the attention among channels of the image: (B, H, W, C) each -> (B, H, W, C)."""
        return (v.flatten(1, 2) @ self.channel_map(q, k).transpose(1, 2).to(v.dtype)).view_as(v)

    def channel_map(self, q: Tensor, k: Tensor) -> Tensor:
        """softmax(cosine of two channels * temperature), (B, C, C); its sums exceed float16."""
        exact = torch.promote_types(q.dtype, torch.float32)
        q, k = (F.normalize(x.flatten(1, 2).to(exact), dim=1, eps=NORM_EPS) for x in (q, k))
        return (q.transpose(-1, -2) @ k * self.temperature).softmax(-1)

    def aggregate(self, s: Tensor | None, t: Tensor | None, local: Tensor | None) -> Tensor:
        """``proj(S * sigmoid(T) + T * sigmoid(S) + local)``, without those that are None."""
        if s is not None and t is not None and self.interaction:
            s, t = s * t.sigmoid(), t * s.sigmoid()
        return self.proj(reduce(torch.add, [y for y in (s, t, local) if y is not None]))


class RelativePositionBias(nn.Module):
    """A learned bias for each head and relative offset (Swin Transformer, section 3.2)."""

    def __init__(self, window: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        h, w = window
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * h - 1, 2 * w - 1))
        nn.init.trunc_normal_(self.table, std=0.02)
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        y, x = y.flatten(), x.flatten()  # (N,)
        offset_y, offset_x = y[:, None] - y + h - 1, x[:, None] - x + w - 1  # (N, N)
        self.register_buffer("index", offset_y * (2 * w - 1) + offset_x, persistent=False)

    def forward(self) -> Tensor:
        return self.table.flatten(1)[:, self.index]  # type: ignore[index]  # (heads, N, N)


def attention_mask(bias: Tensor | None, shift: bool, x: Tensor, window: tuple[int, int]) -> Tensor:
    """What is added to the attention logits: the position bias, -inf between pixels that are apart.

    The cyclic shift by half a window brings pixels from opposite borders of the image x, (B, H, W,
    C), into the last row and the last column of windows (Swin Transformer, figure 4). ``bias`` is
    (heads, N, N). Returns (1, heads or 1, N, N), or with ``shift`` (nW, heads or 1, N, N).
    """
    (height, width), (h, w) = x.shape[1:3], window
    mask = x.new_zeros(1, 1, h * w, h * w) if bias is None else bias[None]
    if not shift:
        return mask
    y, z = torch.arange(height, device=x.device), torch.arange(width, device=x.device)
    y = (y >= height - h).int() + (y >= height - h // 2).int()  # 0; 1 and 2 in the last windows
    z = (z >= width - w).int() + (z >= width - w // 2).int()
    region = to_windows((3 * y[:, None] + z)[None, ..., None], window, 1, 1)[..., 0]  # (nW, 1, N)
    apart = region[..., None] != region[..., None, :]  # (nW, 1, N, N)
    return mask + x.new_zeros(apart.shape).masked_fill(apart, float("-inf"))


def to_windows(x: Tensor, window: tuple[int, int], num_heads: int, masks: int) -> Tensor:
    """(B, H, W, C) -> (B * nW, heads, N, d) for 1 mask, (B, nW * heads, N, d) for nW masks."""
    (b, height, width, c), (h, w) = x.shape, window
    x = x.reshape(b, height // h, h, width // w, w, num_heads, c // num_heads)
    x = x.permute(0, 1, 3, 5, 2, 4, 6)  # (B, H / h, W / w, heads, h, w, d)
    return x.reshape(-1, masks * num_heads, h * w, c // num_heads)


def from_windows(x: Tensor, size: Sequence[int], window: tuple[int, int], num_heads: int) -> Tensor:
    """The inverse of :func:`to_windows` for an image of ``size`` (H, W)."""
    (height, width), (h, w) = size, window
    x = x.reshape(-1, height // h, width // w, num_heads, h, w, x.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, height, width, num_heads * x.shape[-1])


def padding_to_windows(x: Tensor, window: tuple[int, int]) -> tuple[int, int, int, int]:
    """What (B, C, H, W) lacks to whole windows, in the order of ``F.pad``."""
    (height, width), (h, w) = x.shape[2:], window
    # In this form torch.export can prove that the padded size is a multiple of the window.
    return 0, (width + w - 1) // w * w - width, 0, (height + h - 1) // h * h - height


def projection(c_in: int, c_out: int) -> nn.Linear:
    """A linear layer with a truncated normal of 0.02, better at first than PyTorch's default."""
    linear = nn.Linear(c_in, c_out)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
