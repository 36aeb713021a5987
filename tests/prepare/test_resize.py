"""``imresize`` is MATLAB's."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.prepare import imresize

from .tools import random_image, run_python

SCALES = (1 / 2, 1 / 3, 1 / 4, 2.0, 3.0)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x <= 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def slow_column(column: np.ndarray, scale: float) -> np.ndarray:
    """One column, one output at a time, with the indices from 1 that MATLAB's source has."""
    length = len(column)
    mirror = [*range(length), *reversed(range(length))]
    shrink = min(scale, 1.0)
    width = 4 / shrink
    result = []
    for x in range(1, math.ceil(length * scale) + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        index = range(left, left + math.ceil(width) + 2)
        weights = [cubic(shrink * (u - i)) for i in index]
        values = [float(column[mirror[(i - 1) % (2 * length)]]) for i in index]
        result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return np.array(result)


def slow_imresize(img: np.ndarray, scale: float) -> np.ndarray:
    for axis in (0, 1):
        out = np.apply_along_axis(slow_column, axis, img, scale)
        if img.dtype == np.uint8:
            out = np.clip(np.floor(out + 0.5), 0, 255)
        img = out.astype(img.dtype)
    return img


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([None, 1, 3, 5]),
    scale=st.sampled_from(SCALES),
    dtype=st.sampled_from([np.uint8, np.float64]),
)
def test_equals_the_slow_formula(
    seed: int, sides: tuple[int, int], channels: int | None, scale: float, dtype: type
) -> None:
    img = random_image(seed, sides if channels is None else (*sides, channels), dtype)
    out = imresize(img, scale)
    assert out.dtype == img.dtype
    if dtype is np.uint8:
        np.testing.assert_array_equal(out, slow_imresize(img, scale))
    else:
        np.testing.assert_allclose(out, slow_imresize(img, scale), rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    value=st.integers(0, 255),
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    scale=st.floats(0.1, 4),
)
def test_constant_stays_constant(value: int, sides: tuple[int, int], scale: float) -> None:
    out = imresize(np.full(sides, value, np.uint8), scale)
    assert out.shape == tuple(math.ceil(side * scale) for side in sides)
    assert (out == value).all()


def test_every_value_and_both_ends_of_the_range() -> None:
    """Ramps and hard edges: halves go up, over- and undershoot are cut off."""
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(12, 0)
    edges = np.kron(np.eye(12) % 2, np.full((4, 4), 255)).astype(np.uint8)
    for img in (ramp, edges):
        for scale in SCALES:
            np.testing.assert_array_equal(imresize(img, scale), slow_imresize(img, scale))


def test_float_is_neither_rounded_nor_clipped() -> None:
    img = random_image(0, (24, 36, 3), np.float64) / 255
    out = imresize(img, 2)
    assert out.min() < 0 and out.max() > 1
    single = imresize(img.astype(np.float32), 2)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, out, atol=1e-6)


def test_views_are_taken_and_left_alone() -> None:
    img = random_image(1, (40, 60, 3))
    before = img.copy()
    view = img[::-1, 3:51].swapaxes(0, 1)
    np.testing.assert_array_equal(imresize(view, 1 / 2), imresize(view.copy(), 1 / 2))
    np.testing.assert_array_equal(img, before)


@pytest.mark.parametrize(
    ("img", "scale", "error"),
    [
        (np.zeros((4, 4), np.uint16), 0.5, TypeError),
        (np.zeros((4, 0), np.uint8), 0.5, ValueError),
        (np.zeros(4, np.uint8), 0.5, ValueError),
        (np.zeros((4, 4), np.uint8), 0, ValueError),
        (np.zeros((4, 4), np.uint8), math.nan, ValueError),
    ],
)
def test_imresize_refuses(img: np.ndarray, scale: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="imresize"):
        imresize(img, scale)


SPEED = """
import time, compacter_arch, numpy, torch
from basicsr.utils import matlab_functions
from compacter_arch.prepare import imresize
torch.set_num_threads(1)
img = numpy.random.default_rng(0).integers(0, 256, (1356, 2040, 3), dtype=numpy.uint8)
def best(resize, img, times):
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        resize(img, 1 / 2)
        seconds.append(time.perf_counter() - start)
    return min(seconds)
print(best(matlab_functions.imresize, img / 255, 3) / best(imresize, img, 10))
"""


def test_is_five_times_as_fast_as_basicsr() -> None:
    """A DIV2K image on one thread; the best of many, for machines with other work."""
    process = run_python(SPEED)
    output, errors = process.communicate(timeout=100)
    assert process.returncode == 0, errors
    assert float(output) > 5
