"""Compact adaptive self-attention (CASA), the token mixer of Compacter (ACM MM 2024).

From the paper: one projection to queries, keys and values for a spatial window attention (SWSA) and
a channel attention (CWSA), each gated by the sigmoid of the other, and a depth-wise convolution of
the values. Ours: the relative position bias, the shift of every second block, one head in the
channel attention, the initialisation.

    x -> qkv -+-> Q, K, V -> SWSA -> S -+-> S * sigmoid(T) + T * sigmoid(S) -+
              +-> Q, K, V -> CWSA -> T -+                                   (+) -> proj
              +-> V -> depth-wise convolution 3x3 ---------------------------+

Shapes: B batch, H x W image, C channels, h x w window, N = h * w pixels of a window, nW windows of
an image, d = C / heads. Images are (B, C, H, W) between modules and (B, H, W, C) inside of them; in
the ``channels_last`` memory format the two differ by a view.
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

    S is the attention among the pixels of a window, T that among the channels of the image.

    Args:
        dim: channels C; a multiple of ``num_heads``.
        num_heads: heads of the window attention. Heads of 16 channels suit fused kernels.
        window_size: side of the window, or (height, width); even when ``shift`` is set.
        shift: move the windows by half their size, as in every second block.
        position_bias: own a table of relative position biases. The blocks of ``CompacterArch``
            share one instead.
        spatial, channel, local: keep the window attention, the channel attention, the depth-wise
            convolution (ablation).
        interaction: gate each attention by the other; otherwise they are added (ablation).
        shared_projection: use one Q, K, V for both attentions; otherwise the channel attention has
            its own (ablation).
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
        self.window = as_window(window_size)
        if dim % num_heads:
            raise ValueError(f"CASA: dim {dim} is not a multiple of num_heads {num_heads}")
        if shift and (self.window[0] % 2 or self.window[1] % 2):
            raise ValueError(f"CASA: a shifted window needs even sides, got {self.window}")
        if not (spatial or channel or local):
            raise ValueError("CASA: spatial, channel and local are all off, nothing is left")
        self.num_heads, self.shift, self.interaction = num_heads, shift, interaction
        self.spatial, self.channel = spatial, channel

        self.qkv = projection(dim, 3 * dim)
        separate = spatial and channel and not shared_projection
        self.qkv_channel = projection(dim, 3 * dim) if separate else None
        owns_table = position_bias and spatial
        self.bias = RelativePositionBias(self.window, num_heads) if owns_table else None
        if channel:
            self.temperature = nn.Parameter(torch.ones(1))
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if local else None
        self.proj = projection(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mix the tokens of an image.

        Args:
            x: (B, C, H, W). H and W are padded with zeros to whole windows.
            mask: see :func:`attention_mask`; by default made from the own table.

        Returns:
            (B, C, H, W).
        """
        (height, width), padding = x.shape[2:], padding_to_windows(x, self.window)
        x = (F.pad(x, padding) if any(padding) else x).permute(0, 2, 3, 1)
        q, k, v = self.qkv(x).chunk(3, -1)  # (B, H, W, C) each
        s = self.spatial_attention(q, k, v, mask) if self.spatial else None
        own = (q, k, v) if self.qkv_channel is None else self.qkv_channel(x).chunk(3, -1)
        t = self.channel_attention(*own) if self.channel else None
        local = None if self.local is None else convolve(self.local, v)
        return self.aggregate(s, t, local).permute(0, 3, 1, 2)[:, :, :height, :width]

    def spatial_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """SWSA, the attention inside (shifted) windows: (B, H, W, C) each -> (B, H, W, C)."""
        if mask is None:
            bias = None if self.bias is None else self.bias()
            mask = attention_mask(bias, self.shift, q, self.window)
        dy, dx = (self.window[0] // 2, self.window[1] // 2) if self.shift else (0, 0)
        if self.shift:
            q, k, v = (torch.roll(x, (-dy, -dx), (1, 2)) for x in (q, k, v))
        y = self.window_attention(q, k, v, mask)
        return torch.roll(y, (dy, dx), (1, 2)) if self.shift else y

    def window_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
        """Multi-head attention inside the windows of a grid: (B, H, W, C) each -> (B, H, W, C)."""
        size = q.shape[1:3]
        q, k, v = (to_windows(x, self.window, self.num_heads, mask.shape[0]) for x in (q, k, v))
        mask = mask.to(q.dtype).expand(-1, self.num_heads, -1, -1).flatten(0, 1)
        y = F.scaled_dot_product_attention(q, k, v, mask)
        return from_windows(y, size, self.window, self.num_heads)

    def channel_attention(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """CWSA, the attention among channels of the image: (B, H, W, C) each -> (B, H, W, C)."""
        return v @ self.channel_map(q, k)[:, None].transpose(-1, -2).to(v.dtype)

    def channel_map(self, q: Tensor, k: Tensor) -> Tensor:
        """What each channel takes of every other one, (B, C, C): softmax of their cosine times t.

        In float32 at least, as the sums over all pixels exceed float16.
        """
        exact = torch.promote_types(q.dtype, torch.float32)
        q, k = (F.normalize(x.flatten(1, 2).to(exact), dim=1, eps=NORM_EPS) for x in (q, k))
        return (q.transpose(-1, -2) @ k * self.temperature).softmax(-1)

    def aggregate(self, s: Tensor | None, t: Tensor | None, local: Tensor | None) -> Tensor:
        """``proj(S * sigmoid(T) + T * sigmoid(S) + local)``, without those that are None."""
        if s is not None and t is not None and self.interaction:
            s, t = s * t.sigmoid(), t * s.sigmoid()
        return self.proj(reduce(torch.add, [y for y in (s, t, local) if y is not None]))


class RelativePositionBias(nn.Module):
    """A learned bias for each head and relative offset (Swin Transformer, section 3.2).

    The table is (heads, 2h - 1, 2w - 1), so that its shape tells heads and window.
    """

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
        """(heads, N, N), to be added to the attention logits."""
        return self.table.flatten(1)[:, self.index]


def attention_mask(
    bias: Tensor | None, shift: bool, x: Tensor, window: tuple[int, int]
) -> Tensor:
    """What is added to the attention logits of the windows of an image.

    The cyclic shift by half a window brings pixels from opposite borders of the image into the last
    row and the last column of windows. They must not see each other (Swin Transformer, figure 4).

    Args:
        bias: the position bias, (heads, N, N), or None.
        shift: whether the windows are shifted.
        x: the image, (B, H, W, C), in whole windows.
        window: (h, w).

    Returns:
        (1, heads or 1, N, N), and (nW, heads or 1, N, N) with -inf between pixels that must not see
        each other where the windows are shifted.
    """
    n = window[0] * window[1]
    mask = x.new_zeros(1, 1, n, n) if bias is None else bias[None]
    if not shift:
        return mask
    regions = []  # of rows, of columns: 0, 1 or 2
    for size, side in zip(x.shape[1:3], window, strict=True):
        i = torch.arange(size, device=x.device)
        regions.append((i >= size - side).int() + (i >= size - side // 2).int())
    region = (3 * regions[0][:, None] + regions[1])[None, ..., None]  # (1, H, W, 1)
    region = to_windows(region, window, 1, 1)[..., 0]  # (nW, 1, N)
    apart = region[..., None] != region[..., None, :]  # (nW, 1, N, N)
    return mask + x.new_zeros(apart.shape).masked_fill(apart, float("-inf"))


def to_windows(x: Tensor, window: tuple[int, int], num_heads: int, masks: int) -> Tensor:
    """Cut (B, H, W, C) into windows and heads, for attention with 1 mask or with nW of them.

    Returns:
        (B * nW, heads, N, d) or (B, nW * heads, N, d).
    """
    b, height, width, c = x.shape
    h, w = window
    x = x.reshape(b, height // h, h, width // w, w, num_heads, c // num_heads)
    x = x.permute(0, 1, 3, 5, 2, 4, 6)  # (B, H / h, W / w, heads, h, w, d)
    return x.reshape(-1, masks * num_heads, h * w, c // num_heads)


def from_windows(
    x: Tensor, size: Sequence[int], window: tuple[int, int], num_heads: int
) -> Tensor:
    """The inverse of :func:`to_windows` for an image of ``size`` (H, W)."""
    (height, width), (h, w) = size, window
    x = x.reshape(-1, height // h, width // w, num_heads, h, w, x.shape[-1])
    return x.permute(0, 1, 4, 2, 5, 3, 6).reshape(-1, height, width, num_heads * x.shape[-1])


def as_window(window_size: int | Sequence[int]) -> tuple[int, int]:
    """``8`` or ``[8, 32]`` as (height, width), both at least 1."""
    h, w = (window_size, window_size) if isinstance(window_size, int) else window_size
    if h < 1 or w < 1:
        raise ValueError(f"window_size must be at least 1, got {window_size}")
    return int(h), int(w)


def padding_to_windows(x: Tensor, window: tuple[int, int]) -> tuple[int, int, int, int]:
    """What (B, C, H, W) lacks to whole windows, in the order of ``F.pad``."""
    (height, width), (h, w) = x.shape[2:], window
    # In this form torch.export can prove that the padded size is a multiple of the window.
    return 0, (width + w - 1) // w * w - width, 0, (height + h - 1) // h * h - height


def convolve(conv: nn.Module, x: Tensor) -> Tensor:
    """A convolution of (B, H, W, C)."""
    y: Tensor = conv(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def projection(c_in: int, c_out: int) -> nn.Linear:
    """A linear layer with a truncated normal of 0.02, better at first than PyTorch's default."""
    linear = nn.Linear(c_in, c_out)
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
    return linear
