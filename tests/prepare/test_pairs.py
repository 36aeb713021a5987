"""Pairs are found by what their names do not have in common, and named as BasicSR wants it."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data.data_util import paired_paths_from_folder
from hypothesis import assume, given
from hypothesis import strategies as st

from compacter_arch.errors import UserError
from compacter_arch.prepare import make_pairs
from compacter_arch.prepare.pairs import match

from .tools import random_image, tree


def image(path: Path, seed: int, shape: tuple[int, ...] = (12, 10, 3)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), random_image(seed, shape))


def names(lq: str, gt: str, numbers: list[int]) -> list[tuple[str, str]]:
    return [(lq.format(number), gt.format(number)) for number in numbers]


@pytest.mark.parametrize(
    "pairs",
    [
        names("rain-{:03d}.png", "norain-{:03d}.png", list(range(1, 21))),
        names("low{:05d}.png", "normal{:05d}.png", list(range(690, 790))),
        names("{}.jpg", "{}.jpg", [1, 2, 11, 111, 1111]),
        names("{}_rain.png", "{}_clean.png", [7, 17, 27]),
        names("rain-{}x2.png", "norain-{}.png", [1, 11, 111]),
        names("{}.jpg", "{}.png", [1, 10]),
        names("rain-{:03d}.png", "norain-{:03d}.png", [13]),
        [("a.png", "b.png")],
    ],
    ids=lambda pairs: f"{pairs[0][0]} {pairs[0][1]} {len(pairs)}",
)
def test_names_of_archives(pairs: list[tuple[str, str]]) -> None:
    lq = [Path("lq", name) for name, _ in sorted(pairs, reverse=True)]
    gt = [Path("gt", name) for _, name in sorted(pairs, key=lambda pair: pair[1][::-1])]
    found = [(a.name, b.name) for a, b in match(lq, gt)]
    assert found == sorted(pairs, key=lambda pair: pair[1])


@given(
    rests=st.integers(1, 4).flatmap(
        lambda n: st.sets(st.text("ab01-", min_size=n, max_size=n), min_size=1, max_size=8)
    ),
    ends=st.lists(st.text("ab01-", max_size=3), min_size=4, max_size=4),
)
def test_any_numbers_of_one_length(rests: set[str], ends: list[str]) -> None:
    """Whatever begins and ends the names, unless both sides have the same names by chance."""
    a, b, c, d = ends
    lq = {Path("lq", f"{a}{x}{b}.png"): x for x in rests}
    gt = {Path("gt", f"{c}{x}{d}.png"): x for x in rests}
    assume({path.name for path in lq} != {path.name for path in gt} or (a, b) == (c, d))
    found = match(list(lq), list(gt))
    assert len(found) == len(rests)
    assert all(lq[one] == gt[other] for one, other in found)


@pytest.mark.parametrize(
    ("lq", "gt", "message"),
    [
        (["rain-1", "rain-2"], ["norain-1", "norain-3"], r"lq/rain-2.png: has no partner in gt"),
        (["1", "2", "3"], ["1", "2"], r"lq/3.png: has no partner in gt; rename or remove it"),
        (["1"], ["1", "2", "3"], r"lq/1.png: has no partner in gt \(nor have 3 others\)"),
        (["x1", "x2"], ["y1", "y2", "y4"], r"gt/y4.png: has no partner in lq"),
    ],
)
def test_an_image_without_a_partner_is_named(lq: list[str], gt: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        match([Path("lq", f"{x}.png") for x in lq], [Path("gt", f"{x}.png") for x in gt])


def test_files_become_links_with_the_names_of_gt(tmp_path: Path) -> None:
    for number in (9, 10):
        image(tmp_path / "in" / f"rain-{number:03d}.PNG", number)
        image(tmp_path / "target" / f"norain-{number:03d}.png", -number + 50)
    out = tmp_path / "out"
    assert make_pairs(tmp_path / "in", tmp_path / "target", out) == 2
    for number in (9, 10):
        name = f"norain-{number:03d}.png"
        assert os.path.samefile(out / "lq" / name, tmp_path / "in" / f"rain-{number:03d}.PNG")
        assert os.path.samefile(out / "gt" / name, tmp_path / "target" / name)
    pairs = paired_paths_from_folder([str(out / "lq"), str(out / "gt")], ["lq", "gt"], "{}")
    assert len(pairs) == 2
    whole = tree(out)
    (out / "lq" / "norain-009.png").unlink()
    (out / "gt" / f".norain-010.png.{2**22 + 1}.tmp").write_bytes(b"half")
    assert make_pairs(tmp_path / "in", tmp_path / "target", out) == 2
    assert tree(out) == whole


def test_other_formats_become_png_where_they_differ(tmp_path: Path) -> None:
    for name in ("in/1.jpg", "target/1.png", "in/2.bmp", "target/2.jpg", "in/3.jpg"):
        image(tmp_path / name, 1)
    image(tmp_path / "target" / "3.jpeg", 2)
    out = tmp_path / "out"
    make_pairs(tmp_path / "in", tmp_path / "target", out)
    assert sorted(tree(out)) == [f"{half}/{n}" for half in ("gt", "lq") for n in PAIRED]
    for half, source in (("lq/1.png", "in/1.jpg"), ("gt/2.png", "target/2.jpg")):
        assert (out / half).read_bytes()[1:4] == b"PNG"
        pixels = cv2.imread(str(tmp_path / source))
        np.testing.assert_array_equal(cv2.imread(str(out / half)), pixels)
    assert os.path.samefile(out / "gt" / "1.png", tmp_path / "target" / "1.png")
    assert os.path.samefile(out / "gt" / "3.jpg", tmp_path / "target" / "3.jpeg")


PAIRED = ["1.png", "2.png", "3.jpg"]


def test_copies_on_another_disk_are_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from compacter_arch.prepare import pairs

    class Elsewhere:
        def stat(self) -> object:
            return type("stat", (), {"st_dev": -1})

    def refuse(*_: object) -> None:
        raise OSError("another disk")

    monkeypatch.setattr(pairs, "existing", lambda _: Elsewhere())
    monkeypatch.setattr("os.link", refuse)
    for side in ("in", "target"):
        image(tmp_path / side / "1.png", 1)
    make_pairs(tmp_path / "in", tmp_path / "target", tmp_path / "out")
    size = (tmp_path / "in" / "1.png").stat().st_size
    assert f"about {2 * size} bytes to write" in capsys.readouterr().err
    assert not os.path.samefile(tmp_path / "in" / "1.png", tmp_path / "out" / "lq" / "1.png")


def test_wrong_inputs(tmp_path: Path) -> None:
    lq, gt = tmp_path / "out" / "lq", tmp_path / "target"
    image(lq / "1.png", 1)
    image(gt / "1.png", 1, (12, 11, 3))
    with pytest.raises(UserError, match="lq and gt below it are to be written"):
        make_pairs(lq, gt, tmp_path / "out")
    with pytest.raises(UserError, match=r"lq/1\.png: 10 x 12, but its GT .*1\.png has 11 x 12"):
        make_pairs(lq, gt, tmp_path / "new")
    image(gt / "1.png", 1)
    image(tmp_path / "new" / "gt" / "1.png", 1, (9, 9))
    with pytest.raises(UserError, match=r"gt/1\.png: exists with 9 x 9 pixels"):
        make_pairs(lq, gt, tmp_path / "new")
    (gt / "1.png").write_bytes(b"no image")
    with pytest.raises(UserError, match=r"target/1\.png is not an image"):
        make_pairs(lq, gt, tmp_path / "third")
