"""Whether the two images of a pair show the same, at the same place, found by correlation."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

SIDE = 256  # pixels of LQ; the middle is looked at
SMALLEST = 48  # pixels; what is smaller tells nothing for sure
REACH = 16  # pixels; how far LQ may be shifted to be recognised
FINE, COARSE = (1.0, 3.0), (2.0, 8.0)  # what is compared: details between two Gaussian blurs
SURE = 0.9  # a correlation beyond which LQ is not turned
FAINT, PLAIN = 0.5, 3.0  # grey levels of detail: too little for anything; enough beside damage
TURNS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "mirrored": lambda image: image[:, ::-1],
    "turned upside down and mirrored": lambda image: image[::-1],
    "turned by 180 degrees": lambda image: image[::-1, ::-1],
    "turned by 90 degrees": lambda image: np.rot90(image, 3),
    "turned by 270 degrees": lambda image: np.rot90(image),
    "turned by 90 degrees and mirrored": lambda image: np.rot90(image, 3)[:, ::-1],
    "turned by 270 degrees and mirrored": lambda image: np.rot90(image)[:, ::-1],
}  # clockwise


class Match(NamedTuple):
    """How two images correlate, each from -1 to 1."""

    here: float
    best: float
    shift: tuple[int, int]  # rows and columns, pixels, where the best is
    at_edge: bool  # the best lies at the end of what was looked at, and may not be the best


def misalignment(gt: np.ndarray, lq: np.ndarray, scale: int) -> str | None:
    """What LQ is of GT in place of its degraded copy, such as ``LQ is GT mirrored``; None if it is.

    Another place has to explain LQ clearly better than its own: what only hides or weakens details
    (noise of sigma 50, JPEG of quality 10, rain, darkness, any way of resizing) is no reason. Of
    5,500 such pairs of 48 to 200 pixels, cut anywhere out of photographs, it named none.

    Args:
        gt: (H, W, 3) ``uint8``.
        lq: (h, w, 3) ``uint8``; GT is at least ``scale`` times as large.
        scale: of GT to LQ.
    """
    rows, columns = (middle(length, SIDE) for length in lq.shape[:2])
    lq = lq[slice(*rows), slice(*columns)]
    gt = gt[slice(*(scale * end for end in rows)), slice(*(scale * end for end in columns))]
    if scale > 1:
        gt = cv2.resize(gt, lq.shape[1::-1], interpolation=cv2.INTER_AREA)
    if min(lq.shape[:2]) < SMALLEST:
        return None
    large, small = details(gt, FINE), details(lq, FINE)
    if min(large.std(), small.std()) < FAINT:
        return None
    matches = {"": correlate(large, small)}
    if matches[""].best < SURE:
        turned = {name: np.ascontiguousarray(turn(large)) for name, turn in TURNS.items()}
        matches |= {
            name: correlate(image, small)
            for name, image in turned.items()
            if image.shape == small.shape
        }
    name = max(matches, key=lambda name: matches[name].best)
    here, match = matches[""].here, matches[name]
    shift = f"shifted by {match.shift} pixels (down, right)" if match.shift != (0, 0) else ""
    clear = is_clear(here, match.best, small.size, plain=large.std() > PLAIN)
    if (name or shift) and clear and not match.at_edge:
        return "LQ is GT " + " and ".join(filter(None, (name, shift)))
    if unlike(large, small) and unlike(details(gt, COARSE), details(lq, COARSE)):
        return "LQ does not resemble its GT"
    return None


def is_clear(here: float, best: float, pixels: int, plain: bool) -> bool:
    """Whether the best correlation is so much better that it is no accident.

    Args:
        here, best: the correlations.
        pixels: how many were compared.
        plain: there is enough to see that damage does not hide it all.
    """
    much = plain and best > 0.6 and best - here > 0.04 + 5 / pixels**0.5
    # Between clean images, a pixel changes little, but leaves nothing unexplained.
    return much or (best > SURE and best - here > 0.005 and 1 - best < (1 - here) / 4)


def unlike(gt: np.ndarray, lq: np.ndarray) -> bool:
    """Whether details of LQ are not those of GT, were LQ nothing but GT and an addition to it."""
    seen, shown = gt.std(), lq.std()
    if shown < FAINT or seen < PLAIN:
        return False
    # The correlation that an addition leaves, less four times by what it varies by accident.
    left = min(1, seen / shown)
    return correlate(gt, lq).here < min(0.35 * left, left - 25 / gt.size**0.5)


def correlate(gt: np.ndarray, lq: np.ndarray) -> Match:
    """The correlation of LQ's middle with GT at all places in reach."""
    reach = min(REACH, min(lq.shape) // 6)
    values = cv2.matchTemplate(gt, lq[reach:-reach, reach:-reach], cv2.TM_CCOEFF_NORMED)
    row, column = np.unravel_index(values.argmax(), values.shape)
    shift = reach - int(row), reach - int(column)
    at_edge = max(map(abs, shift)) == reach
    return Match(float(values[reach, reach]), float(values.max()), shift, at_edge)


def details(image: np.ndarray, band: tuple[float, float]) -> np.ndarray:
    """(H, W, 3) ``uint8`` -> (H, W) ``float32``: its gray between two blurs, sigma in pixels."""
    gray = image.mean(axis=2, dtype=np.float32)
    fine, coarse = (cv2.GaussianBlur(gray, (0, 0), sigma) for sigma in band)
    return fine - coarse


def middle(length: int, most: int) -> tuple[int, int]:
    """Where the middle of a side begins and ends, at most ``most`` pixels."""
    taken = min(length, most)
    start = (length - taken) // 2
    return start, start + taken
