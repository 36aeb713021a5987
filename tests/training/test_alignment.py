"""Misaligned pairs are told from those that are only degraded, on scikit-image's photographs."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np
import pytest
import skimage.data

from compacter_arch.prepare.degradations import add_rain, darken
from compacter_arch.prepare.resize import imresize
from compacter_arch.training.checks.alignment import misalignment

Change = Callable[[np.ndarray], np.ndarray]
RANDOM = np.random.RandomState(0)


def noisy(img: np.ndarray) -> np.ndarray:
    return (img + RANDOM.normal(0, 50, img.shape)).clip(0, 255).astype(np.uint8)


def jpeg(img: np.ndarray) -> np.ndarray:
    return cv2.imdecode(cv2.imencode(".jpg", img, [cv2.IMWRITE_JPEG_QUALITY, 10])[1], 1)


def dark_and_noisy(img: np.ndarray) -> np.ndarray:
    return (0.08 * img + RANDOM.normal(0, 2, img.shape)).clip(0, 255).astype(np.uint8)


def resized(scale: int, interpolation: int) -> Change:
    return lambda img: cv2.resize(
        img, (img.shape[1] // scale, img.shape[0] // scale), interpolation=interpolation
    )


DEGRADATIONS: dict[str, tuple[int, Change]] = {
    "none": (1, lambda img: img),
    "noise": (1, noisy),
    "jpeg": (1, jpeg),
    "rain": (1, lambda img: add_rain(img, RANDOM)),
    "dark": (1, lambda img: darken(img, RANDOM)),
    "darker": (1, dark_and_noisy),
    "blur": (1, lambda img: cv2.GaussianBlur(img, (0, 0), 2)),
    "matlab": (2, lambda img: imresize(img, 1 / 2)),
    "lanczos": (3, resized(3, cv2.INTER_LANCZOS4)),
    "bilinear": (4, resized(4, cv2.INTER_LINEAR)),
    "nearest": (4, lambda img: np.ascontiguousarray(img[::4, ::4])),
    "small and noisy": (2, lambda img: noisy(imresize(img, 1 / 2))),
}
TURNS: dict[str, Change] = {
    "mirrored": np.fliplr,
    "turned upside down and mirrored": np.flipud,
    "turned by 90 degrees": lambda img: np.rot90(img, -1),
    "turned by 180 degrees": lambda img: np.rot90(img, 2),
    "turned by 270 degrees": lambda img: np.rot90(img, 1),
    "turned by 90 degrees and mirrored": lambda img: np.fliplr(np.rot90(img, -1)),
    "turned by 270 degrees and mirrored": lambda img: np.fliplr(np.rot90(img, 1)),
}


def photo(name: str, height: int, width: int) -> np.ndarray:
    """The upper left part of a photograph that comes with scikit-image."""
    return np.ascontiguousarray(getattr(skimage.data, name)()[:height, :width, ::-1])


@pytest.fixture(scope="module")
def photos() -> dict[str, np.ndarray]:
    return {name: photo(name, 288, 384) for name in ("astronaut", "coffee", "chelsea")}


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_degraded_is_not_misaligned(photos: dict[str, np.ndarray], name: str) -> None:
    """Nor are small parts of an image, with much and with little to see."""
    scale, degrade = DEGRADATIONS[name]
    for img in photos.values():
        assert misalignment(img, degrade(img), scale) is None
        side = 48 * scale
        for top in range(0, 288 - side + 1, 48):
            for left in range(0, 384 - side + 1, 96):
                part = np.ascontiguousarray(img[top : top + side, left : left + side])
                assert misalignment(part, degrade(part), scale) is None


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_misaligned_is_told(photos: dict[str, np.ndarray], name: str) -> None:
    """By one pixel of LQ, mirrored, of another photograph: for all degradations.

    Where these blur or move details themselves, it takes more than a pixel.
    """
    scale, degrade = DEGRADATIONS[name]
    img = photos["astronaut"]
    for rows, columns in ((3, -2),) if name in ("blur", "nearest") else ((0, 1), (-1, 0), (3, -2)):
        shifted = degrade(np.roll(img, (rows * scale, columns * scale), (0, 1)))
        text = f"LQ is GT shifted by ({rows}, {columns}) pixels (down, right)"
        assert misalignment(img, shifted, scale) == text
    assert misalignment(img, degrade(np.ascontiguousarray(img[:, ::-1])), scale) == (
        "LQ is GT mirrored"
    )
    assert misalignment(img, degrade(photos["coffee"]), scale) == "LQ does not resemble its GT"


@pytest.mark.parametrize("name", TURNS)
def test_turned_is_told(name: str) -> None:
    img = photo("astronaut", 300, 300)
    lq = imresize(np.ascontiguousarray(TURNS[name](img)), 1 / 2)
    assert misalignment(img, lq, 2) == f"LQ is GT {name}"


def test_turned_and_shifted_is_told() -> None:
    img = photo("astronaut", 240, 240)
    lq = np.roll(np.rot90(img, 2), 2, 1)
    assert misalignment(img, np.ascontiguousarray(lq), 1) == (
        "LQ is GT turned by 180 degrees and shifted by (0, 2) pixels (down, right)"
    )


def test_where_there_is_nothing_to_see(photos: dict[str, np.ndarray]) -> None:
    """Flat, tiny, thin: no verdict. GT may be larger than LQ by a rest, which is cut off."""
    img = photos["coffee"]
    for lq in (np.full_like(img, 7), img[:5, :5], img[:200, :8]):
        assert misalignment(img, np.ascontiguousarray(lq), 1) is None
    assert misalignment(np.full_like(img, 7), noisy(np.full_like(img, 7)), 1) is None
    assert misalignment(img[:287, :383], imresize(img[:286, :382], 1 / 2), 2) is None
