"""Visual comparisons: the protocol's images and scores, pixels of the crop enlarged and no more."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from compacter_arch.archs import CompacterArch
from compacter_arch.errors import UserError
from compacter_arch.prepare import make_benchmark
from compacter_arch.tables import Model, build_table, protocols
from compacter_arch.tables.figure import (
    Panel,
    as_test_set,
    choose_crop,
    choose_image,
    compare_image,
    draw_comparison,
)

from ..conftest import Project


def tiny(scale: int, in_chans: int = 3) -> Model:
    torch.manual_seed(0)
    network = CompacterArch(
        upscale=scale, in_chans=in_chans, dim=12, num_blocks=1, num_heads=3, window_size=4
    )
    return Model("mine", network.eval(), "mine.pth", scale, in_chans)


@pytest.fixture
def tree(project: Project) -> Project:
    """One image of 49 x 49 pixels in the layout of Set5."""
    project.make_pairs("hr", count=1, size=49)
    make_benchmark(Path("hr/GT"), "Set5")
    return project


@pytest.mark.parametrize(("task", "level", "chans"), [("sr", 2, 3), ("color_dn", 25, 3), ("jpeg", 10, 1)])  # fmt: skip # noqa: E501
def test_scores_are_those_of_the_table(tree: Project, task: str, level: int, chans: int):
    scales, levels = ([level], []) if task == "sr" else ([], [level])
    (protocol,) = protocols(task, scales, levels, ["Set5"])
    model = tiny(protocol.scale, chans)
    gt, baseline, mine = compare_image(protocol, "Set5", "0000", [model])
    rows = build_table(protocol, [model], rounds=0).rows[-2:]
    assert (gt.label, mine.label, gt.scores) == ("GT", "mine", {})
    assert baseline.label == {"sr": "Bicubic", "color_dn": "Noisy", "jpeg": "JPEG"}[task]
    for panel, row in zip((baseline, mine), rows, strict=True):
        assert panel.scores == pytest.approx(row.scores["Set5"])
        assert panel.image.shape == gt.image.shape and panel.image.dtype == np.uint8
    if chans == 3:
        side = 48 if task == "sr" else 49
        np.testing.assert_array_equal(gt.image, cv2.imread("hr/GT/0000.png")[:side, :side])


def test_an_image_of_ones_own_is_degraded_like_a_test_set(tree: Project):
    (protocol,) = protocols("sr", [3], sets=["Set5"])
    known = compare_image(protocol, "Set5", "0000", [tiny(3)])
    with as_test_set(protocol, Path("hr/GT/0000.png")) as own:
        mine = compare_image(own, "0000", "0000", [tiny(3)])
    for a, b in zip(known, mine, strict=True):
        np.testing.assert_array_equal(a.image, b.image)
        assert a.scores == b.scores
    (derain,) = protocols("derain")
    with pytest.raises(UserError, match="give SET/IMAGE"), as_test_set(derain, Path("hr/GT/0000.png")):  # fmt: skip # noqa: E501
        pass


def test_what_is_not_there_is_named(tree: Project):
    (protocol,) = protocols("sr", [2], sets=["Set5"])
    assert choose_image(protocol, "Set5/0000") == ("Set5", "0000")
    with pytest.raises(UserError, match="Set5: no image '000'.*did you mean '0000'"):
        choose_image(protocol, "Set5/000")
    with pytest.raises(UserError, match="Set5: no image 'bird'; there are 0000"):
        choose_image(protocol, "Set5/bird")
    (absent,) = protocols("sr", [2], sets=["Set99"])
    with pytest.raises(UserError, match="Set99: datasets/Set99/GTmod2 does not exist"):
        choose_image(absent, "Set99/0000")
    with pytest.raises(UserError, match=r"mine.pth: for scale 4 .* x2 needs scale 2"):
        compare_image(protocol, "Set5", "0000", [tiny(4)])


def test_crop_is_inside_or_the_busiest_square():
    image = np.zeros((300, 200, 3), np.uint8)
    image[150:250, 90:190] = np.random.default_rng(0).integers(0, 256, (100, 100, 3))
    top, left, height, width = choose_crop(image, None)
    assert (height, width) == (120, 120) and top <= 150 and top + 120 >= 250
    assert 70 <= left <= 80
    assert choose_crop(image[150:200], None) == (0, left, 50, 120)
    assert choose_crop(image, [180, 100, 120, 100]) == (180, 100, 120, 100)
    for crop in ([181, 100, 120, 100], [-1, 0, 5, 5], [0, 0, 0, 5], [0, 150, 5, 51]):
        with pytest.raises(UserError, match="outside of the image of 300 x 200 pixels"):
            choose_crop(image, crop)


@pytest.mark.parametrize("count", [1, 2, 4, 7])
@pytest.mark.parametrize("gray", [False, True])
def test_crops_are_enlarged_by_whole_factors_in_an_even_grid(
    tmp_path: Path, count: int, gray: bool
):
    """Every panel's crop is found in the PNG, pixel by pixel, at equal distances."""
    generator = np.random.default_rng(0)
    shape = (60, 80) if gray else (60, 80, 3)
    panels = []
    for number in range(count):
        image = generator.integers(100, 250, shape, dtype=np.uint8)
        image[10, 20] = number + 1  # of the crop's first pixel alone
        panels.append(Panel(f"m{number}", image, {"psnr": 20.0 + number}))
    draw_comparison(panels, "title", (10, 20, 12, 16), tmp_path / "c.png", width=5)
    sheet = cv2.imread(str(tmp_path / "c.png"))
    first_gap = int((sheet == 255).all(axis=(0, 2)).argmax())
    corners, zooms = [], set()
    for number, panel in enumerate(panels):
        crop = panel.image[10:22, 20:36]
        crop = cv2.cvtColor(crop, cv2.COLOR_GRAY2BGR) if gray else crop
        mask = (sheet[:, first_gap:] == number + 1).all(axis=2).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((5, 5)))  # without edges of letters
        found = np.argwhere(mask)
        top, left = map(int, found.min(axis=0) + (0, first_gap))
        zoom = int(np.sqrt(len(found)))
        large = crop.repeat(zoom, 0).repeat(zoom, 1)
        np.testing.assert_array_equal(
            sheet[top : top + 12 * zoom, left : left + 16 * zoom], large, panel.label
        )
        zooms.add(zoom)
        corners.append((top, left))
    assert len(zooms) == 1
    rows, columns = (np.unique([c[axis] for c in corners]) for axis in (0, 1))
    assert len(rows) == (1 if count <= 3 else 2) and len(columns) == -(-count // len(rows))
    assert len(set(np.diff(columns))) <= 1
    assert columns[-1] + 16 * zooms.pop() == sheet.shape[1]


@pytest.mark.parametrize("suffix", [".pdf", ".svg"])
def test_other_formats_and_long_names(tmp_path: Path, suffix: str):
    image = np.zeros((60, 80, 3), np.uint8)
    panels = [Panel("a very long name " * 3, image, {"psnr": 20.0, "ssim": 0.5})] * 3
    draw_comparison(panels, "title", (0, 0, 20, 20), tmp_path / f"c{suffix}", width=3.3)
    assert (tmp_path / f"c{suffix}").stat().st_size > 1000
    with pytest.raises(UserError, match="do not fit into 1.0 inches"):
        draw_comparison(panels * 9, "title", (0, 0, 20, 20), tmp_path / "c.pdf", width=1.0)
