"""Writes pairs for deraining: photographs, and the same with synthetic rain.

python experiments/rain.py datasets/photographs -o datasets/SyntheticRain

Rain falls in layers. Those of one layer have one direction but for a little, one sharpness and one
brightness, and differ in length and thickness as drops do that are near or far. Light rain is one
to three layers of streaks, bright and apart from each other; dense rain is fine and covers the
picture evenly; heavy rain has up to five layers of several directions, and sometimes the veil
that drops far away make together. What falls on a photograph follows from its name.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple
from zlib import crc32

import cv2
import numpy as np

from compacter_arch.prepare.files import image_size, list_images, read_image
from compacter_arch.prepare.jobs import Job, run_jobs

KINDS = ("light", "dense", "heavy")
SHAPES = 4  # kinds of drops in a layer
Random = np.random.RandomState


class Layer(NamedTuple):
    """Streaks that fall alike.

    Attributes:
        slant: from the vertical, radians.
        length, thickness: of the middle one, pixels.
        covered: the part of the picture that lies below a streak.
        brightness: of the brightest streaks, levels.
        blur: standard deviation of what the lens adds, pixels.
    """

    slant: float
    length: float
    thickness: float
    covered: float
    brightness: float
    blur: float


def draw_layers(kind: str, random: Random) -> list[Layer]:
    """The layers of a rain.

    Args:
        kind: of :data:`KINDS`.
        random: where the numbers come from.
    """
    slant = np.clip(random.normal(0, 15), -45, 45)
    if kind == "dense":
        layer = Layer(
            slant=np.deg2rad(slant),
            length=random.uniform(10, 40),
            thickness=random.uniform(0.5, 1.0),
            covered=random.uniform(0.15, 0.5),
            brightness=random.uniform(40, 130),
            blur=random.uniform(0, 0.7),
        )
        return [layer]
    heavy = kind == "heavy"
    layers = []
    for _ in range(random.randint(2, 6) if heavy else random.randint(1, 4)):
        layer = Layer(
            slant=np.deg2rad(slant + random.normal(0, 15 if heavy else 2)),
            length=np.exp(random.uniform(np.log(14), np.log(75))),
            thickness=random.uniform(0.5, 1.5),
            covered=random.uniform(0.04, 0.15) if heavy else random.uniform(0.1, 0.35) ** 2,
            brightness=random.uniform(60, 190) if heavy else random.uniform(90, 240),
            blur=random.uniform(0, 1.0) if random.random_sample() < 0.5 else 0.0,
        )
        layers.append(layer)
    return layers


def streak(slant: float, length: float, thickness: float) -> np.ndarray:
    """(K, K) float64: one streak, 1 in its middle, soft at its sides and fading at its ends."""
    center = int(np.ceil(length / 2)) + 3
    down, right = np.mgrid[-center : center + 1, -center : center + 1]
    along = down * np.cos(slant) + right * np.sin(slant)
    across = right * np.cos(slant) - down * np.sin(slant)
    drop: np.ndarray = np.exp(-((across / thickness) ** 2) - (2 * along / length) ** 4)
    return drop


def fall(layer: Layer, size: tuple[int, ...], random: Random) -> np.ndarray:
    """(H, W) float64 in [0, 1]: how much of each pixel a layer covers."""
    rain: np.ndarray = np.zeros(size)
    for _ in range(SHAPES):
        length = layer.length * random.uniform(0.5, 1.5)
        thickness = layer.thickness * random.uniform(0.7, 1.3)
        shape = streak(layer.slant + random.normal(0, 0.03), length, thickness)
        drops = random.uniform(size=size) < layer.covered / SHAPES / (2 * length * thickness)
        bright = drops * random.uniform(0.15, 1, size)
        rain = rain + cv2.filter2D(bright, -1, shape, borderType=cv2.BORDER_REFLECT)
    if layer.blur > 0.3:
        rain = cv2.GaussianBlur(rain, (0, 0), layer.blur)
    return rain.clip(0, 1)


def add_veil(img: np.ndarray, random: Random) -> np.ndarray:
    """Rain too far away to be seen as drops, which makes a picture paler, unevenly.

    Args:
        img: (H, W, 3) float64, levels.
        random: draws how much (5 to 30 %) and how bright (150 to 230 levels).
    """
    height, width = img.shape[:2]
    clouds: np.ndarray = random.uniform(0.4, 1, (4, 4))
    clouds = cv2.resize(clouds, (width, height), interpolation=cv2.INTER_CUBIC)
    veil = (random.uniform(0.05, 0.3) * clouds.clip(0, 1))[..., None]
    return img * (1 - veil) + random.uniform(150, 230) * veil


def add_rain(img: np.ndarray, random: Random, kind: str) -> np.ndarray:
    """Rain on a photograph.

    Args:
        img: (H, W, 3) uint8.
        random: where all numbers come from.
        kind: of :data:`KINDS`.

    Returns:
        (H, W, 3) uint8.
    """
    rained = img.astype(np.float64)
    if kind == "heavy" and random.random_sample() < 0.3:
        rained = add_veil(rained, random)
    for layer in draw_layers(kind, random):
        rain = layer.brightness * fall(layer, img.shape[:2], random)[..., None]
        if random.random_sample() < 0.3:  # bright places gain less, as in programs that draw rain
            rain = rain * (1 - rained / 255).clip(0, 1)
        rained = rained + rain
    return rained.round().clip(0, 255).astype(np.uint8)


def render(img: np.ndarray, name: str, shares: Sequence[float]) -> list[np.ndarray]:
    """A photograph with rain, and as it is.

    Args:
        img: (H, W, 3) uint8.
        name: of the photograph; the rain follows from it.
        shares: how often each of :data:`KINDS` falls.
    """
    random = Random(crc32(name.encode()))
    kind = KINDS[int(np.searchsorted(np.cumsum(shares) / sum(shares), random.random_sample()))]
    return [add_rain(img, random, kind), img]


def main(argv: Sequence[str] | None = None) -> None:
    """List, draw, write."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photographs", type=Path, help="folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for lq and gt")
    parser.add_argument(
        "--shares",
        type=float,
        nargs=3,
        default=(0.55, 0.15, 0.3),
        metavar=("LIGHT", "DENSE", "HEAVY"),
        help="how often each kind of rain falls (default: 0.55 0.15 0.3)",
    )
    args = parser.parse_args(argv)
    if min(args.shares) < 0 or sum(args.shares) <= 0:
        parser.error("--shares: must be at least 0, and one of them above 0")
    jobs = []
    for path in list_images(args.photographs):
        size = image_size(path)
        targets = {args.output / side / f"{path.stem}.png": size for side in ("lq", "gt")}
        draw = partial(render, name=path.stem, shares=args.shares)
        jobs.append(Job(path, size, targets, draw, partial(read_image, color=True)))
    run_jobs(jobs, "rain")


if __name__ == "__main__":
    main()
