"""Bands of an image: what is computed there at once fits into the cache of a CPU.

The intermediate images of a network of this size travel to main memory and back. Computed a few
rows at a time they stay in the cache, and what they need no longer depends on the height of the
image: on one thread a tenth less time, and a third of SwinIR-light's memory (``benchmarks/``).
Smaller bands cost more than they gain: each operation has threads to start and to wait for. Where
bands are computed, results may be overwritten too, which leaves more of the cache to the others.

Images are (B, H, W, C) here. Rows from H on are those from 0 on: the windows of a shifted grid
wrap around.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

BAND_PIXELS = 10240  # for each thread; at 200 float32 channels 8 MB
FEWEST_ROWS = 16  # of a wide image: the rows next to a band are computed twice

is_compiling: Callable[[], bool] = getattr(torch.compiler, "is_compiling", lambda: False)  # 2.3

Rows = tuple[int, int]  # the first, and the first that is not part of it


def may_overwrite() -> bool:
    """Whether a result that is not needed any more may be overwritten by the next one.

    Not with gradients, whose computation needs it, nor while the network is traced or compiled.
    """
    return not (torch.is_grad_enabled() or is_compiling() or torch.jit.is_tracing())


def rows_per_band(x: Tensor, multiple: int) -> int:
    """How many rows of (B, H, W, C) to compute at once: a multiple of ``multiple``, or all.

    All of them where bands would gain nothing: with gradients, whose computation keeps everything
    anyway, on a GPU, and while the network is traced or compiled, where loops are unrolled.
    """
    b, height, width, _ = x.shape
    if x.device.type != "cpu" or not may_overwrite():
        return height
    pixels, fewest = BAND_PIXELS * torch.get_num_threads(), -(-FEWEST_ROWS // multiple)
    return min(max(pixels // max(b * width * multiple, 1), fewest) * multiple, height)


def spans(height: int, rows: int, start: int = 0) -> list[Rows]:
    """The bands of an image: ``rows`` each, the last one perhaps fewer, from ``start`` on."""
    end = height + start
    if rows >= height:  # before any `range`, which would fix the height in a traced network
        return [(start, end)]
    return [(top, min(top + rows, end)) for top in range(start, end, rows)]


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
    height = x.shape[1]
    if rows >= height:
        band = function((start, height + start))
        return x + (torch.roll(band, start, 1) if start else band)
    y = torch.empty_like(x)
    for top, bottom in spans(height, rows, start):
        band = function((top, bottom))
        inner = bottom - top - max(bottom - height, 0)
        torch.add(x[:, top:bottom], band[:, :inner], out=y[:, top:bottom])
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
    if bottom - top == height:
        return [torch.roll(y, -top, 1) if top else y for y in function(x)]
    if bottom > height:
        parts = with_halo(function, x, (top, height)), with_halo(function, x, (0, bottom - height))
        return [torch.cat(pair, 1) for pair in zip(*parts, strict=True)]
    first = max(top - 1, 0)
    return [y[:, top - first : bottom - first] for y in function(x[:, first : bottom + 1])]
