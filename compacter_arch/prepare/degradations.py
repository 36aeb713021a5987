"""Rain and darkness for the demo's photographs: simple models, no match for real ones."""

from __future__ import annotations

import cv2
import numpy as np


def add_rain(img: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """Bright parallel streaks, added.

    Args:
        img: (H, W, 3) uint8.
        random: draws length (9 to 21 pixels), slant (up to 25 degrees from upright) and places.
    """
    length, slant = random.randint(9, 22), np.deg2rad(random.uniform(-25, 25))
    reach = int(length // 2)
    tip = (round(reach * np.sin(slant)), round(reach * np.cos(slant)))
    streak = np.zeros((2 * reach + 1, 2 * reach + 1), np.uint8)
    cv2.line(streak, (reach - tip[0], reach - tip[1]), (reach + tip[0], reach + tip[1]), 255)
    drops = (random.uniform(size=img.shape[:2]) < 0.006) * random.uniform(30, 110, img.shape[:2])
    rain = cv2.filter2D(drops, -1, streak / 255, borderType=cv2.BORDER_REFLECT)
    return (img + rain[..., None]).round().clip(0, 255).astype(np.uint8)


def darken(img: np.ndarray, random: np.random.RandomState) -> np.ndarray:
    """A short exposure: a third of the light or less, a steeper curve, the noise of the sensor.

    Args:
        img: (H, W, 3) uint8.
        random: draws exposure (0.15 to 0.35) and noise (standard deviation 3 levels).
    """
    dark = random.uniform(0.15, 0.35) * (img / 255.0) ** 1.4
    return (255 * dark + random.normal(0, 3, img.shape)).round().clip(0, 255).astype(np.uint8)
