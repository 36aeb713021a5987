"""Writes pairs for deraining: photographs, and the same with synthetic rain.

python experiments/rain.py datasets/mix/GT -o datasets/SyntheticRain

Bright streaks of one direction, short or long, thin or thick, sparse or dense, where few pairs of
Rain13K are at hand.
"""

from __future__ import annotations

import argparse
from functools import partial
from pathlib import Path
from zlib import crc32

import cv2
import numpy as np

from compacter_arch.prepare.files import image_size, list_images, read_image
from compacter_arch.prepare.jobs import Job, run_jobs


def add_streaks(img: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Rain on an image.

    Args:
        img: (H, W, 3) uint8.
        random: draws length (10 to 60 pixels), slant (up to 45 degrees, mostly less), thickness,
            the part of the image that is covered (1 to 25 %) and brightness (50 to 220 levels).
    """
    length, slant = random.randint(10, 61), np.deg2rad(np.clip(random.normal(0, 20), -45, 45))
    center, thickness = length // 2 + 3, random.uniform(0.6, 1.6)
    offset = np.mgrid[-center : center + 1, -center : center + 1]
    along = offset[0] * np.cos(slant) + offset[1] * np.sin(slant)
    across = offset[1] * np.cos(slant) - offset[0] * np.sin(slant)
    streak = np.exp(-((across / thickness) ** 2) - (2 * along / length) ** 4)

    covered, brightness = random.uniform(0.1, 0.5) ** 2, random.uniform(50, 220)
    falls = random.uniform(size=img.shape[:2]) < covered / (2 * length * thickness)
    drops = falls * random.uniform(0.2, 1, falls.shape)
    rain = cv2.filter2D(drops, -1, streak, borderType=cv2.BORDER_REFLECT).clip(0, 1)
    rained = img + brightness * rain[..., None]
    return rained.round().clip(0, 255).astype(np.uint8)


def main() -> None:
    """List, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", type=Path, help="folder")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for lq and gt")
    args = parser.parse_args()
    jobs = []
    for path in list_images(args.photographs):
        size, random = image_size(path), np.random.RandomState(crc32(path.stem.encode()))
        targets = {args.output / side / f"{path.stem}.png": size for side in ("lq", "gt")}
        read = partial(read_image, color=True)
        jobs.append(Job(path, size, targets, lambda x, r=random: [add_streaks(x, r), x], read))
    run_jobs(jobs, "rain")


if __name__ == "__main__":
    main()
