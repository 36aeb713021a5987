"""Attention inside the (shifted) windows of an image, with a relative position bias.

Source: Liu et al., Swin Transformer (ICCV 2021), sections 3.2 and figure 4. Ours: the mask of a
shifted grid is kept as the two parts that it consists of, and an image may come in bands of whole
windows.

Images are (B, H, W, C) here, windows (B, nH, nW, h * w, C).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import may_overwrite

FUSED = ("cuda",)  # devices where PyTorch's fused attention is the fastest


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


def window_partition(x: Tensor, window: tuple[int, int]) -> Tensor:
    """(B, H, W, C) -> (B, nH, nW, h * w, C); h, w divide H, W."""
    b, height, width, c = x.shape
    h, w = window
    x = x.reshape(b, height // h, h, width // w, w, c)
    return x.transpose(2, 3).flatten(3, 4)


def window_reverse(parts: Sequence[Tensor], window: tuple[int, int]) -> Tensor:
    """The inverse of the partition; (B, nH, nW, h * w, C') each, channels side by side."""
    images = [part.unflatten(3, window).transpose(2, 3) for part in parts]
    return torch.cat(images, -1).flatten(3, 4).flatten(1, 2)


class AttentionMask(NamedTuple):
    """What is added to the logits of attention.

    Attributes:
        bias: (heads, h * w, h * w), the position bias of all windows, or None.
        border: (2, h * w, h * w), -inf between the pixels that must not see each other in the last
            column of windows, and in the last row. None where the windows are not shifted.
    """

    bias: Tensor | None
    border: Tensor | None


def attention_mask(
    bias: Tensor | None, shift: bool, window: tuple[int, int], device: torch.device
) -> AttentionMask:
    """The mask of (shifted) windows.

    After the cyclic shift by half a window the last windows hold pixels from opposite borders of
    the image, which must not see each other (Swin Transformer, figure 4): in the last row of
    windows the upper and the lower half, in the last column the left and the right half.

    Args:
        bias: (heads, h * w, h * w), or None.
        shift: whether the windows are shifted.
        window: (h, w).
        device: of the result.
    """
    if not shift:
        return AttentionMask(bias, None)
    h, w = window
    y = (torch.arange(h, device=device) * 2 // h).repeat_interleave(w)  # (h * w,), 1: lower half
    x = (torch.arange(w, device=device) * 2 // w).repeat(h)  # 1: right half
    forbidden = torch.stack([half[:, None] != half[None, :] for half in (x, y)])
    border = torch.zeros(forbidden.shape, device=device).masked_fill(forbidden, float("-inf"))
    return AttentionMask(bias, border)


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, mask: AttentionMask, last: bool
) -> list[Tensor]:
    """Dot-product attention of windows.

    On a GPU by PyTorch's fused kernels. On a CPU by two products and a softmax: for windows of 64
    pixels and heads of 16 channels they take less time than PyTorch's fused kernel there. In
    float32 for one head after the other, whose logits stay in the cache; in half precision, whose
    products want more at once, for all heads.

    Args:
        q, k, v: (B, nH, nW, h * w, C). The scale is in q already.
        num_heads: parts of the channels.
        mask: added to the logits.
        last: whether the last row of windows is that of the image.

    Returns:
        The channels, (B, nH, nW, h * w, C) in all, in parts of some heads.
    """
    grid = q.shape[:3]
    bias, border = mask.bias, mask.border
    bias = None if bias is None else bias.to(q.dtype)
    border = None if border is None else border[: 1 + last].to(q.dtype)
    q, k, v = (t.unflatten(-1, (num_heads, t.shape[-1] // num_heads)) for t in (q, k, v))
    if q.device.type in FUSED:
        added = None if bias is None else bias[None]
        if border is not None:
            forbidden = forbid(q.new_zeros(*grid, 1, *border.shape[1:]), border).flatten(0, 2)
            added = forbidden if added is None else forbidden + added
        q, k, v = (t.flatten(0, 2).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, added, scale=1.0)
        return [y.transpose(1, 2).flatten(2).unflatten(0, grid)]
    if q.dtype != torch.float32:
        q, k, v = (t.transpose(3, 4) for t in (q, k, v))
        return [attend(q, k, v, bias, border).transpose(3, 4).flatten(4)]
    biases = [None] * num_heads if bias is None else bias.unbind()
    heads = zip(q.unbind(-2), k.unbind(-2), v.unbind(-2), biases, strict=True)
    return [attend(*head, border) for head in heads]


def attend(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, border: Tensor | None) -> Tensor:
    """Heads of :func:`window_attention`, one or several: (B, nH, nW, ..., h * w, C / heads)."""
    if bias is not None and q.ndim == 5:  # bias and product at once
        logits = torch.baddbmm(bias, q.flatten(0, 2), k.flatten(0, 2).mT).unflatten(0, q.shape[:3])
    else:
        logits = q @ k.mT
        logits = logits if bias is None else logits.add_(bias)
    if border is not None:
        forbid(logits, border)
    return torch.softmax(logits, -1, out=logits if may_overwrite() else None) @ v


def forbid(logits: Tensor, border: Tensor) -> Tensor:
    """Add in place what :class:`AttentionMask` has for the border: (B, nH, nW, ..., h * w, h * w).

    Of the border its first part alone where these are not the last rows of windows.
    """
    logits[:, :, -1] += border[0]
    if len(border) > 1:
        logits[:, -1] += border[1]
    return logits


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
        """(heads, h * w, h * w), to be added to the attention logits."""
        return self.table.flatten(1)[:, self.index]
