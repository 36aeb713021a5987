"""Tiles: where they lie, how they are joined, and what happens when memory runs out."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compacter_arch import CompacterArch
from compacter_arch.errors import UserError
from compacter_arch.inference.tiling import (
    ALIGNMENT,
    crossfade,
    least_tile,
    restore_tensor,
    tile_spans,
)

sides = st.integers(1, 400)


class Local(nn.Module):
    """Convolutions that see 3 pixels around each, and a pixel shuffle."""

    def __init__(self, scale: int) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.scale = scale
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 5, padding=2), nn.GELU(), nn.Conv2d(8, 3, 3, padding=1)
        )
        self.last = nn.Conv2d(3, 3 * scale**2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.pixel_shuffle(self.last(self.body(x)), self.scale)


@settings(deadline=None)
@given(size=st.integers(1, 3000), overlap=st.integers(0, 70), more=st.integers(0, 300))
def test_spans_cover_the_side_with_exact_overlaps(size: int, overlap: int, more: int):
    tile = least_tile(overlap) + more
    spans = tile_spans(size, tile, overlap)
    assert spans[0][0] == 0 and spans[-1][1] == size
    assert all(0 < end - start <= tile and start % ALIGNMENT == 0 for start, end in spans)
    for (_, end), (start, _) in pairwise(spans):
        assert end - start == overlap


def test_spans_are_as_few_as_can_be_and_about_equal():
    assert tile_spans(64, 64, 16) == [(0, 64)]
    assert tile_spans(65, 64, 16) == [(0, 48), (32, 65)]  # and not 64 and 17
    lengths = [end - start for start, end in tile_spans(1000, 256, 32)]
    assert len(lengths) == math.ceil((1000 - 32) / (256 - 32))
    assert max(lengths) - min(lengths) <= ALIGNMENT


@settings(deadline=None)
@given(height=sides, width=sides, overlap=st.integers(0, 40), more=st.integers(0, 100))
def test_weights_sum_to_one(height: int, width: int, overlap: int, more: int):
    """Of a network that says 1 everywhere, whatever the tiles, the result is 1 everywhere."""
    seen = []

    def ones(x: Tensor) -> Tensor:
        seen.append(x)
        return torch.ones(1, 1, x.shape[2] * 2, x.shape[3] * 2)

    x = torch.zeros(1, 1, height, width)
    tile = least_tile(overlap) + more
    y = restore_tensor(ones, x, tile, overlap, scale=2)
    assert y.shape == (1, 1, height * 2, width * 2)
    assert (y - 1).abs().max() < 1e-6
    assert all(max(patch.shape[2:]) <= tile for patch in seen)


def test_weights_fall_in_a_line():
    """From 1 to 0 over the middle half of what is shared."""
    left, right = torch.zeros(1, 1, 1, 10), torch.ones(1, 1, 1, 9)
    joined = torch.cat(list(crossfade([left, right], shared=8, dim=3)), 3).flatten()
    weights = [0, 0, 0.125, 0.375, 0.625, 0.875, 1, 1]
    assert torch.allclose(joined, torch.tensor([0, 0, *weights, 1]))


@pytest.mark.parametrize("scale", [1, 2])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (64, 64), (65, 200), (131, 90)])
@torch.no_grad()
def test_tiles_of_a_local_network_equal_the_whole(size: tuple[int, int], scale: int):
    """One that sees no further than a quarter of the overlap."""
    network, x = Local(scale), torch.rand(2, 3, *size)
    whole = restore_tensor(network, x, scale=scale)
    assert torch.equal(whole, network(x))
    tiled = restore_tensor(network, x, 48, 16, scale=scale)
    assert (tiled - whole).abs().max() < 1e-5


@torch.no_grad()
def test_without_overlap_tiles_are_put_side_by_side():
    x = torch.rand(1, 3, 50, 41)
    assert torch.equal(restore_tensor(lambda y: 2 * y, x, 16, 0, scale=1), 2 * x)


@torch.no_grad()
def test_tiles_of_compacter_differ_by_little():
    """Its channel attention sees a tile instead of the image."""
    torch.manual_seed(0)
    network = CompacterArch(dim=16, num_heads=1, num_blocks=2, input_skip=True).eval()
    x = F.interpolate(torch.rand(1, 3, 12, 16), (96, 128), mode="bicubic").clamp(0, 1)
    whole, tiled = network(x), restore_tensor(network, x, 64, 32, scale=2)
    assert 0 < (tiled - whole).abs().max() < 0.02


def test_progress_counts_tiles():
    told: list[tuple[int, int]] = []
    x = torch.zeros(1, 1, 100, 64)
    progress = lambda done, total: told.append((done, total))  # noqa: E731
    restore_tensor(lambda y: y, x, 64, 32, scale=1, progress=progress)
    assert told == [(1, 3), (2, 3), (3, 3)]


class Short(nn.Module):
    """A network whose memory holds so many pixels, by one of several kinds of exception."""

    def __init__(self, pixels: int, error: Exception) -> None:
        super().__init__()
        self.pixels, self.error = pixels, error
        self.seen: list[tuple[int, int]] = []
        self.refused: list[tuple[int, int]] = []

    def forward(self, x: Tensor) -> Tensor:
        size = (x.shape[2], x.shape[3])
        if size[0] * size[1] > self.pixels:
            self.refused.append(size)
            raise self.error
        self.seen.append(size)
        return x * 2


OUT_OF_MEMORY = [
    torch.cuda.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail] . DefaultCPUAllocator: can't allocate memory: you tried ..."),
    RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 1 bytes."),
    MemoryError(),
]


@pytest.mark.parametrize("tile", [None, 512, 256])
@pytest.mark.parametrize("error", OUT_OF_MEMORY, ids=lambda error: type(error).__name__)
def test_too_little_memory_halves_the_tile(error: Exception, tile: int | None):
    network, x = Short(128 * 128, error), torch.rand(1, 3, 300, 520)
    told: list[tuple[int, int]] = []
    y = restore_tensor(
        network, x, tile, 32, scale=1, progress=lambda done, total: told.append((done, total))
    )
    assert torch.allclose(y, 2 * x)  # none wrong, none lost, none in another's place
    assert all(height * width <= 128 * 128 for height, width in network.seen)
    # Nothing is tried twice at a size that has failed.
    largest = [max(size) for size in network.refused]
    assert largest == sorted(set(largest), reverse=True)
    assert told[-1][0] == told[-1][1] == len(network.seen)


def test_memory_that_runs_out_at_a_later_tile():
    """Tiles that are done stay as they are; the one that failed is divided, and those after it."""
    x = torch.rand(1, 1, 128, 512)
    seen: list[int] = []
    failed: list[int] = []

    def network(y: Tensor) -> Tensor:
        if len(seen) == 2 and not failed:
            failed.append(y.shape[3])
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        seen.append(y.shape[3])
        return y + 1

    y = restore_tensor(network, x, 128, 0, scale=1)
    assert torch.equal(y, x + 1)
    assert failed == [128] and seen == [128] * 2 + [64] * 8


def test_too_little_memory_for_the_smallest_tile():
    network = Short(60 * 60, MemoryError())
    with pytest.raises(UserError, match="out of memory even for 64 x 64 pixels on cpu") as caught:
        restore_tensor(network, torch.rand(1, 1, 200, 200), scale=1)
    assert "\n" not in str(caught.value)
    assert network.seen == []


def test_other_errors_are_not_taken_for_it():
    network = Short(1, RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        restore_tensor(network, torch.rand(1, 1, 200, 200), scale=1)
    assert len(network.refused) == 1


@pytest.mark.parametrize(
    ("tile", "overlap", "words"), [(32, 32, "at least 64"), (8, 1, "at least 9"), (64, -1, "0 or")]
)
def test_tile_too_small_for_the_overlap(tile: int, overlap: int, words: str):
    with pytest.raises(UserError, match=words):
        restore_tensor(lambda y: y, torch.rand(1, 1, 8, 8), tile, overlap, scale=1)
