"""The blocks of the network on a CPU, some rows of the image at a time.

The intermediate images of a network of this size travel to main memory and back. Computed in bands
of rows they stay in the cache, and what they need no longer depends on the height of the image.
Smaller bands cost more than they gain: each operation has threads to start and to wait for.

Everything that is computed here is computed by the plain network's own layers and methods, with
three exceptions: the channel map, which depends on the whole image, comes from second moments
(:mod:`.moments`); both attentions are computed in the order of the windows, one head after the
other, so that few images are rearranged, and for windows of 64 pixels on two threads faster than
by PyTorch's fused attention; and the two branches of DSGM are computed one after the other. Gates
work in place.

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

BAND_PIXELS = 8192  # for each thread; at 96 float32 channels 3 MB
FEWEST_ROWS = 32  # of a wide image: the rows next to a band are computed twice

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

    def around(n: Tensor) -> list[Tensor]:  # what a pixel needs of the rows around it
        v = values(casa.qkv, n)
        return [n, v] if casa.local is None else [n, v, as_channels_first(casa.local, v)]

    def mixed(band: Rows) -> Tensor:
        n_band, v, *local = with_halo(around, n, band)
        size, last = n_band.shape[1:3], band[1] == x.shape[1] + start
        n_band, v = in_windows(casa, n_band), in_windows(casa, v)
        s = t = None
        if casa.spatial:
            s = window_attention(casa, n_band, v, size, bias, border[: 1 + last])
        if channels is not None:
            own = v if casa.qkv_channel is None else values(casa.qkv_channel, n_band)
            own = own.view(len(x), size.numel(), x.shape[-1])
            t = torch.bmm(own, channels.mT.to(v.dtype)).view_as(v)
        if s is not None and t is not None and casa.interaction:
            s, t = torch.sigmoid(t).mul_(s).addcmul_(t, torch.sigmoid(s)), None
        s, t = (None if y is None else in_image(casa, y, size) for y in (s, t))
        return casa.aggregate(s, t, local[0] if local else None)

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


def values(qkv: nn.Linear, n: Tensor) -> Tensor:
    """V alone: (..., C) -> (..., C)."""
    c = n.shape[-1]
    return F.linear(n, qkv.weight[2 * c :], qkv.bias[2 * c :])


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


def in_windows(casa: CASA, x: Tensor) -> Tensor:
    """A band whose first row is the first of a row of windows: (B, H, W, C) -> (B * nW, N, C)."""
    x = torch.roll(x, -(casa.window[1] // 2), 2) if casa.shift else x
    return to_windows(x, casa.window, 1, 1)[:, 0]


def in_image(casa: CASA, x: Tensor, size: Sequence[int]) -> Tensor:
    """The inverse of :func:`in_windows` for a band of ``size`` (H, W)."""
    x = from_windows(x[:, None], size, casa.window, 1)
    return torch.roll(x, casa.window[1] // 2, 2) if casa.shift else x


def window_attention(
    casa: CASA,
    n: Tensor,
    v: Tensor,
    size: Sequence[int],
    bias: Tensor | None,
    border: Tensor,
) -> Tensor:
    """``casa.spatial_attention`` of the windows of a band.

    Args:
        casa: with Q, K and the windows.
        n: the normalised band, (B * nW, N, C).
        v: its V, (B * nW, N, C).
        size: of the band, (H, W).
        bias: the position bias, (heads, N, N), or None.
        border: what keeps the two sides of a shifted window apart in the last column of windows
            and, where it has a second part, in the last row, (1 or 2, N, N).

    Returns:
        (B * nW, N, C).
    """
    (h, w), heads, c = casa.window, casa.num_heads, n.shape[-1]
    qk = F.linear(n, casa.qkv.weight[: 2 * c], casa.qkv.bias[: 2 * c])
    by_head = (y.chunk(heads, -1) for y in (*qk.chunk(2, -1), v))  # (B * nW, N, d) each
    scale, parts = (c // heads) ** -0.5, list[Tensor]()
    for q, k, value in zip(*by_head, strict=True):
        if bias is None:
            logits = (q * scale) @ k.mT
        else:
            logits = torch.baddbmm(bias[len(parts)].to(q.dtype), q, k.mT, alpha=scale)
        if casa.shift:
            grid = logits.unflatten(0, (-1, size[0] // h, size[1] // w))
            grid[:, :, -1] += border[0]
            if len(border) > 1:
                grid[:, -1] += border[1]
        parts.append(torch.softmax(logits, -1, out=logits) @ value)
    return torch.cat(parts, -1)


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
