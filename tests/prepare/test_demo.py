"""The demo set pairs up and completes itself."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from compacter_arch.errors import UserError
from compacter_arch.prepare import demo as demo_module
from compacter_arch.prepare import imresize, make_demo

from .tools import tree


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"))


def test_demo_pairs_fit(demo: Path) -> None:
    for half in ("train", "val"):
        large = sorted((demo / half / "GT").iterdir())
        small = sorted((demo / half / "LRx2").iterdir())
        assert [path.name for path in large] == [path.name for path in small]
        for gt, lr in zip(large[::9], small[::9], strict=True):
            image = cv2.imread(str(gt))
            assert image.shape[0] % 12 == 0 and image.shape[1] % 12 == 0
            np.testing.assert_array_equal(cv2.imread(str(lr)), imresize(image, 1 / 2))


def test_demo_inputs_are_degraded_and_follow_from_the_name(demo: Path) -> None:
    for half in ("train", "val"):
        for kind, least, most in (("Rain", 17, 30), ("LowLight", 3, 20)):
            for gt in sorted((demo / half / "GT").iterdir())[::29]:
                clean, bad = cv2.imread(str(gt)), cv2.imread(str(demo / half / kind / gt.name))
                assert least < cv2.PSNR(clean, bad) < most
                assert (bad.mean() > clean.mean()) == (kind == "Rain")


def test_demo_halves_share_no_photograph(demo: Path) -> None:
    halves = [
        {path.stem.split("_")[0] for path in (demo / half / "GT").iterdir()}
        for half in ("train", "val")
    ]
    assert halves[0] and halves[1] and not halves[0] & halves[1]


def test_demo_is_repeatable_and_completes_itself(demo: Path, tmp_path: Path) -> None:
    wanted = tree(demo)
    other = make_demo(tmp_path)
    assert tree(other) == wanted
    stamps = {path: path.stat().st_mtime_ns for path in other.rglob("*.png")}
    make_demo(tmp_path)
    assert stamps == {path: path.stat().st_mtime_ns for path in other.rglob("*.png")}
    for path in [*(other / "train" / "LRx2").iterdir()][:5] + [*other.glob("val/GT/*")][:1]:
        path.unlink()
    make_demo(tmp_path)
    assert tree(other) == wanted


def test_demo_without_the_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "TRAIN", ("absent.png",))
    with pytest.raises(UserError, match=r"absent\.png: missing; pip install scikit-image"):
        make_demo(tmp_path)
