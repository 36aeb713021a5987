"""Attribution maps: known Gini coefficients, completeness, and no pixel that cannot matter."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from compacter_arch.errors import UserError
from compacter_arch.tables import Model
from compacter_arch.tables.attribution import (
    KERNEL,
    SIGMA,
    attribute,
    attribute_models,
    blur,
    detail,
    diffusion_index,
    gini,
    normalise,
)


def small_network(convolutions: int, upscale: int = 2) -> nn.Module:
    """Smooth, so that a sum over few steps is near the integral."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(convolutions - 1):
        layers += [nn.Conv2d(3, 3, 3, padding=1), nn.Tanh()]
    layers += [nn.Conv2d(3, 3 * upscale**2, 3, padding=1), nn.PixelShuffle(upscale)]
    return nn.Sequential(*layers)


def random_image(height: int = 20, width: int = 24, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((height, width, channels)).astype(np.float32)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([3, 3, 3, 3], 0),
        ([0, 0, 0, 1], 3 / 4),
        ([1, 3], 1 / 4),
        ([[1, 2], [3, 4]], 1 / 4),
        ([0, 0, 0, 0], 0),
        ([0] * 999 + [5], 0.999),
    ],
)
def test_gini_and_diffusion_index(values: Sequence, expected: float):
    array = np.array(values, dtype=float)
    assert gini(array) == pytest.approx(expected, abs=1e-4)
    assert diffusion_index(array) == pytest.approx(100 * (1 - expected), abs=1e-2)


def test_gini_is_half_the_mean_difference_over_the_mean():
    """Its definition, computed over all pairs."""
    values = np.random.default_rng(1).random(50)
    pairs = np.abs(values[:, None] - values).mean()
    assert gini(values) == pytest.approx(pairs / (2 * values.mean()), abs=1e-5)


def test_detail_is_the_gradients_length_in_the_patch():
    output = torch.rand(1, 3, 9, 11, dtype=torch.double)
    down, right = output.diff(dim=2)[..., :-1], output.diff(dim=3)[..., :-1, :]
    length = (down**2 + right**2).sqrt()[..., 2:6, 3:7]
    assert detail(output, (2, 3, 4)).item() == pytest.approx(length.sum().item(), abs=1e-6)
    flat = torch.ones(1, 3, 9, 9, requires_grad=True)
    (slope,) = torch.autograd.grad(detail(flat, (0, 0, 8)), flat)
    assert torch.equal(slope, torch.zeros_like(flat))
    for patch in ((0, 0, 9), (-1, 0, 2), (5, 0, 4), (0, 0, 0)):
        with pytest.raises(ValueError, match="outside"):
            detail(flat, patch)


def test_blur_is_that_of_the_authors():
    """Their kernel, as in LAM_Demo, by filter2D."""
    image = random_image().astype(np.float64)
    axis = np.arange(-KERNEL // 2 + 1.0, KERNEL // 2 + 1.0)
    x, y = np.meshgrid(axis, axis)
    kernel = np.exp(-(x**2 + y**2) / (2 * (SIGMA + 1e-5) ** 2))
    expected = cv2.filter2D(image, -1, kernel / kernel.sum())
    np.testing.assert_allclose(blur(image, SIGMA, KERNEL), expected, atol=1e-12)
    np.testing.assert_allclose(blur(image, 0, KERNEL), image, atol=1e-12)
    assert blur(image[..., :1], SIGMA, KERNEL).shape == (20, 24, 1)


def test_attributions_sum_to_the_difference_of_detail():
    network, image, patch = small_network(3), random_image(), (12, 16, 10)

    def detail_of(pixels: np.ndarray) -> float:
        x = torch.from_numpy(pixels.transpose(2, 0, 1)[None].copy()).float()
        with torch.no_grad():
            return detail(network(x), patch).item()

    difference = detail_of(image) - detail_of(blur(image, SIGMA, KERNEL))
    errors = [
        abs(attribute(network, image, patch, steps=steps).sum() / difference - 1)
        for steps in (100, 200, 400)
    ]
    assert errors[2] < 0.01
    assert errors[0] / errors[1] == pytest.approx(2, abs=0.1)  # a sum of steps, of first order
    assert errors[1] / errors[2] == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("convolutions", [1, 3])
def test_map_is_confined_to_the_receptive_field(convolutions: int):
    """The patch's pixels, one more for the gradient, and one more for each convolution."""
    network, (top, left, size) = small_network(convolutions), (16, 20, 6)
    strength = normalise(attribute(network, random_image(), (top, left, size), steps=5))
    rows, columns = np.nonzero(strength)
    reach = convolutions
    assert rows.min() == top // 2 - reach and rows.max() == (top + size) // 2 + reach
    assert columns.min() == left // 2 - reach and columns.max() == (left + size) // 2 + reach
    assert strength.max() == 1 and strength.min() == 0


def test_channels_are_summed_before_the_absolute_value():
    attributions = np.zeros((2, 2, 3))
    attributions[0, 0], attributions[1, 1] = (1, -3, 0), (2, 2, 0)
    np.testing.assert_array_equal(normalise(attributions), [[0.5, 0], [0, 1]])
    assert normalise(np.zeros((2, 2, 3))).max() == 0


class Wide(nn.Module):
    """Uses the mean of the whole image."""

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.interpolate(x + x.var((2, 3), keepdim=True) * x, scale_factor=2)


def test_a_network_with_a_wider_view_has_the_higher_index():
    image = (random_image() * 255).astype(np.uint8)
    models = [
        Model("narrow", small_network(1), "a", 2, 3),
        Model("wide", Wide(), "b", 2, 3),
    ]
    narrow, wide = attribute_models(models, image, (12, 16, 8), steps=4)
    assert diffusion_index(wide) > diffusion_index(narrow)


def test_gray_networks_get_gray_images():
    image = (random_image() * 255).astype(np.uint8)
    network = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.PixelShuffle(2))
    (strength,) = attribute_models([Model("g", network, "g", 2, 1)], image, (4, 4, 4), steps=2)
    assert strength.shape == (20, 24)


def test_what_cannot_be_attributed_is_named():
    image = (random_image() * 255).astype(np.uint8)
    x2, x3 = Model("a", small_network(1), "a", 2, 3), Model("b", small_network(1, 3), "b", 3, 3)
    with pytest.raises(UserError, match="b: for x3, a is for x2"):
        attribute_models([x2, x3], image, (4, 4, 4), steps=1)
    for patch in ((36, 0, 4), (-1, 0, 4), (0, 44, 4), (0, 0, 0)):
        with pytest.raises(UserError, match="outside of the output of 40 x 48 pixels"):
            attribute_models([x2], image, patch, steps=1)
    with pytest.raises(UserError, match="a: RuntimeError: "):
        attribute_models([Model("a", nn.Conv2d(5, 3, 3), "a", 2, 3)], image, (4, 4, 4), steps=1)
