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

from contextlib import nullcontext
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import Rows, in_bands, may_overwrite, rows_per_band, spans, with_halo
from .window_attention import (
    AttentionMask,
    RelativePositionBias,
    as_window,
    attention_mask,
    padding_to_windows,
    window_attention,
    window_partition,
    window_reverse,
)

NORM_EPS = 1e-4  # smallest L2 norm of a channel


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
        self.step = (self.window[0] // 2, self.window[1] // 2) if shift else (0, 0)
        self.spatial, self.channel, self.interaction = spatial, channel, interaction

        self.qkv = nn.Linear(dim, 3 * dim)
        separate = spatial and channel and not shared_projection
        self.qkv_channel = nn.Linear(dim, 3 * dim) if separate else None
        owns_table = position_bias and spatial
        self.bias = RelativePositionBias(self.window, num_heads) if owns_table else None
        if channel:
            self.temperature = nn.Parameter(torch.ones(1))
        self.local = nn.Conv2d(dim, dim, 3, padding=1, groups=dim) if local else None
        self.proj = nn.Linear(dim, dim)
        for linear in (m for m in self.children() if isinstance(m, nn.Linear)):
            init_projection(linear)

    def forward(
        self, x: Tensor, attn_mask: AttentionMask | None = None, norm: nn.Module | None = None
    ) -> Tensor:
        """Mix the tokens of an image.

        Args:
            x: (B, C, H, W). H and W are padded to whole windows (zeros) where they are not.
            attn_mask: :func:`attention_mask` of a shared bias. Made here when not given.
            norm: of (B, H, W, C), over the channels. With it, the result is x + CASA(norm(x)).

        Returns:
            (B, C, H, W).
        """
        height, width = x.shape[2:]
        pad_h, pad_w = padding_to_windows(x, self.window)
        if pad_h or pad_w:
            x = F.pad(x, (0, pad_w, 0, pad_h))
        x = x.permute(0, 2, 3, 1)  # (B, H', W', C)
        if attn_mask is None and self.spatial:
            bias = None if self.bias is None else self.bias()
            attn_mask = attention_mask(bias, self.shift, self.window, x.device)

        size, per_band = x.shape[1], rows_per_band(x, self.window[0])
        shortcut, x = (torch.zeros_like(x), x) if norm is None else (x, norm(x))
        to_t = self.channel_attention(x, per_band) if self.channel else None

        def mixed(rows: Rows) -> Tensor:
            last = bool(rows[1] == size + self.step[0])
            return self.mix(with_halo(self.values, x, rows), to_t, attn_mask, last)

        y = in_bands(mixed, shortcut, per_band, self.step[0])
        return y.permute(0, 3, 1, 2)[:, :, :height, :width]

    def values(self, x: Tensor) -> list[Tensor]:
        """x, its V and, if local, DWConv(V), which sees one row further: all (B, H, W, C)."""
        v = F.linear(x, self.qkv.weight[2 * self.dim :], self.qkv.bias[2 * self.dim :])
        x = x.to(v.dtype)  # once; under autocast every projection would cast it
        if self.local is None:
            return [x, v]
        return [x, v, self.local(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)]

    def channel_attention(self, x: Tensor, rows: int) -> tuple[Tensor, Tensor]:
        """CWSA as a projection of its input; see :func:`channel_projection`.

        Args:
            x: (B, H, W, C).
            rows: of a band.

        Returns:
            Its weight, (B, C, C), and bias, (B, C).
        """
        linear = self.qkv if self.qkv_channel is None else self.qkv_channel
        # In float32 at least: the moments of a large image exceed float16.
        with nullcontext() if x.is_meta else torch.autocast(x.device.type, enabled=False):
            m = moments(x, rows)
            weight = torch.cat([linear.weight, linear.bias[:, None]], 1).to(m.dtype)
            projection = channel_projection(weight, m, self.temperature)
        return projection[..., :-1].contiguous(), projection[..., -1].contiguous()

    def mix(
        self,
        values: list[Tensor],
        to_t: tuple[Tensor, Tensor] | None,
        mask: AttentionMask | None,
        last: bool,
    ) -> Tensor:
        """Everything that follows from the pixels of whole rows of windows.

        Args:
            values: see :meth:`values`, of these rows.
            to_t: see :meth:`channel_attention`; None without one.
            mask: None without window attention.
            last: whether these are the last rows of the shifted image.

        Returns:
            (B, rows, W, C).
        """
        x, v, *parts = values  # parts: what is added up before the last projection
        attended = []
        if self.spatial and mask is not None:
            attended.append(self.spatial_attention(x, v, mask, last))
        if to_t is not None:
            attended.append(project(x, *to_t))
        if self.interaction and len(attended) == 2:
            s, t = attended
            if may_overwrite():
                gated = parts.pop().addcmul_(s, t.sigmoid()) if parts else s * t.sigmoid()
                attended = [gated.addcmul_(t, s.sigmoid_())]
            else:
                gated = torch.addcmul(parts.pop(), s, t.sigmoid()) if parts else s * t.sigmoid()
                attended = [torch.addcmul(gated, t, s.sigmoid())]
        return self.proj(reduce(torch.add, attended + parts))

    def spatial_attention(self, x: Tensor, v: Tensor, mask: AttentionMask, last: bool) -> Tensor:
        """SWSA: dot-product attention inside (shifted) windows; see :meth:`mix`."""
        if self.shift:
            x, v = (torch.roll(t, -self.step[1], 2) for t in (x, v))
        x, v = (window_partition(t, self.window) for t in (x, v))
        # Both by the fourth root of a head's channels, which divides Q K^T by the square root.
        scale = (self.dim // self.num_heads) ** -0.25
        weight, bias = (p[: 2 * self.dim] * scale for p in (self.qkv.weight, self.qkv.bias))
        q, k = F.linear(x, weight.to(x.dtype), bias.to(x.dtype)).chunk(2, -1)
        y = window_reverse(window_attention(q, k, v, self.num_heads, mask, last), self.window)
        return torch.roll(y, self.step[1], 2) if self.shift else y


def channel_projection(weight: Tensor, m: Tensor, temperature: Tensor) -> Tensor:
    """CWSA, the channel attention, as a projection of its input x.

    T = V A^T with A = softmax(norm(Q)^T norm(K) t) over the channels, the norms along H * W. Q, K
    and V being projections of x, Q^T K and the norms follow from the second moments of x alone:
    Q^T K = W_q M W_k^T, with M the sum over all pixels of [x, 1]^T [x, 1] and the biases as last
    column of W; and T = x (A W_v)^T is a projection of x too. So Q, K and their norms are never
    needed for the whole image at once.

    Args:
        weight: of x to Q, K and V, (3C, C + 1), the biases last.
        m: (B, C + 1, C + 1), see :func:`moments`.
        temperature: t, (1,).

    Returns:
        (B, C, C + 1), the biases last.
    """
    w_q, w_k, w_v = weight.chunk(3)  # each (C, C + 1)
    qm, km = w_q @ m, w_k @ m  # (B, C, C + 1)
    q_norm = (qm * w_q).sum(-1).clamp_min(NORM_EPS**2).sqrt()  # (B, C)
    k_norm = (km * w_k).sum(-1).clamp_min(NORM_EPS**2).sqrt()
    cosine = qm @ w_k.mT / (q_norm[:, :, None] * k_norm[:, None, :])  # (B, C, C)
    return (cosine * temperature).softmax(-1) @ w_v


class Gram(torch.autograd.Function):
    """n^T n: (B, N, C) -> (B, C, C). The gradient takes one product, where autograd takes two."""

    @staticmethod
    def forward(ctx: Any, n: Tensor) -> Tensor:
        """The product."""
        ctx.save_for_backward(n)
        return n.mT @ n

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        """n G + n G^T."""
        (n,) = ctx.saved_tensors
        return n @ (grad + grad.mT)


def moments(x: Tensor, rows: int) -> Tensor:
    """The sum over all pixels of [x, 1]^T [x, 1]: (B, H, W, C) -> (B, C + 1, C + 1)."""
    exact = torch.promote_types(x.dtype, torch.float32)
    b, height, width, c = x.shape
    second, first = x.new_zeros(b, c, c, dtype=exact), x.new_zeros(b, 1, c, dtype=exact)
    for top, bottom in spans(height, rows):
        n = x[:, top:bottom].flatten(1, 2).to(exact)  # (B, N, C)
        # Exporters, which want no gradient, get to see plain operations.
        second = second + (Gram.apply(n) if n.requires_grad else n.mT @ n)
        first = first + n.sum(1, keepdim=True)
    count = first.new_full((b, 1, 1), height * width)
    left, right = torch.cat([second, first], 1), torch.cat([first.mT, count], 1)
    return torch.cat([left, right], 2)


def project(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(B, H, W, C) by (B, N, C) and (B, N), a projection for each image: (B, H, W, N)."""
    weight, bias = weight.to(x.dtype), bias.to(x.dtype)
    if len(weight) == 1:
        return F.linear(x, weight[0], bias[0])
    return torch.baddbmm(bias[:, None], x.flatten(1, 2), weight.mT).unflatten(1, x.shape[1:3])


def init_projection(linear: nn.Linear) -> None:
    """Truncated normal of 0.02 and zero bias; better at the start than PyTorch's default."""
    nn.init.trunc_normal_(linear.weight, std=0.02)
    nn.init.zeros_(linear.bias)
