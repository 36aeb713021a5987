"""Sub-images lie on BasicSR's grid, HR and LR in step, with their pixels as they were."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.errors import UserError
from compacter_arch.prepare import make_subimages
from compacter_arch.prepare.files import write_png
from compacter_arch.prepare.subimages import grid

from .tools import noise_png, random_image, tree


def slow_starts(length: int, crop_size: int, step: int, thresh_size: int) -> list[int]:
    """Every position tried: multiples of the step that fit, then one that ends at the border."""
    if crop_size > length:
        return [0]
    fitting = [x for x in range(length) if x % step == 0 and x + crop_size <= length]
    left_over = length - (fitting[-1] + crop_size)
    return fitting + [length - crop_size] * (left_over > thresh_size)


@settings(max_examples=300)
@given(
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
    crop_size=st.integers(1, 120),
    step=st.integers(1, 120),
    thresh_size=st.integers(0, 60),
)
def test_grid(size: tuple[int, int], crop_size: int, step: int, thresh_size: int) -> None:
    rows, columns = (slow_starts(length, crop_size, step, thresh_size) for length in size)
    corners = [(box[0].start, box[1].start) for box in grid(size, crop_size, step, thresh_size)]
    assert corners == [(row, column) for row in rows for column in columns]


@settings(max_examples=100)
@given(
    size=st.tuples(st.integers(1, 120), st.integers(1, 120)),
    crop_size=st.integers(1, 60),
    share=st.floats(0.1, 1),
)
def test_grid_reaches_every_pixel(size: tuple[int, int], crop_size: int, share: float) -> None:
    seen = np.zeros(size, bool)
    for box in grid(size, crop_size, max(1, int(crop_size * share)), 0):
        assert seen[box].shape == tuple(min(crop_size, length) for length in size)
        seen[box] = True
    assert seen.all()


@settings(max_examples=200)
@given(
    lr_size=st.tuples(st.integers(1, 80), st.integers(1, 80)),
    crop_size=st.integers(1, 40),
    step=st.integers(1, 40),
    thresh_size=st.integers(0, 20),
    scale=st.integers(2, 4),
)
def test_grids_of_hr_and_lr_fit(
    lr_size: tuple[int, int], crop_size: int, step: int, thresh_size: int, scale: int
) -> None:
    """Where the sides of HR are multiples of the scale."""
    small = grid(lr_size, crop_size, step, thresh_size)
    hr_size = lr_size[0] * scale, lr_size[1] * scale
    large = grid(hr_size, crop_size * scale, step * scale, thresh_size * scale)
    corners = [(row.start * scale, column.start * scale) for row, column in small]
    assert [(row.start, column.start) for row, column in large] == corners


def test_pixels_and_names(tmp_path: Path) -> None:
    colour, gray, small = (random_image(0, s) for s in ((50, 70, 3), (40, 40), (30, 90, 4)))
    for name, img in (("colour", colour), ("gray", gray), ("small", small)):
        write_png(tmp_path / "in" / f"{name}.png", img)
    out = tmp_path / "out"
    assert make_subimages(tmp_path / "in", out, crop_size=40, step=25) == 3
    expected = {
        "colour_s001": colour[:40, :40],
        "colour_s002": colour[:40, 25:65],
        "colour_s003": colour[:40, 30:70],
        "colour_s004": colour[10:, :40],
        "colour_s005": colour[10:, 25:65],
        "colour_s006": colour[10:, 30:70],
        "gray_s001": gray,
        "small_s001": small[:, :40],
        "small_s002": small[:, 25:65],
        "small_s003": small[:, 50:90],
    }
    assert {path.stem for path in out.iterdir()} == set(expected)
    for name, img in expected.items():
        ours = cv2.imread(str(out / f"{name}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(ours, img, err_msg=name)
    whole = tree(out)
    assert make_subimages(tmp_path / "in", out, crop_size=40, step=25) == 0
    (out / "colour_s004.png").unlink()
    assert make_subimages(tmp_path / "in", out, crop_size=40, step=25) == 1
    assert tree(out) == whole


def test_lr_has_the_names_of_hr(tmp_path: Path) -> None:
    for name in ("0001", "0002"):
        noise_png(tmp_path / "HR" / f"{name}.png", 72, 96)
        noise_png(tmp_path / "X2" / f"{name}x2.png", 36, 48)
        noise_png(tmp_path / "ours" / f"{name}.png", 36, 48)
    noise_png(tmp_path / "ours" / "box2.png", 36, 48)
    for name, scale in (("HR", 1), ("X2", 2), ("ours", 2)):
        out = tmp_path / f"{name}_sub"
        make_subimages(tmp_path / name, out, crop_size=48, step=24, scale=scale)
    names = {path.name for path in (tmp_path / "HR_sub").iterdir()}
    assert len(names) == 12
    assert {path.name for path in (tmp_path / "X2_sub").iterdir()} == names
    ours = {path.name for path in (tmp_path / "ours_sub").iterdir()}
    assert ours - names == {f"box2_s{number:03d}.png" for number in range(1, 7)}
    assert cv2.imread(str(tmp_path / "X2_sub" / "0001_s006.png")).shape == (24, 24, 3)


def test_wrong_arguments(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    noise_png(folder / "a.png", 50, 50)
    for key, value, scale in (
        ("crop_size", 0, 1),
        ("step", -1, 1),
        ("thresh_size", -1, 1),
        ("step", 101, 2),
        ("crop_size", 100, 3),
    ):
        with pytest.raises(UserError, match=f"{key} {value}: give a"):
            make_subimages(folder, out, scale=scale, **{key: value})
    with pytest.raises(UserError, match="scale 0: give an integer of at least 1"):
        make_subimages(folder, out, scale=0)
    with pytest.raises(UserError, match="need a folder of their own"):
        make_subimages(folder, folder)
    make_subimages(folder, out, crop_size=40, step=20)
    with pytest.raises(UserError, match=r"a_s001\.png: exists with 40 x 40 pixels"):
        make_subimages(folder, out, crop_size=30, step=15)
    assert not list(tmp_path.glob("out/.*"))
