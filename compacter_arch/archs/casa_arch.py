"""Compact adaptive self-attention (CASA), the token mixer of Compacter.

Source: Compacter, A Lightweight Transformer for Image Restoration (ACM MM 2024). From the paper:
one set of queries, keys and values for a spatial window attention and a channel attention, each
output weighted by the sigmoid of the other, a depth-wise convolution on the values. Ours: the
relative position bias, the shift of every second block, one head in the channel attention, the
initialisation.

Tensors are (B, C, H, W) at the interfaces and stay in the ``channels_last`` memory format, so that
the (B, H, W, C) views used inside cost nothing.
"""

from __future__ import annotations

from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NORM_EPS = 1e-4  # smallest L2 norm of a channel; 1 / NORM_EPS is finite in float16


def window_partition(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, H, W, C) -> (B * nH * nW, h * w, C): windows in raster order; h, w divide H, W."""
    b, height, width, c = x.shape
    h, w = window
    x = x.reshape(b, height // h, h, width // w, w, c)  # (B, nH, h, nW, w, C)
    return x.transpose(2, 3).reshape(-1, h * w, c)


def window_reverse(windows: Tensor, window: tuple[int, int], height: int, width: int) -> Tensor:
    """(B * nH * nW, h * w, C) -> (B, H, W, C), the inverse of :func:`window_partition`."""
    h, w = window
    x = windows.reshape(-1, height // h, width // w, h, w, windows.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, windows.shape[-1])


def shift_mask(height: int, width: int, window: tuple[int, int], device: torch.device) -> Tensor:
    """Which pairs of a shifted window must not see each other.

    After the cyclic shift by half a window the last windows hold pixels from opposite borders of
    the image. Every axis falls into three bands: full windows, the near part and the wrapped part
    of the last window; pixels see each other only inside the same pair of bands (Swin Transformer,
    fig. 4).

    Returns:
        (nH * nW, 1, h * w, h * w), 0 where attention is allowed and -inf where it is not.
    """

    def bands(size: int, win: int) -> Tensor:
        i = torch.arange(size, device=device)
        return (i >= size - win).long() + (i >= size - win // 2).long()

    region = bands(height, window[0])[:, None] * 3 + bands(width, window[1])[None, :]  # (H, W)
    region = window_partition(region[None, :, :, None], window)  # (nH * nW, h * w, 1)
    forbidden = region != region.transpose(1, 2)  # (nH * nW, h * w, h * w)
    mask = torch.zeros(forbidden.shape, device=device).masked_fill(forbidden, float("-inf"))
    return mask.unsqueeze(1)


def attention_mask(
    bias: Tensor | None,
    shift: bool,
    size: tuple[int, int],
    window: tuple[int, int],
    device: torch.device,
) -> Tensor | None:
    """Position bias plus, if shifted, :func:`shift_mask`: (1 or n, heads or 1, h * w, h * w)."""
    if not shift:
        return bias
    forbidden = shift_mask(*size, window, device)
    return forbidden if bias is None else bias + forbidden


class RelativePositionBias(nn.Module):
    """A learned bias per head and relative offset, as in the Swin Transformer.

    The table is stored as (heads, 2h - 1, 2w - 1), so that its shape alone tells heads and window.
    """

    index: Tensor  # (h * w, h * w): where in the flat table the bias of a pair of pixels stands

    def __init__(self, window: tuple[int, int], num_heads: int) -> None:
        super().__init__()
        h, w = window
        self.table = nn.Parameter(torch.zeros(num_heads, 2 * h - 1, 2 * w - 1))
        nn.init.trunc_normal_(self.table, std=0.02)
        y, x = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        y, x = y.flatten(), x.flatten()  # (h * w,)
        offset_y = y[:, None] - y[None, :] + h - 1  # (h * w, h * w), 0 .. 2h - 2
        offset_x = x[:, None] - x[None, :] + w - 1
        self.register_buffer("index", offset_y * (2 * w - 1) + offset_x, persistent=False)

    def forward(self) -> Tensor:
        """(1, heads, h * w, h * w), to be added to the attention logits."""
        return self.table.flatten(1)[:, self.index].unsqueeze(0)


class CASA(nn.Module):
    """Spatial window attention and channel attention from one projection, each gating the other.

    ``y = W_o (S * sigmoid(T) + T * sigmoid(S) + DWConv3x3(V))`` with S the window attention and T
    the channel attention of the same Q, K, V.

    Args:
        dim: channels C; a multiple of ``num_heads``. Heads of 16 channels keep the fused kernels.
        num_heads: heads of the window attention.
        window_size: side of the window, or (height, width); even when ``shift`` is set.
        shift: move the windows by half their size, as in every second block.
        position_bias: own a table of relative position biases. ``CompacterArch`` shares one table
            between its blocks instead and passes it to :meth:`forward`.
        spatial, channel, local: keep the window attention, the channel attention, the depth-wise
            convolution (ablation).
        interaction: gate each attention by the other; otherwise they are added (ablation).
        shared_projection: use the same Q, K, V for both attentions; otherwise the channel attention
            has its own projection (ablation).
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
        self.dim, self.num_heads, self.shift = dim, num_heads, shift
        self.spatial, self.channel, self.interaction = spatial, channel, interaction

        self.qkv = nn.Linear(dim, 3 * dim)
        separate = spatial and channel and not shared_projection
        self.qkv_channel = nn.Linear(dim, 3 * dim) if separate else None
        owns_table = position_bias and spatial
        self.bias = RelativePositionBias(self.window, num_heads) if owns_table else None
        self.temperature = nn.Parameter(torch.ones(1)) if channel else None
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if local else None
        self.proj = nn.Linear(dim, dim)
        for linear in (m for m in self.children() if isinstance(m, nn.Linear)):
            init_projection(linear)

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        """Mix the tokens of an image.

        Args:
            x: (B, C, H, W). H and W are padded to whole windows (zeros) where they are not.
            attn_mask: (1 or nH * nW, heads, h * w, h * w), added to the window attention's logits:
                :func:`attention_mask` of a shared bias. Made here when not given.

        Returns:
            (B, C, H, W).
        """
        height, width = x.shape[2:]
        pad_h, pad_w = padding_to_windows(x, self.window)
        if pad_h or pad_w:
            x = F.pad(x, (0, pad_w, 0, pad_h))
        x = x.permute(0, 2, 3, 1)  # (B, H', W', C)
        qkv = self.qkv(x)  # (B, H', W', 3C)
        parts = []  # what is added up before the last projection, each (B, H', W', C)
        if self.spatial:
            parts.append(self.window_attention(qkv, attn_mask))
        if self.channel:
            own = qkv if self.qkv_channel is None else self.qkv_channel(x)
            parts.append(self.channel_attention(own))
        if self.interaction and len(parts) == 2:
            s, t = parts
            parts = [s * torch.sigmoid(t), t * torch.sigmoid(s)]
        if self.local is not None:
            value = qkv[..., 2 * self.dim :].permute(0, 3, 1, 2)  # (B, C, H', W')
            parts.append(self.local(value).permute(0, 2, 3, 1))
        y = self.proj(reduce(torch.add, parts)).permute(0, 3, 1, 2)  # (B, C, H', W')
        return y[:, :, :height, :width]

    def window_attention(self, qkv: Tensor, attn_mask: Tensor | None) -> Tensor:
        """SWSA: dot-product attention inside (shifted) windows. (B, H, W, 3C) -> (B, H, W, C)."""
        b, height, width, _ = qkv.shape
        if attn_mask is None:
            bias = None if self.bias is None else self.bias()
            attn_mask = attention_mask(bias, self.shift, (height, width), self.window, qkv.device)
        step = (self.window[0] // 2, self.window[1] // 2)
        if self.shift:
            qkv = torch.roll(qkv, (-step[0], -step[1]), dims=(1, 2))
        qkv = window_partition(qkv, self.window)  # (B * n, h * w, 3C)
        qkv = qkv.unflatten(-1, (3, self.num_heads, self.dim // self.num_heads))
        q, k, v = (t.transpose(1, 2) for t in qkv.unbind(2))  # (B * n, heads, h * w, C / heads)
        if attn_mask is not None:
            attn_mask = attn_mask.to(q.dtype)
            if self.shift and b > 1:
                attn_mask = attn_mask.repeat(b, 1, 1, 1)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask)  # (B * n, heads, h * w, C / heads)
        y = y.transpose(1, 2).flatten(2)  # (B * n, h * w, C)
        y = window_reverse(y, self.window, height, width)  # (B, H, W, C)
        return torch.roll(y, step, dims=(1, 2)) if self.shift else y

    def channel_attention(self, qkv: Tensor) -> Tensor:
        """CWSA: softmax(norm(Q) norm(K)^T t) V over the channels. (B, H, W, 3C) -> (B, H, W, C).

        Q is normalised before the product and K after it: a pass over memory less than if both
        came before, and every number stays in the range of float16.
        """
        q, k, v = qkv.flatten(1, 2).chunk(3, dim=-1)  # each (B, H * W, C)
        exact = torch.promote_types(q.dtype, torch.float32)
        q_norm = torch.linalg.vector_norm(q, dim=1, keepdim=True, dtype=exact)  # (B, 1, C)
        k_norm = torch.linalg.vector_norm(k, dim=1, keepdim=True, dtype=exact)
        q = q * q_norm.clamp_min(NORM_EPS).reciprocal().to(q.dtype)
        logits = (q.transpose(1, 2) @ k).to(exact)  # (B, C, C)
        logits = logits * (self.temperature / k_norm.clamp_min(NORM_EPS))
        attn = logits.softmax(dim=-1).to(v.dtype)
        return (v @ attn.transpose(1, 2)).unflatten(1, qkv.shape[1:3])


def as_window(window_size: int | tuple[int, int]) -> tuple[int, int]:
    """``8`` or ``(8, 32)`` (a list, as YAML gives it) as (height, width), both at least 1."""
    h, w = (window_size, window_size) if isinstance(window_size, int) else window_size
    if h < 1 or w < 1:
        raise ValueError(f"window_size must be at least 1, got {window_size}")
    return int(h), int(w)


def padding_to_windows(x: Tensor, window: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns that (B, C, H, W) lacks to whole windows."""
    height, width = x.shape[2:]
    h, w = window
    # Written so that torch.export can prove the padded size to be a multiple of the window.
    return (height + h - 1) // h * h - height, (width + w - 1) // w * w - width


def init_projection(linear: nn.Linear) -> None:
    """Truncated normal of 0.02 and zero bias; better at the start than PyTorch's default."""
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
