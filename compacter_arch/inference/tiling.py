"""Images of any size through a network in tiles, blended where they overlap.

Compacter's channel attention sees the whole image, in tiles it sees a tile. What that costs (dB of
PSNR, difference from the whole image, overlap 32; at x2, 16 gives the same to 0.005 dB):

| task, images | whole | 384 | 256 | 192 | 128 | 64 |
|-|-|-|-|-|-|-|
| x2, Set14 | 33.028 | 0 | -0.001 | +0.001 | +0.005 | +0.004 |
| x2, 16 photographs as one of 1024 x 1024 | 34.134 | +0.004 | +0.006 | +0.010 | +0.015 | |
| x2, skimage's retina, 705 x 705 | 53.723 | -0.003 | -0.005 | -0.007 | -0.008 | |
| denoising, sigma 25, 3 of Kodak | 31.864 | +0.039 | +0.064 | +0.064 | +0.100 | +0.166 |
| deraining, 4 of Rain100L | 32.352 | -0.022 | -0.015 | -0.015 | -0.987 | -1.704 |
| low light (its first weights), 5 of LOL | 20.923 | -0.378 | -0.498 | -0.578 | -0.745 | -0.895 |

So for most tasks any tile will do (training patches are small); deraining needs 192 pixels, and low
light to see all that it can: the default is the whole image, or else the largest tile that there is
memory for (``choose_tile``).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor

from ..errors import UserError

ALIGNMENT = 8  # pixels; tiles begin where windows of the whole image begin
SMALLEST = 64  # pixels; the training patches of most networks

Network = Callable[[Tensor], Tensor]
Progress = Callable[[int, int], None]  # tiles done, tiles in all


class Tiles:
    """Passes images to a network in pieces that it has memory for.

    If memory runs out, the tile that failed is divided, and all that follow: none is computed
    twice, none is left out.

    Args:
        network: (B, C, h, w) on ``device`` -> (B, C', h * scale, w * scale).
        scale: of the network.
        tile: largest side of what the network gets, in pixels; 0 for the whole image.
        overlap: pixels that neighbours share; see :func:`crossfade`.
        device: where the network computes. The image and the result stay where the image is.
        progress: told after every tile; the tiles in all are more once one had to be divided.

    Raises:
        UserError: ``tile`` is too small for the overlap.
    """

    def __init__(
        self,
        network: Network,
        scale: int,
        tile: int,
        overlap: int,
        device: torch.device | str = "cpu",
        progress: Progress | None = None,
    ) -> None:
        self.network, self.scale, self.overlap, self.device = network, scale, overlap, device
        self.limit: float = tile or math.inf
        self.progress = progress
        self.done, self.total = 0, 1
        check_tile(tile, overlap)

    def rows(self, x: Tensor) -> Iterator[Tensor]:
        """The result of (B, C, H, W) from top to bottom, in bands: (B, C', any, W * scale)."""
        if max(x.shape[2:]) > self.limit:
            yield from self.blended(x)
        elif (y := self.attempt(x)) is not None:
            yield y
        else:
            self.limit = self.smaller(max(x.shape[2:]))
            yield from self.blended(x)

    def whole(self, x: Tensor) -> Tensor:
        """The result of (B, C, H, W) at once: (B, C', H * scale, W * scale)."""
        bands = list(self.rows(x))
        return bands[0] if len(bands) == 1 else torch.cat(bands, 2)

    def blended(self, x: Tensor) -> Iterator[Tensor]:
        """As :meth:`rows`, of an image larger than a tile."""
        spans = [tile_spans(size, int(self.limit), self.overlap) for size in x.shape[2:]]
        self.total += len(spans[0]) * len(spans[1]) - 1
        shared = self.overlap * self.scale
        rows = (
            torch.cat(list(crossfade((self.whole(tile) for tile in row), shared, dim=3)), 3)
            for row in (
                [x[:, :, top:bottom, left:right] for left, right in spans[1]]
                for top, bottom in spans[0]
            )
        )
        return crossfade(rows, shared, dim=2)

    def attempt(self, x: Tensor) -> Tensor | None:
        """One tile through the network; None if the memory was too small for that."""
        try:
            y = self.network(x.to(self.device)).to(x.device)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            y = None
        # Here what the failed call held is gone.
        if y is None and torch.device(self.device).type == "cuda":
            torch.cuda.empty_cache()
        if y is not None:
            self.done += 1
            if self.progress is not None:
                self.progress(self.done, self.total)
        return y

    def smaller(self, side: int) -> int:
        """The tile to go on with, one of ``side`` pixels being too large.

        Raises:
            UserError: it would be too small to be of use.
        """
        half = math.ceil(side / 2 / ALIGNMENT) * ALIGNMENT
        smaller = max(half, SMALLEST, least_tile(self.overlap))
        if smaller >= side:
            raise UserError(
                f"out of memory even for {side} x {side} pixels on {self.device}; "
                "close other programs, or restore on another device"
            )
        return smaller


def restore_tensor(
    network: Network,
    x: Tensor,
    tile: int | None = None,
    overlap: int = 32,
    *,
    scale: int,
    device: torch.device | str = "cpu",
    progress: Progress | None = None,
) -> Tensor:
    """An image of any size through a network, whole or in tiles.

    Args:
        x: (B, C, H, W).
        tile: side of a tile in pixels; 0 or None for the whole image at once.
        network, overlap, scale, device, progress: see :class:`Tiles`.

    Returns:
        (B, C', H * scale, W * scale), where ``x`` is.

    Raises:
        UserError: a tile too small for the overlap, or for the memory that there is.
    """
    return Tiles(network, scale, tile or 0, overlap, device, progress).whole(x)


def check_tile(tile: int, overlap: int) -> None:
    """Refuse tiles that are too small for their overlap.

    Raises:
        UserError: says how large they must be.
    """
    if overlap < 0:
        raise UserError(f"tiles cannot overlap by {overlap} pixels; give 0 or more")
    if tile and tile < least_tile(overlap):
        raise UserError(
            f"tiles of {tile} pixels are too small to overlap by {overlap}; "
            f"give at least {least_tile(overlap)}, or a smaller overlap"
        )


def least_tile(overlap: int) -> int:
    """The smallest tile with this overlap: each neighbour has at most half of it, too."""
    return overlap + max(overlap, ALIGNMENT)


def tile_spans(size: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    """Where tiles begin and end along one side: as few as can be, and those about equally long.

    Args:
        size: of the side in pixels.
        tile: the longest that one may be, at least ``least_tile(overlap)``.
        overlap: what each shares with the next, exactly.
    """
    if size <= tile:
        return [(0, size)]
    count = math.ceil((size - overlap) / ((tile - overlap) // ALIGNMENT * ALIGNMENT))
    step = (size - overlap) / count / ALIGNMENT
    starts = [math.ceil(i * step) * ALIGNMENT for i in range(count)]
    return list(zip(starts, [*(start + overlap for start in starts[1:]), size], strict=True))


def crossfade(parts: Iterable[Tensor], shared: int, dim: int) -> Iterator[Tensor]:
    """Neighbours joined: over the middle half of what they share one fades linearly into the other.

    The quarter at the end of each counts for nothing: there a network sees least of what is around.

    Args:
        parts: at least one; they are changed.
        shared: how much of ``dim`` each has in common with the next.

    Yields:
        What there is to be put together along ``dim``.
    """
    shape = [1, 1, 1, 1]
    shape[dim] = shared
    tail: Tensor | None = None
    for part in parts:
        if tail is not None:
            place = (torch.arange(shared, device=part.device) + 0.5) / shared
            weight = (2 * place - 0.5).clamp(0, 1)
            head = part.narrow(dim, 0, shared)
            head.copy_(torch.lerp(tail, head, weight.view(shape).to(part.dtype)))
            del head
        size = part.shape[dim]
        alone = max(size - shared, 0)
        yield part.narrow(dim, 0, alone)
        tail = part.narrow(dim, alone, size - alone).clone()
        del part  # so that it is gone while the next one is computed
    if tail is not None:
        yield tail


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an exception of PyTorch says that memory ran out, on a GPU or on a CPU."""
    return isinstance(error, (torch.cuda.OutOfMemoryError, MemoryError)) or any(
        phrase in str(error) for phrase in ("can't allocate memory", "not enough memory")
    )
