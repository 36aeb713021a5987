"""Metrics that cannot be had of an image."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from basicsr.metrics import calculate_metric, niqe, psnr_ssim

from .tools import original


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def calculate_niqe(image: np.ndarray, border: int = 0) -> float:
    return calculate_metric({"img": image}, {"type": "calculate_niqe", "crop_border": border})


@pytest.fixture
def released_niqe(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(niqe, "niqe", original(niqe.niqe))


SMALL = [(noise(50, 60), 0), (noise(96, 191), 0), (noise(97, 193), 1)]
FLAT = np.full((200, 200, 3), 7, np.uint8)


@pytest.mark.parametrize(("image", "border"), SMALL)
def test_niqe_of_a_small_image_is_refused(image: np.ndarray, border: int) -> None:
    height, width = (side - 2 * border for side in image.shape[:2])
    with pytest.raises(ValueError, match=f"96 x 96 .* {height} x {width} pixels without border"):
        calculate_niqe(image, border)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_niqe_of_a_flat_image_is_refused() -> None:
    with pytest.raises(ValueError, match="two blocks of 96 x 96 pixels that are not flat"):
        calculate_niqe(FLAT)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.usefixtures("released_niqe")
@pytest.mark.parametrize(("image", "border"), [*SMALL[::2], (FLAT, 0)])
def test_niqe_said_something_else(image: np.ndarray, border: int) -> None:
    try:
        assert np.isnan(calculate_niqe(image, border))
    except (RuntimeError, np.linalg.LinAlgError) as error:
        assert "NIQE" not in str(error)


def test_niqe_that_is_no_number_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(np.linalg, "pinv", lambda matrix: matrix * np.nan)
    with pytest.raises(ValueError, match="that are not flat"):
        calculate_niqe(noise(98, 194))


def test_niqe_of_other_images_stays(request: pytest.FixtureRequest) -> None:
    value = calculate_niqe(noise(98, 194), 1)
    request.getfixturevalue("released_niqe")
    assert value == calculate_niqe(noise(98, 194), 1) > 0


@pytest.mark.parametrize("name", ["calculate_psnr", "calculate_ssim"])
def test_metrics_of_tensors(name: str) -> None:
    image, images = noise(20, 20), torch.rand(1, 3, 20, 20)
    of_tensors = getattr(psnr_ssim, f"{name}_pt")
    options = {"type": f"{name}_pt", "crop_border": 2}
    with pytest.raises(ValueError, match=f"{name}_pt is for tensors; .* use {name}[.]"):
        calculate_metric({"img": image, "img2": image}, options)
    with pytest.raises(IndexError):
        original(of_tensors)(image, image, 2)
    assert torch.equal(of_tensors(images, images, 2), original(of_tensors)(images, images, 2))
