"""A prepared data set is looked through, and everything that is wrong with it is named."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest

from compacter_arch.errors import UserError
from compacter_arch.prepare import make_lmdb, make_lr, make_subimages, verify
from compacter_arch.prepare.files import write_png
from compacter_arch.training.checks.lmdb_files import REMEDY

from .tools import smooth_image


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four pairs at x2 in HR and LR."""
    for number in range(4):
        write_png(tmp_path / "HR" / f"{number}.png", smooth_image(number, 72, 96))
    make_lr(tmp_path / "HR", tmp_path / "LR", 2)
    return tmp_path


def problems(root: Path, **arguments: object) -> list[str]:
    return verify(root / "HR", lq=root / "LR", scale=2, **arguments).problems


def test_a_good_set(data: Path) -> None:
    hr, lr = data / "HR", data / "LR"
    report = verify(hr, lq=lr, scale=2, count=4)
    assert report.problems == []
    assert report.summary == (
        f"{hr}: 4 images, 4 of them in pairs with {lr} at x2; "
        "MATLAB's bicubic bit for bit: 4; no problems"
    )
    assert verify(hr, count=4).summary == f"{hr}: 4 images; no problems"


def test_lmdbs_and_sub_images(data: Path) -> None:
    make_subimages(data / "HR", data / "HR_sub", crop_size=48, step=24)
    make_subimages(data / "LR", data / "LR_sub", crop_size=48, step=24, scale=2)
    for name in ("HR_sub", "LR_sub"):
        make_lmdb(data / name, data / f"{name}.lmdb")
    for suffix in ("", ".lmdb"):
        report = verify(data / f"HR_sub{suffix}", lq=data / f"LR_sub{suffix}", scale=2, count=24)
        assert report.problems == []
        assert "bit for bit: 0, and 24 but for borders, as of sub-images" in report.summary


def test_other_lr_images_are_counted_apart(data: Path) -> None:
    """One grey level in one pixel: no longer MATLAB's, but no problem."""
    img = cv2.imread(str(data / "LR" / "2.png"))
    img[20, 20, 0] ^= 1
    write_png(data / "LR" / "2.png", img)
    report = verify(data / "HR", lq=data / "LR", scale=2)
    assert report.problems == [] and "bit for bit: 3;" in report.summary


def test_images_that_do_not_fit(data: Path) -> None:
    lr = data / "LR"
    write_png(lr / "2.png", smooth_image(2, 36, 47))
    assert problems(data) == [f"{lr / '2.png'}: 47 x 36 pixels do not fit 96 x 72 of GT at x2"]
    assert verify(data / "HR", lq=lr, scale=2).summary.endswith("; problems: 1")
    assert verify(data / "HR", lq=data / "LR", scale=1).problems[0].endswith("of GT at x1")


def test_misaligned_pairs(tmp_path: Path) -> None:
    """A shift, however large, mirrored images and those of another pair are told by name."""
    hr, lr = tmp_path / "HR", tmp_path / "LR"
    for number in range(6):
        write_png(hr / f"{number}.png", smooth_image(number, 120, 144))
    make_lr(hr, lr, 2)
    shutil.copy(lr / "0.png", lr / "4.png")
    for number, change in enumerate(
        (
            lambda img: np.roll(img, 24, 1),
            lambda img: np.roll(img, 1, 0),
            lambda img: img[:, ::-1],
            lambda img: img[::-1, ::-1],
        )
    ):
        folder = hr if number == 0 else lr
        img = cv2.imread(str(folder / f"{number}.png"))
        write_png(folder / f"{number}.png", np.ascontiguousarray(change(img)))
    assert problems(tmp_path) == [
        f"{lr / '0.png'}: LQ does not resemble its GT",
        f"{lr / '1.png'}: LQ is GT shifted by (1, 0) pixels (down, right)",
        f"{lr / '2.png'}: LQ is GT mirrored",
        f"{lr / '3.png'}: LQ is GT turned by 180 degrees",
        f"{lr / '4.png'}: LQ does not resemble its GT",
    ]


def test_missing_images(data: Path) -> None:
    (data / "LR" / "3.png").unlink()
    (data / "HR" / "0.png").unlink()
    assert problems(data, count=4) == [
        f"{data / 'HR'}: 3 images in place of 4",
        f"{data / 'HR' / '3.png'}: no 3.png in {data / 'LR'}",
        f"{data / 'LR' / '0.png'}: no 0.png in {data / 'HR'}",
    ]


def test_names_differ_in_suffix(data: Path) -> None:
    """BasicSR wants the same name."""
    cv2.imwrite(str(data / "LR" / "0.bmp"), cv2.imread(str(data / "LR" / "0.png")))
    (data / "LR" / "0.png").unlink()
    assert [problem.rpartition("/")[0] for problem in problems(data)] == [
        f"{data / 'HR' / '0.png'}: no 0.png in {data}",
        f"{data / 'LR' / '0.bmp'}: no 0.bmp in {data}",
    ]


def test_damaged_files(data: Path) -> None:
    for number, (start, end) in enumerate(((0, 300), (0, 0), (200, None))):
        path = data / "HR" / f"{number}.png"
        path.write_bytes(path.read_bytes()[start:end])
    path = data / "LR" / "3.png"
    path.write_bytes(path.read_bytes()[:300] + bytes(50) + path.read_bytes()[350:])
    found = problems(data)
    assert len(found) == 4
    for problem, name in zip(found, ("HR/0", "HR/1", "HR/2", "LR/3"), strict=True):
        assert problem.startswith(f"{data}/{name}.png") and problem.endswith("replace or remove it")


def test_damaged_lmdbs(data: Path) -> None:
    out = data / "a.lmdb"
    for damage, message in (
        (lambda value: value[:300], "is truncated"),
        (lambda value: value[:300] + bytes(50) + value[350:], "is damaged"),
        (lambda value: b"text", "is not an image"),
        (lambda value: cv2.imencode(".png", np.zeros((9, 9)))[1].tobytes(), "has another size"),
    ):
        make_lmdb(data / "HR", out)
        with lmdb.open(str(out), map_size=2**24, lock=False) as env, env.begin(write=True) as t:
            t.put(b"2", damage(t.get(b"2")))
        report = verify(out, count=4)
        assert len(report.problems) == 1
        assert report.problems[0].startswith(f"key '2' of {out} {message}")
        shutil.rmtree(out)

    make_lmdb(data / "HR", out)
    with lmdb.open(str(out), map_size=2**24, lock=False) as env, env.begin(write=True) as t:
        t.put(b"x", t.pop(b"2"))
    assert verify(out).problems == [f"key '2' of {out} is in meta_info.txt alone; {REMEDY}"]
    with lmdb.open(str(out), map_size=2**24, lock=False) as env, env.begin(write=True) as t:
        t.delete(b"x")
    with pytest.raises(UserError, match=r"3 images in data\.mdb, 4 in meta_info\.txt"):
        verify(out)
    (out / "data.mdb").write_bytes(b"garbage")
    with pytest.raises(UserError, match=r"a\.lmdb: cannot be read: .*; pack it anew"):
        verify(out)
    (out / "data.mdb").unlink()
    with pytest.raises(UserError, match=r"data\.mdb: missing"):
        verify(out)


def test_wrong_arguments(data: Path) -> None:
    with pytest.raises(UserError, match="scale 0: give an integer"):
        verify(data / "HR", scale=0)
    with pytest.raises(UserError, match="is GT itself"):
        verify(data / "HR", lq=data / "HR")
    with pytest.raises(UserError, match="absent: no such folder"):
        verify(data / "absent")
