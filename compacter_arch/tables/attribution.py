"""Which pixels of its input a super-resolution network uses: local attribution maps.

After Gu and Dong, "Interpreting Super-Resolution Networks with Local Attribution Maps" (CVPR 2021),
with the parameters and the arithmetic of the authors' ``LAM_Demo``: 50 steps, kernels of 9 x 9
pixels, sigma from 1.2 to 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import Tensor, nn

from ..errors import UserError
from .figure import (
    DPI,
    FONT,
    GAP,
    LINE,
    RED,
    draw_box,
    fit_texts,
    new_sheet,
    paper_style,
    save_figure,
    to_rgb,
)
from .models import Model
from .profile import one_line

STEPS, SIGMA, KERNEL = 50, 1.2, 9
TINY = 1e-12  # below the root, whose slope at 0 is infinite
GAMMA = 0.5  # of the map's opacity: its values span orders of magnitude


def attribute(
    network: nn.Module,
    image: np.ndarray,
    patch: tuple[int, int, int],
    *,
    steps: int = STEPS,
    sigma: float = SIGMA,
    kernel: int = KERNEL,
    device: torch.device | str = "cpu",
) -> np.ndarray:
    """Integrated gradients of the detail in a patch of the output, from a blurred input to it.

    The path is blurring with ever smaller sigma. A sum over ``steps`` points stands for the
    integral: each is the gradient with respect to the input, times the step that led there.

    Args:
        network: (1, C, H, W) -> (1, C', H * s, W * s), differentiable.
        image: (H, W, C) float32 in [0, 1].
        patch: (top, left, size) in pixels of the output.
        steps: on the path.
        sigma: of the blur at its beginning, in pixels.
        kernel: odd side of the blur's kernel in pixels.
        device: where the network runs.

    Returns:
        (H, W, C) float64; its sum is about the detail in the patch for the image minus that for the
        blurred image.
    """
    network = network.to(device).eval()
    total = np.zeros(image.shape)
    before = blur(image, sigma, kernel)
    for step in range(1, steps + 1):
        here = blur(image, sigma * (1 - step / steps), kernel)
        x = torch.from_numpy(here.transpose(2, 0, 1)[None].copy()).to(device, torch.float32)
        x.requires_grad_(True)
        (slope,) = torch.autograd.grad(detail(network(x), patch), x)
        total += slope[0].cpu().double().numpy().transpose(1, 2, 0) * (here - before)
        before = here
    return total


def detail(output: Tensor, patch: tuple[int, int, int]) -> Tensor:
    """The sum of the gradient's lengths in a patch of (B, C, H, W), each channel for itself.

    Raises:
        ValueError: the patch is not inside the output (less its last row and column).
    """
    top, left, size = patch
    height, width = output.shape[-2:]
    if not (0 <= top <= height - 1 - size and 0 <= left <= width - 1 - size and size > 0):
        raise ValueError(f"the patch is outside of the output of {height} x {width} pixels")
    part = output[..., top : top + size + 1, left : left + size + 1]
    down = part[..., 1:, :-1] - part[..., :-1, :-1]
    right = part[..., :-1, 1:] - part[..., :-1, :-1]
    return (down**2 + right**2 + TINY).sqrt().sum()


def blur(image: np.ndarray, sigma: float, kernel: int) -> np.ndarray:
    """Convolve (H, W, C) with a Gaussian of ``kernel`` pixels; sigma 0 changes nothing."""
    offsets = np.arange(kernel) - kernel // 2
    weights = np.exp(-(offsets**2) / (2 * (sigma + 1e-5) ** 2))
    weights /= weights.sum()
    blurred = cv2.sepFilter2D(image.astype(np.float64), -1, weights, weights)
    return blurred.reshape(image.shape)


def normalise(attributions: np.ndarray) -> np.ndarray:
    """(H, W, C) -> (H, W) in [0, 1]: the absolute value of the channels' sum over its maximum."""
    strength = np.abs(attributions.sum(axis=2))
    return strength / (strength.max() or 1)


def gini(values: np.ndarray) -> float:
    """Gini coefficient: 0 if all are equal, towards 1 if one of very many has everything.

    Args:
        values: of any shape, not negative.
    """
    ordered = np.sort(values, axis=None).astype(np.float64) + 1e-7  # the authors'; against all 0
    n = ordered.size
    return float(((2 * np.arange(1, n + 1) - n - 1) * ordered).sum() / (n * ordered.sum()))


def diffusion_index(strength: np.ndarray) -> float:
    """(1 - Gini) * 100 of :func:`normalise`: higher if more pixels take part."""
    return (1 - gini(strength)) * 100


def attribute_models(
    models: Sequence[Model],
    image: np.ndarray,
    patch: tuple[int, int, int],
    steps: int = STEPS,
    device: torch.device | str = "cpu",
) -> list[np.ndarray]:
    """The normalised map of every model.

    Args:
        models: of one scale.
        image: (H, W, 3) BGR, uint8.
        patch: (top, left, size) in pixels of the output.
        steps: see :func:`attribute`.
        device: where they run.

    Raises:
        UserError: the scales differ, the patch is outside, or a network fails.
    """
    maps, scale = [], models[0].scale
    top, left, size = patch
    height, width = (side * scale for side in image.shape[:2])
    if not (0 <= top < top + size < height and 0 <= left < left + size < width):
        raise UserError(
            f"--patch {top} {left} {size}: outside of the output of {height} x {width} pixels "
            "(TOP LEFT SIZE; its last row and column have no gradient)"
        )
    for model in models:
        if model.scale != scale:
            raise UserError(f"{model.file}: for x{model.scale}, {models[0].file} is for x{scale}")
        pixels: np.ndarray = to_rgb(image).astype(np.float32) / 255
        if model.in_chans == 1:
            pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)[..., None]
        with one_line(model.file):
            maps.append(
                normalise(attribute(model.network, pixels, patch, steps=steps, device=device))
            )
    return maps


def draw_attribution(
    image: np.ndarray,
    labels: Sequence[str],
    maps: Sequence[np.ndarray],
    patch: tuple[int, int, int],
    scale: int,
    file: Path,
    width: float = 6.9,
) -> None:
    """The input with the patch in a box, and over the pale input the map of every network in red.

    Args:
        image: (H, W, 3) BGR, uint8.
        labels: of the networks.
        maps: (H, W) in [0, 1] of each; shown by its square root.
        patch: (top, left, size) in pixels of the output.
        scale: of the networks.
        file: PNG, PDF or SVG.
        width: of the picture in inches.
    """
    count, (rows, columns) = len(maps) + 1, image.shape[:2]
    wide = (width - GAP * (count - 1)) / count  # inches
    if wide <= 0:
        raise UserError(f"{count} pictures do not fit into {width} inches: give more --width")
    zoom = int(np.ceil(DPI * wide / columns))
    dpi = zoom * columns / wide
    h, w, gap, below = zoom * rows, zoom * columns, round(GAP * dpi), round((2 * LINE + 0.02) * dpi)
    sheet = np.full((h + below, count * w + (count - 1) * gap, 3), 255, np.uint8)
    pictures = [to_rgb(image), *(overlay(image, strength) for strength in maps)]
    for number, picture in enumerate(pictures):
        x = number * (w + gap)
        sheet[:h, x : x + w] = picture.repeat(zoom, 0).repeat(zoom, 1)
    captions = [["LR input", f"patch of {patch[2]} × {patch[2]} at ×{scale}"]]
    captions += [
        [label, f"DI {diffusion_index(strength):.2f}"]
        for label, strength in zip(labels, maps, strict=True)
    ]
    with paper_style() as figure_of:
        figure, axes = new_sheet(figure_of, sheet, dpi)
        texts = []
        for number, lines in enumerate(captions):
            x = number * (w + gap)
            top, left, side = (pixels / scale * zoom for pixels in patch)
            frame = (1.4, RED) if number == 0 else (0.6, "black")
            draw_box(axes, (x + left - 0.5, top - 0.5), (side, side), *frame)
            for line, text in enumerate(lines):
                y = 1 - (h + (0.02 + (line + 0.5) * LINE) * dpi) / sheet.shape[0]
                about = {"ha": "center", "va": "center_baseline", "fontsize": FONT}
                texts.append((figure.text((x + w / 2) / sheet.shape[1], y, text, **about), w))
        fit_texts(figure, texts)
        save_figure(figure, file, dpi)


def overlay(image: np.ndarray, strength: np.ndarray) -> np.ndarray:
    """Red over the pale gray image, as opaque as the square root of the map; (H, W, 3) RGB."""
    gray = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)[..., None] / 255
    pale = 0.4 + 0.6 * gray
    opacity = strength[..., None] ** GAMMA
    mixed = pale * (1 - opacity) + np.array([0.80, 0.05, 0.10]) * opacity
    return (mixed * 255).round().astype(np.uint8)
