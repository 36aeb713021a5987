"""Attention inside the (shifted) windows of an image, with a relative position bias.

Source: Liu et al., Swin Transformer (ICCV 2021), sections 3.2 and figure 4. Ours: the masks of a
shifted grid are kept as the few that differ, and an image may come in bands of whole windows.

Images are (B, H, W, C) here, windows (B, nH, nW, h * w, C).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

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


def attention_mask(
    bias: Tensor | None, shift: bool, columns: int, window: tuple[int, int], device: torch.device
) -> Tensor | None:
    """What is added to the logits: the position bias, and -inf between pixels that wrapped.

    After the cyclic shift by half a window the last windows hold pixels from opposite borders of
    the image, which must not see each other (Swin Transformer, figure 4): in the last row of
    windows the upper and the lower half, in the last column the left and the right half.

    Args:
        bias: (heads, h * w, h * w), or None.
        shift: whether the windows are shifted.
        columns: nW, windows in a row.
        window: (h, w).
        device: of the result where there is no bias.

    Returns:
        (1, 1, heads, h * w, h * w) where nothing wrapped; else (2, nW, heads or 1, h * w, h * w),
        first the mask of all rows of windows but the last, then that of the last. None where
        nothing is to be added.
    """
    if not shift:
        return None if bias is None else bias[None, None]
    h, w = window
    y = (torch.arange(h, device=device) * 2 // h).repeat_interleave(w)  # (h * w,), 1: lower half
    x = (torch.arange(w, device=device) * 2 // w).repeat(h)  # 1: right half
    last_row, last_column = y[:, None] != y[None, :], x[:, None] != x[None, :]
    is_last = torch.arange(columns, device=device) == columns - 1
    forbidden = is_last[:, None, None] & last_column  # (nW, h * w, h * w)
    forbidden = torch.stack([forbidden, forbidden | last_row]).unsqueeze(2)
    mask = torch.zeros(forbidden.shape, device=device).masked_fill(forbidden, float("-inf"))
    return mask if bias is None else mask + bias


def window_attention(
    q: Tensor, k: Tensor, v: Tensor, num_heads: int, mask: Tensor | None
) -> list[Tensor]:
    """Dot-product attention of windows.

    On a GPU by PyTorch's fused kernels. On a CPU by two products and a softmax: for windows of 64
    pixels and heads of 16 channels they take less time than PyTorch's fused kernel there. In
    float32 for one head after the other, whose logits stay in the cache; in half precision, whose
    products want more at once, for all heads.

    Args:
        q, k, v: (B, nH, nW, h * w, C). The scale is in q already.
        num_heads: parts of the channels.
        mask: (1 or nH, 1 or nW, 1 or heads, h * w, h * w), added to the logits.

    Returns:
        The channels, (B, nH, nW, h * w, C) in all, in parts of some heads.
    """
    grid = q.shape[:3]
    q, k, v = (t.unflatten(-1, (num_heads, t.shape[-1] // num_heads)) for t in (q, k, v))
    if mask is not None:
        mask = mask.to(q.dtype).expand(-1, -1, num_heads, -1, -1)
    if q.device.type in FUSED:
        if mask is not None:
            mask = mask.expand(*grid, -1, -1, -1).flatten(0, 2) if mask.shape[0] > 1 else mask[0]
        q, k, v = (t.flatten(0, 2).transpose(1, 2) for t in (q, k, v))
        y = F.scaled_dot_product_attention(q, k, v, mask, scale=1.0)
        return [y.transpose(1, 2).flatten(2).unflatten(0, grid)]
    if q.dtype != torch.float32:
        q, k, v = (t.transpose(3, 4) for t in (q, k, v))
        return [attend(q, k, v, mask).transpose(3, 4).flatten(4)]
    masks = [None] * num_heads if mask is None else mask.unbind(2)
    heads = zip(q.unbind(-2), k.unbind(-2), v.unbind(-2), masks, strict=True)
    return [attend(*head) for head in heads]


def attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
    """Heads of :func:`window_attention`, one or several: (B, nH, nW, ..., h * w, C / heads)."""
    logits = q @ k.mT
    if mask is not None:
        logits += mask
    return logits.softmax(-1) @ v


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
