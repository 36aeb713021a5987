"""Metrics: faster, and the same."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_metric, metric_util, psnr_ssim
from basicsr.metrics.metric_util import to_y_channel
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.compat.metrics import TILE

from .tools import original

KODAK = Path(__file__).parents[3] / "shared/data/test/Kodak8_500"


@contextmanager
def as_released() -> Iterator[None]:
    """BasicSR's own functions in their places."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("_ssim", "to_y_channel"):
            patch.setattr(psnr_ssim, name, original(getattr(psnr_ssim, name)))
        yield


def both(metric: str, img: np.ndarray, img2: np.ndarray, **options: Any) -> tuple[float, float]:
    """A metric of an option file: ours, BasicSR's."""
    name = f"calculate_{metric}"
    ours = calculate_metric({"img": img, "img2": img2}, {"type": name, **options})
    with as_released():
        return ours, inspect.unwrap(getattr(psnr_ssim, name))(img, img2, **options)


def make_pair(shape: tuple[int, ...], noise: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """A smooth image with edges and flat parts, and a noisy copy; uint8."""
    rng = np.random.default_rng(seed)
    small = rng.choice(np.array([0, 60, 250, 255], np.uint8), (5, 5, *shape[2:]))
    img = cv2.resize(small, shape[1::-1], interpolation=cv2.INTER_CUBIC).reshape(shape)
    return img, (img + rng.normal(0, noise, shape)).round().clip(0, 255).astype(np.uint8)


@settings(max_examples=60, deadline=None)
@given(
    sides=st.tuples(*[st.integers(11, 60) | st.integers(TILE - 5, TILE + 40)] * 2),
    channels=st.sampled_from([None, 1, 3]),
    border=st.integers(0, 4),
    order=st.sampled_from(["HWC", "CHW"]),
    y=st.booleans(),
    noise=st.sampled_from([0, 1, 30]),
    seed=st.integers(0, 99),
)
def test_equal_basicsr_s(sides, channels, border, order, y, noise, seed):
    shape = tuple(side + 2 * border for side in sides)
    img, img2 = make_pair(shape if channels is None else (*shape, channels), noise, seed)
    if channels is None:
        order = "HWC"  # BasicSR transposes the gray image that it has made (H, W, 1)
    elif order == "CHW":
        img, img2 = img.transpose(2, 0, 1), img2.transpose(2, 0, 1)
    options = {"crop_border": border, "input_order": order, "test_y_channel": y}
    ours, theirs = both("ssim", img, img2, **options)
    assert ours == pytest.approx(theirs, abs=1e-9)
    ours, theirs = both("psnr", img, img2, **options)
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("y", [False, True])
@pytest.mark.parametrize("file", sorted(KODAK.glob("*.png"))[:3] or [None])
def test_photographs(file: Path | None, y: bool):
    """Blurred, as a network that restores too little leaves them."""
    if file is None:
        pytest.skip(f"no images at {KODAK}")
    image = cv2.imread(str(file))
    options = {"crop_border": 2, "test_y_channel": y}
    ours, theirs = both("ssim", cv2.GaussianBlur(image, (5, 5), 1.0), image, **options)
    assert 0.5 < theirs < 0.99 and ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize(("low", "high"), [(0, 0), (0, 255), (254, 255), (255, 255)])
def test_flat_images(low: int, high: int):
    """Nothing cancels out: variances of zero beside squares of 65,025."""
    img, img2 = np.full((20, 30), low, np.uint8), np.full((20, 30), high, np.uint8)
    ours, theirs = both("ssim", img, img2, crop_border=0)
    assert ours == pytest.approx(theirs, abs=1e-9)


@pytest.mark.parametrize("shape", [(10, 30), (30, 10), (9, 9)])
def test_images_without_a_whole_window_have_none(shape: tuple[int, int]):
    img = np.zeros(shape, np.uint8)
    with pytest.warns(RuntimeWarning, match="empty slice|invalid value"):
        ours, theirs = both("ssim", img, img, crop_border=0)
    assert np.isnan(ours) and np.isnan(theirs)


def test_luma_is_the_same_to_the_bit():
    blue, green, red = np.indices((32, 32, 32), np.uint8) * 8 + np.uint8(3)
    colours = np.stack([blue, green, red], -1).reshape(32 * 32, 32, 3)
    theirs = original(to_y_channel)
    for image in (colours, colours[3:-3, 3:-3], colours[..., ::-1], colours.transpose(1, 0, 2)):
        ours = to_y_channel(image)
        assert ours.dtype == np.float32 and np.array_equal(ours, theirs(image))
    for image in (colours[..., 0], colours[..., :1], colours / 3, colours.astype(np.float32)):
        assert np.array_equal(to_y_channel(image), theirs(image))


def test_images_of_two_shapes_are_told_as_before():
    for shape in ((20, 31, 3), (20, 30)):
        with pytest.raises(AssertionError, match="Image shapes are different"):
            psnr_ssim.calculate_ssim(np.zeros((20, 30, 3), np.uint8), np.zeros(shape, np.uint8), 0)


@pytest.mark.parametrize("shape", [(16, 16), (16, 16, 3)])
@pytest.mark.parametrize("y", [False, True])
def test_option_files_get_it(monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...], y: bool):
    """BasicSR's metric, by its name, without the slow parts."""
    img, img2 = make_pair(shape, 10, 0)
    monkeypatch.setattr(cv2, "filter2D", lambda *_: pytest.fail("a slow convolution"))
    monkeypatch.setattr(metric_util, "bgr2ycbcr", lambda *_, **__: pytest.fail("a slow product"))
    if len(shape) == 3 and not y:
        monkeypatch.setattr(psnr_ssim, "_ssim", lambda *_: pytest.fail("of values of 64 bits"))
    options = {"type": "calculate_ssim", "crop_border": 0, "test_y_channel": y}
    assert 0 < calculate_metric({"img": img, "img2": img2}, options) < 1
