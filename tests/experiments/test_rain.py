"""Synthetic rain: it brightens, each kind in its way, and follows from the name."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import rain
from rain import KINDS, Layer, add_rain, fall

GRAY = np.full((200, 300, 3), 90, np.uint8)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds(kind: str):
    """A fair part of a dark picture becomes brighter, nothing darker, all channels alike."""
    covered = []
    for seed in range(8):
        rained = add_rain(GRAY, np.random.RandomState(seed), kind)
        assert rained.dtype == np.uint8 and rained.shape == GRAY.shape
        assert (rained >= GRAY).all() and np.ptp(rained, axis=2).max() == 0
        covered.append(float((rained[..., 0] > 100).mean()))
        assert np.array_equal(rained, add_rain(GRAY, np.random.RandomState(seed), kind))
    lowest, highest = {"light": (0.01, 0.3), "dense": (0.03, 0.5), "heavy": (0.1, 0.9)}[kind]
    assert lowest < np.mean(covered) < highest


def test_streaks_lie_in_their_direction():
    """The picture of a layer changes least along its streaks."""
    layer = Layer(slant=np.deg2rad(20), length=60, thickness=1, covered=0.1, brightness=1, blur=0)
    drawn = fall(layer, (400, 400), np.random.RandomState(0))
    changes = {}
    for degrees in (-20, 0, 20, 40):
        down, right = 12 * np.cos(np.deg2rad(degrees)), 12 * np.sin(np.deg2rad(degrees))
        moved = np.roll(drawn, (round(down), round(right)), (0, 1))
        changes[degrees] = np.abs(moved - drawn).mean()
    assert min(changes, key=lambda degrees: changes[degrees]) == 20
    assert drawn.min() >= 0 and drawn.max() <= 1


def test_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("photographs").mkdir()
    for name in ("a", "b"):
        cv2.imwrite(f"photographs/{name}.png", GRAY)
    rain.main(["photographs", "-o", "pairs", "--shares", "0", "0", "1"])
    pairs = {side: cv2.imread(f"pairs/{side}/a.png") for side in ("lq", "gt")}
    assert np.array_equal(pairs["gt"], GRAY) and (pairs["lq"] > GRAY).mean() > 0.1
    assert not np.array_equal(pairs["lq"], cv2.imread("pairs/lq/b.png"))
    with pytest.raises(SystemExit):
        rain.main(["photographs", "-o", "pairs", "--shares", "0", "0", "0"])
