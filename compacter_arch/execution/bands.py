"""The blocks of the network on a CPU, some rows of the image at a time.

The intermediate images of a network of this size travel to main memory and back. Computed in bands
of rows they stay in the cache, and what they need no longer depends on the height of the image.
Smaller bands cost more than they gain: each operation has threads to start and to wait for.

Everything that is computed here is computed by the plain network's own layers and methods, with
three exceptions: the channel map, which depends on the whole image, comes from second moments
(:mod:`.moments`); window attention takes one head after the other, whose logits stay in the cache,
for windows of 64 pixels faster than PyTorch's fused attention on a CPU; and the two branches of
DSGM are computed one after the other and gated in place, a tenth of the whole time less.

Images are (B, H, W, C). Rows from H on are those from 0 on, as the windows of a shifted grid wrap
around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs import CASA, DSGM, CompacterArch
from ..archs.casa_arch import attention_mask, from_windows, to_windows
from ..archs.compacter_arch import CompacterBlock
from .moments import channel_map, moments_of, with_bias
from .stock import find_modified, is_transformed

BAND_PIXELS = 4096  # for each thread; at 200 float32 channels 3 MB
FEWEST_ROWS = 16  # of a wide image: the rows next to a band are computed twice

is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", lambda: False)  # 2.3

Rows = tuple[int, int]  # the first, and the first that is not part of it


def apply_to(network: CompacterArch, x: Tensor) -> bool:
    """Whether the blocks can be computed in bands: on a CPU, without gradients, in a stock network.

    Gradients need every intermediate image anyway, and tracing would unroll the loop over bands.
    """
    if is_compiling() or torch.is_grad_enabled() or torch.jit.is_tracing():
        return False
    plain = type(x) is Tensor and x.device.type == "cpu" and not is_transformed()
    return plain and type(network) is CompacterArch and find_modified(network.blocks) is None


def body(network: CompacterArch, x: Tensor) -> Tensor:
    """``network.body(x)``: (B, C, H, W) -> (B, C, H, W)."""
    x = x.permute(0, 2, 3, 1)
    h, w = network.window
    bias = None if network.position_bias is None else network.position_bias()
    # Of an image of two by two windows: those in the last column and in the last row.
    border = attention_mask(None, True, x.new_zeros(1, 2 * h, 2 * w, 1), (h, w))[1:3, 0]
    for block in network.blocks:
        x = run_block(block, x, bias, border)  # type: ignore[arg-type]
    return x.permute(0, 3, 1, 2)


def run_block(block: CompacterBlock, x: Tensor, bias: Tensor | None, border: Tensor) -> Tensor:
    """A block of the network.

    Args:
        block: whose windows divide the image.
        x: (B, H, W, C).
        bias: the position bias, (heads, N, N), or None.
        border: see :func:`window_attention`.

    Returns:
        (B, H, W, C).
    """
    casa, ffn = cast(CASA, block.casa), block.ffn
    rows = rows_per_band(x, casa.window[0])
    start = casa.window[0] // 2 if casa.shift else 0
    n = as_channels_first(block.norm1, x)
    channels = image_channel_map(casa, n, rows) if casa.channel else None

    def projected(n: Tensor) -> list[Tensor]:  # what a pixel needs of the rows around it
        qkv = casa.qkv(n)
        v = qkv.chunk(3, -1)[2]
        return [n, qkv] if casa.local is None else [n, qkv, as_channels_first(casa.local, v)]

    def mixed(band: Rows) -> Tensor:
        n_band, qkv, *rest = with_halo(projected, n, band)
        last = band[1] == x.shape[1] + start
        s = window_attention(casa, qkv, bias, border[: 1 + last]) if casa.spatial else None
        t = None
        if channels is not None:
            own = qkv if casa.qkv_channel is None else casa.qkv_channel(n_band)
            v = own.chunk(3, -1)[2]
            t = torch.bmm(v.flatten(1, 2), channels.mT.to(v.dtype)).view_as(v)
        return casa.aggregate(s, t, rest[0] if rest else None)

    x = in_bands(mixed, x, rows, start)
    n = as_channels_first(block.norm2, x)

    def fed(band: Rows) -> Tensor:
        if not isinstance(ffn, DSGM):
            return with_halo(lambda part: [as_channels_first(ffn, part)], n, band)[0]
        a, b = with_halo(partial(branches, ffn), n, band)
        y: Tensor = ffn.fc_out(torch.sigmoid(a).mul_(b).addcmul_(F.gelu(b), a))
        return y

    return in_bands(fed, x, rows)


def branches(ffn: DSGM, n: Tensor) -> list[Tensor]:
    """a and b of ``DSGM``, each by itself: (B, H, W, C) -> twice (B, H, W, rC)."""
    a_and_b = []
    hidden, dwconv = ffn.fc_out.in_features, ffn.dwconv
    for part in (slice(hidden), slice(hidden, None)):
        y = F.linear(n, ffn.fc_in.weight[part], ffn.fc_in.bias[part]).permute(0, 3, 1, 2)
        bias = None if dwconv.bias is None else dwconv.bias[part]
        y = F.conv2d(y, dwconv.weight[part], bias, padding=1, groups=hidden)
        a_and_b.append(y.permute(0, 2, 3, 1))
    return a_and_b


def as_channels_first(module: nn.Module, x: Tensor) -> Tensor:
    """A module of (B, C, H, W) for (B, H, W, C)."""
    y: Tensor = module(x.permute(0, 3, 1, 2))
    return y.permute(0, 2, 3, 1)


def image_channel_map(casa: CASA, n: Tensor, rows: int) -> Tensor:
    """``casa.channel_map`` of the normalised image: (B, H, W, C) -> (B, C, C)."""
    linear = casa.qkv if casa.qkv_channel is None else casa.qkv_channel
    with torch.autocast("cpu", enabled=False):
        moments = moments_of(n[:, top:bottom] for top, bottom in spans(n.shape[1], rows))
        return channel_map(with_bias(linear), moments, casa.temperature)


def window_attention(casa: CASA, qkv: Tensor, bias: Tensor | None, border: Tensor) -> Tensor:
    """``casa.spatial_attention`` of a band, whose first row is the first of a row of windows.

    Args:
        casa: with the windows.
        qkv: (B, rows, W, 3C).
        bias: the position bias, (heads, N, N), or None.
        border: what keeps the two sides of a shifted window apart in the last column of windows
            and, where it has a second part, in the last row, (1 or 2, N, N).

    Returns:
        (B, rows, W, C).
    """
    (b, height, width, _), (h, w), heads = qkv.shape, casa.window, casa.num_heads
    shift = w // 2 if casa.shift else 0
    qkv = to_windows(torch.roll(qkv, -shift, 2) if shift else qkv, casa.window, 1, 1)
    qkv = qkv[:, 0].unflatten(-1, (3, heads, -1))  # (B * nW, N, 3, heads, d)
    scale, parts = qkv.shape[-1] ** -0.5, []
    for head in range(heads):
        q, k, v = qkv[:, :, :, head].unbind(2)  # (B * nW, N, d)
        if bias is None:
            logits = (q * scale) @ k.mT
        else:
            logits = torch.baddbmm(bias[head].to(q.dtype), q, k.mT, alpha=scale)
        if shift:
            grid = logits.unflatten(0, (b, height // h, width // w))
            grid[:, :, -1] += border[0]
            if len(border) > 1:
                grid[:, -1] += border[1]
        parts.append(torch.softmax(logits, -1, out=logits) @ v)
    y = from_windows(torch.cat(parts, -1)[:, None], (height, width), casa.window, 1)
    return torch.roll(y, shift, 2) if shift else y


def rows_per_band(x: Tensor, multiple: int) -> int:
    """How many rows of (B, H, W, C) to compute at once: a multiple of ``multiple``, or all."""
    b, height, width, _ = x.shape
    pixels, fewest = BAND_PIXELS * torch.get_num_threads(), -(-FEWEST_ROWS // multiple)
    return min(max(pixels // max(b * width * multiple, 1), fewest) * multiple, height)


def spans(height: int, rows: int, start: int = 0) -> Iterator[Rows]:
    """The bands of an image from row ``start`` on: ``rows`` each, the last one perhaps fewer."""
    for top in range(start, height + start, rows):
        yield top, min(top + rows, height + start)


def in_bands(function: Callable[[Rows], Tensor], x: Tensor, rows: int, start: int = 0) -> Tensor:
    """``x + function``, computed in bands.

    Args:
        function: what is added to some rows, (B, last - first, W, C).
        x: (B, H, W, C).
        rows: of a band; the last one may have fewer.
        start: first row of the first band.

    Returns:
        (B, H, W, C).
    """
    height, y = x.shape[1], torch.empty_like(x)
    for top, bottom in spans(height, rows, start):
        band = function((top, bottom))
        inner = min(bottom, height) - top
        torch.add(x[:, top : top + inner], band[:, :inner], out=y[:, top : top + inner])
        if wrapped := bottom - top - inner:
            torch.add(x[:, :wrapped], band[:, inner:], out=y[:, :wrapped])
    return y


def with_halo(
    function: Callable[[Tensor], Sequence[Tensor]], x: Tensor, rows: Rows
) -> list[Tensor]:
    """Some rows of ``function(x)``.

    Args:
        function: (B, H, W, C) to tensors (B, H, W, C'), for any H; an output pixel depends on
            pixels at most one row away.
        x: (B, H, W, C).
        rows: which to compute; they may wrap.
    """
    (top, bottom), height = rows, x.shape[1]
    if bottom > height:
        parts = with_halo(function, x, (top, height)), with_halo(function, x, (0, bottom - height))
        return [torch.cat(pair, 1) for pair in zip(*parts, strict=True)]
    first = max(top - 1, 0)
    return [y[:, top - first : bottom - first] for y in function(x[:, first : bottom + 1])]
