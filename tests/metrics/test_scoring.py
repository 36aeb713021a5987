"""What is made beside the network is what would be made after it."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.utils.registry import METRIC_REGISTRY

from compacter_arch.metrics import scoring
from compacter_arch.metrics.scoring import Scoring, score

PSNR = {"type": "calculate_psnr", "crop_border": 0}
DEVICES = ["cpu", "cuda"]  # the images are in main memory; no GPU is needed


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A metric that takes the longer the earlier its image comes, and tells its thread."""

    def metric(img: np.ndarray, img2: np.ndarray) -> tuple[int, int]:
        time.sleep(0.02 / (1 + int(img[0, 0, 0])))
        return int(img[0, 0, 0]), threading.get_ident()

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "slow", metric)
    return {"type": "slow"}


def image(level: int) -> torch.Tensor:
    return torch.full((1, 3, 12, 12), level / 255)


@pytest.mark.parametrize("device", DEVICES)
def test_order_files_and_threads(tmp_path: Path, slow: dict[str, str], device: str):
    with Scoring({"slow": slow, "psnr": PSNR}, device) as made:
        for level in range(20):
            made.add(image(level), image(level + 1), tmp_path / "new" / f"{level}.png")
    results = made.results()
    assert [result["slow"][0] for result in results] == list(range(20))
    assert {result["psnr"] for result in results} == {score(image(0), image(1), {"": PSNR})[1][""]}
    written = [cv2.imread(str(tmp_path / f"new/{level}.png")) for level in range(20)]
    assert [int(pixels.min()) for pixels in written] == list(range(20))
    on_this = [result["slow"][1] == threading.get_ident() for result in results]
    assert all(on_this) if device == "cpu" else not any(on_this)


def test_few_images_wait(monkeypatch: pytest.MonkeyPatch, slow: dict[str, str]):
    """However much faster the network is: else all images of a large set would be in memory."""
    monkeypatch.setattr(scoring, "AHEAD", 3)
    with Scoring({"slow": slow}, "cuda") as made:
        for level in range(12):
            made.add(image(level), image(level))
            assert sum(not job.done() for job in made.jobs) <= 3
    assert len(made.results()) == 12


@pytest.mark.parametrize("device", DEVICES)
def test_errors_are_told(tmp_path: Path, device: str):
    (tmp_path / "file").touch()
    with Scoring({}, device) as made:
        made.add(image(0), file=tmp_path / "file" / "0.png")
    with pytest.raises(OSError):
        made.results()
    with pytest.raises(AssertionError, match="shapes"), Scoring({"psnr": PSNR}, device) as made:
        made.add(image(0), image(0)[..., 1:])
        made.results()


def test_what_waits_is_dropped_when_the_run_stops(slow: dict[str, str]):
    with pytest.raises(KeyboardInterrupt), Scoring({"slow": slow}, "cuda") as made:
        for _ in range(scoring.AHEAD):
            made.add(image(0), image(0))
        raise KeyboardInterrupt
    assert any(job.cancelled() for job in made.jobs)


def test_without_an_original():
    pixels, scores = score(image(7), None, {})
    assert scores == {} and pixels.shape == (12, 12, 3) and (pixels == 7).all()
