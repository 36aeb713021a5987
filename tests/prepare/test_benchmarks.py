"""Test sets land in the folders of the option files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data.transforms import mod_crop

from compacter_arch.errors import UserError
from compacter_arch.prepare import imresize, make_benchmark

from .tools import random_image, tree


@pytest.fixture
def originals(tmp_path: Path) -> dict[str, np.ndarray]:
    images = {"bridge": random_image(0, (25, 38)), "img_001_HR": random_image(1, (31, 29, 3))}
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "bridge.bmp"), images["bridge"])
    cv2.imwrite(str(tmp_path / "in" / "img_001_HR.png"), images["img_001_HR"])
    return images


def test_folders_and_pixels(tmp_path: Path, originals: dict[str, np.ndarray]) -> None:
    folder = make_benchmark(tmp_path / "in", "Set2", tmp_path / "datasets", scales=(2, 3))
    assert folder == tmp_path / "datasets" / "Set2"
    names = {"GT", "GTmod2", "GTmod3", "LRbicx2", "LRbicx3"}
    assert {path.name for path in folder.iterdir()} == names
    for name, original in originals.items():
        gt = cv2.imread(str(folder / "GT" / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(gt, original)
        colour = cv2.imread(str(folder / "GT" / f"{name}.png"))
        for scale in (2, 3):
            large = cv2.imread(str(folder / f"GTmod{scale}" / f"{name}.png"))
            small = cv2.imread(str(folder / f"LRbicx{scale}" / f"{name}.png"))
            np.testing.assert_array_equal(large, mod_crop(colour, scale))
            np.testing.assert_array_equal(small, imresize(large, 1 / scale))
    whole = tree(folder)
    assert len(whole) == 10
    for name in ("GT/bridge.png", "LRbicx3/img_001_HR.png"):
        (folder / name).unlink()
    make_benchmark(tmp_path / "in", "Set2", tmp_path / "datasets", scales=(2, 3))
    assert tree(folder) == whole


@pytest.mark.usefixtures("originals")
def test_without_scales_gt_alone(tmp_path: Path) -> None:
    folder = make_benchmark(tmp_path / "in", "Kodak", tmp_path, scales=())
    assert sorted(tree(folder)) == ["GT/bridge.png", "GT/img_001_HR.png"]


@pytest.mark.usefixtures("originals")
def test_wrong_inputs(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="scale 1: give integers of at least 2, or none"):
        make_benchmark(tmp_path / "in", "Set2", tmp_path, scales=(2, 1))
    assert not (tmp_path / "Set2").exists()
    folder = make_benchmark(tmp_path / "in", "Set2", tmp_path, scales=())
    with pytest.raises(UserError, match="GT: is the folder to be written; move the images"):
        make_benchmark(folder / "GT", "Set2", tmp_path)
