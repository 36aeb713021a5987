"""CASA and DSGM, slow and obvious: loops over windows, heads, pixels and pairs of channels.

Nothing here is shared with the fast implementations but the parameters of the module under test.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from compacter_arch import CASA, DSGM

OLD_TORCH = tuple(map(int, torch.__version__.split(".")[:2])) < (2, 3)
# Older torch has neither float16 products nor float16 autocast on a CPU.
HALF_TYPES = [torch.bfloat16] if OLD_TORCH else [torch.bfloat16, torch.float16]


def linear(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """(C_in, H, W) -> (C_out, H, W), a 1x1 projection."""
    return torch.einsum("oc,chw->ohw", weight, x) + bias[:, None, None]


def depthwise(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """3x3 depth-wise convolution with zero padding of (C, H, W)."""
    c, height, width = x.shape
    padded = torch.zeros(c, height + 2, width + 2, dtype=x.dtype)
    padded[:, 1:-1, 1:-1] = x
    out = bias[:, None, None].expand(c, height, width)
    for i in range(3):
        for j in range(3):
            out = out + weight[:, 0, i, j, None, None] * padded[:, i : i + height, j : j + width]
    return out


def visible(p: int, q: int, size: int, window: int, shift: int) -> bool:
    """Whether two coordinates on one axis share a window of the (shifted) grid, without wrapping.

    The shifted grid cuts the axis at shift, shift + window, ...: what lies before the first cut
    and behind the last one are windows of their own.
    """
    return (p - shift) // window == (q - shift) // window


def window_attention(q: Tensor, k: Tensor, v: Tensor, casa: CASA) -> Tensor:
    """Each pixel attends to the pixels that share its window, head by head. All (C, H, W)."""
    c, height, width = q.shape
    h, w = casa.window
    step_y, step_x = (h // 2, w // 2) if casa.shift else (0, 0)
    table = casa.bias.table
    d = c // casa.num_heads
    out = torch.zeros_like(q)
    for head in range(casa.num_heads):
        part = slice(head * d, (head + 1) * d)
        for y in range(height):
            for x in range(width):
                keys = [
                    (i, j)
                    for i in range(height)
                    for j in range(width)
                    if visible(y, i, height, h, step_y) and visible(x, j, width, w, step_x)
                ]
                logits = torch.stack(
                    [
                        (q[part, y, x] * k[part, i, j]).sum() / math.sqrt(d)
                        + table[head, y - i + h - 1, x - j + w - 1]
                        for i, j in keys
                    ]
                )
                weights = torch.exp(logits - logits.max())
                weights = weights / weights.sum()
                values = torch.stack([v[part, i, j] for i, j in keys])
                mixed = (weights[:, None] * values).sum(0)
                mask = torch.zeros_like(out)
                mask[part, y, x] = 1
                full = torch.zeros_like(out[:, 0, 0])
                full = torch.cat([full[: part.start], mixed, full[part.stop :]])
                out = out + mask * full[:, None, None]
    return out


def channel_attention(q: Tensor, k: Tensor, v: Tensor, casa: CASA) -> Tensor:
    """Each channel attends to all channels by the cosine over the image. All (C, H, W)."""
    c = q.shape[0]
    out = []
    for i in range(c):
        logits = []
        for j in range(c):
            cosine = (q[i] * k[j]).sum() / (q[i].norm() * k[j].norm())
            logits.append(cosine * casa.temperature[0])
        weights = torch.stack(logits).softmax(0)
        out.append(sum(weights[j] * v[j] for j in range(c)))
    return torch.stack(out)


def casa_reference(casa: CASA, x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W)."""
    out = []
    for image in x:
        q, k, v = linear(image, casa.qkv.weight, casa.qkv.bias).chunk(3)
        s = window_attention(q, k, v, casa)
        t = channel_attention(q, k, v, casa)
        local = depthwise(v, casa.local.weight, casa.local.bias)
        y = s * (1 / (1 + torch.exp(-t))) + t * (1 / (1 + torch.exp(-s))) + local
        out.append(linear(y, casa.proj.weight, casa.proj.bias))
    return torch.stack(out)


def dsgm_reference(dsgm: DSGM, x: Tensor) -> Tensor:
    """(B, C, H, W) -> (B, C, H, W)."""
    out = []
    for image in x:
        hidden = linear(image, dsgm.fc_in.weight, dsgm.fc_in.bias)
        a, b = depthwise(hidden, dsgm.dwconv.weight, dsgm.dwconv.bias).chunk(2)
        gelu = b * 0.5 * (1 + torch.erf(b / math.sqrt(2)))
        y = a * gelu + b / (1 + torch.exp(-a))
        out.append(linear(y, dsgm.fc_out.weight, dsgm.fc_out.bias))
    return torch.stack(out)
