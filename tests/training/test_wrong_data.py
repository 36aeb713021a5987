"""Image data that is wrong, or not what it seems: the checks name it before anything runs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
import yaml
from PIL import Image

from compacter_arch.prepare import make_raw
from compacter_arch.prepare.files import write_png

from ..conftest import Project
from ..prepare.images import CLAIMS
from .refusals import refused

GT, LR = "data/train/GT", "data/train/LR"
LIST = {"datasets.train.meta_info_file": "list.txt"}
LMDBS = {
    "datasets.train.io_backend": {"type": "lmdb"},
    "datasets.train.dataroot_gt": "GT.lmdb",
    "datasets.train.dataroot_lq": "LR.lmdb",
}
STORES = {
    "datasets.train.type": "RawPairedImageDataset",
    "datasets.train.io_backend": {"type": "raw"},
    "datasets.train.dataroot_gt": "GT.raw",
    "datasets.train.dataroot_lq": "LR.raw",
}


def warnings(project: Project, file: str) -> list[str]:
    """What a check that ends well warns of."""
    result = project.run("check", "-opt", file)
    assert result.status == 0, result.err
    return [line.removeprefix(f"{file}: warning: ") for line in result.err.splitlines()]


# --------------------------------------------------------------------------------------------------
# Files
# --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("suffix", CLAIMS)
def test_claims_of_gigabytes(project: Project, suffix: str) -> None:
    """Of 60000 x 60000 pixels: nothing is decoded, no memory taken."""
    for folder in (GT, LR):
        path = project.root / folder / f"0001{suffix}"
        path.with_suffix(".png").unlink()
        path.write_bytes(CLAIMS[suffix](60_000, 60_000))
    line = refused(project, project.write())
    assert f"{GT}/0001{suffix} cannot be read: Image size" in line and "exceeds limit" in line


ODD_ENTRIES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (os.mkfifo, "is no file, but a pipe or a device; remove it"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is no file, but a pipe or a device"),
    "link to nothing": (lambda path: path.symlink_to("absent"), "is a link to nothing; remove it"),
    "folder": (lambda path: path.mkdir(), "is a folder; remove it"),
}


@pytest.mark.skipif(os.name != "posix", reason="pipes and devices")
@pytest.mark.parametrize("kind", ODD_ENTRIES)
def test_no_file_of_an_image(project: Project, kind: str) -> None:
    """BasicSR would leave it out without a word."""
    make, reason = ODD_ENTRIES[kind]
    make(project.root / GT / "x.png")
    line = project.run("check", "-opt", project.write()).err
    assert f"datasets.train.dataroot_gt: {GT}/x.png: {reason}" in line
    assert len(line.splitlines()) == 1


@pytest.mark.skipif(os.name != "posix", reason="pipes and loops")
def test_a_list_that_names_a_pipe(project: Project) -> None:
    """To open it would be to wait for ever."""
    os.mkfifo(project.root / "data/train/pipe")
    (project.root / GT / "sub").symlink_to("..")
    (project.root / "list.txt").write_text("0000.png\nsub/pipe\n")
    line = project.run("check", "-opt", project.write(LIST)).err
    assert f"{GT}/sub/pipe is a pipe or a device" in line


@pytest.mark.skipif(os.name != "posix", reason="loops")
def test_a_link_to_itself(project: Project) -> None:
    (project.root / GT / "x.png").symlink_to("x.png")
    line = project.run("check", "-opt", project.write()).err
    assert f"{GT}/x.png" in line and len(line.splitlines()) == 1


def test_numbers_that_are_no_bytes(project: Project) -> None:
    for folder, side in ((GT, 32), (LR, 16)):
        image = np.full((side, side), np.nan, np.float32)
        Image.fromarray(image).save(project.root / folder / "9.tif")
    assert f"{GT}/9.tif: F is no image of 8 bits" in refused(project, project.write())


# --------------------------------------------------------------------------------------------------
# Lists
# --------------------------------------------------------------------------------------------------
LISTS: dict[str, tuple[bytes, str]] = {
    "blank line": (b"0000.png\n\n0001.png\n", ", line 2: is blank; remove it"),
    "absolute": (b"0000.png\n/etc/passwd\n", ", line 2: /etc/passwd is not below the folder"),
    "leaves the folder": (b"a/../../LR/0000.png\n", ", line 1: a/../../LR/0000.png is not below"),
    "no text": (b"\xff\xfe\x00", ": is no text"),
    "a NUL": (b"0000.png\n00\x0001.png\n", ", line 2: is damaged"),
    "empty": (b"", ": is empty"),
}


@pytest.mark.parametrize("case", LISTS)
def test_wrong_lists(project: Project, case: str) -> None:
    content, reason = LISTS[case]
    (project.root / "list.txt").write_bytes(content)
    line = refused(project, project.write(LIST))
    assert f"datasets.train.meta_info_file: list.txt{reason}" in line


def test_a_list_of_gigabytes(project: Project) -> None:
    (project.root / "list.txt").write_bytes(b"")
    os.truncate(project.root / "list.txt", 2**33)  # sparse
    result = project.run("check", "-opt", project.write(LIST))
    assert result.status == 2 and "8,589,934,592 bytes are no list of images" in result.err


def test_a_list_that_is_no_file(project: Project) -> None:
    (project.root / "list.txt").mkdir()
    assert "meta_info_file: list.txt is no file" in refused(project, project.write(LIST))


def test_a_name_that_is_listed_twice(project: Project) -> None:
    (project.root / "list.txt").write_text("0000.png\n0001.png\n0000.png\n")
    assert warnings(project, project.write(LIST)) == [
        "datasets.train.meta_info_file: list.txt names 1 images twice"
    ]


# --------------------------------------------------------------------------------------------------
# LMDBs and raw stores
# --------------------------------------------------------------------------------------------------
@pytest.fixture
def lmdbs(project: Project) -> Path:
    """GT.lmdb and LR.lmdb; the first of them."""
    project.make_lmdb(GT, "GT.lmdb")
    project.make_lmdb(LR, "LR.lmdb")
    return project.root / "GT.lmdb"


def put(root: Path, key: bytes, value: bytes | None) -> None:
    """Change an image of an LMDB, or remove it."""
    with lmdb.open(str(root), map_size=2**24, lock=False) as env, env.begin(write=True) as t:
        if value is None:
            t.delete(key)
        else:
            t.put(key, value)


def edit_meta(root: Path, old: str, new: str) -> None:
    file = root / "meta_info.txt"
    file.write_text(file.read_text().replace(old, new))


def cut(root: Path) -> None:
    size = (root / "data.mdb").stat().st_size
    os.truncate(root / "data.mdb", size // 2)


WRONG_LMDBS: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (cut, "GT.lmdb/data.mdb is truncated; pack it anew"),
    "missing": (lambda root: put(root, b"0002", None), "key '0002' of GT.lmdb is in meta_info.txt"),
    "text": (lambda root: put(root, b"0002", b"text"), "key '0002' of GT.lmdb is not an image"),
    "cut image": (
        lambda root: put(root, b"0002", cv2.imencode(".png", np.ones((32, 32)))[1][:-9].tobytes()),
        "key '0002' of GT.lmdb is truncated",
    ),
    "bomb": (
        lambda root: put(root, b"0002", CLAIMS[".png"](60_000, 60_000)),
        "key '0002' of GT.lmdb cannot be read: Image size",
    ),
    "other size": (
        lambda root: edit_meta(root, "0002.png (32,32,3)", "0002.png (32,31,3)"),
        "key '0002' of GT.lmdb has another size in meta_info.txt",
    ),
    "twice": (
        lambda root: edit_meta(root, "0003.png", "0002.png"),
        "GT.lmdb/meta_info.txt, line 4: '0002' is there twice",
    ),
    "leaves the folder": (
        lambda root: edit_meta(root, "0003.png", "../../x.png"),
        "GT.lmdb/meta_info.txt, line 4: '../../x' is no name of an image",
    ),
    "no text": (
        lambda root: (root / "meta_info.txt").write_bytes(b"\xff\xfe"),
        "GT.lmdb/meta_info.txt: is no text",
    ),
}


@pytest.mark.parametrize("case", WRONG_LMDBS)
def test_wrong_lmdbs(project: Project, lmdbs: Path, case: str) -> None:
    damage, reason = WRONG_LMDBS[case]
    damage(lmdbs)
    assert reason in refused(project, project.write(LMDBS))


def test_an_lmdb_of_large_headers(project: Project, lmdbs: Path) -> None:
    """An image whose header is longer than what is read at first."""
    path = project.root / GT / "0002.png"
    with Image.open(path) as image:
        image.save(path, icc_profile=os.urandom(2**17))
    put(lmdbs, b"0002", path.read_bytes())
    assert warnings(project, project.write(LMDBS)) == []


@pytest.mark.parametrize(
    ("new", "reason"),
    [
        ("(32,32,3) 99999999 ", "GT.raw/meta_info.txt, line 1: is damaged"),
        ("(32,99999999,3) 0 ", "GT.raw/meta_info.txt, line 2: is damaged"),
        ("(0,0,3) 0 ", "GT.raw/meta_info.txt, line 1: is damaged"),
        (f"({'9' * 5000},32,3) 0 ", "GT.raw/meta_info.txt, line 1: is damaged"),
    ],
)
def test_wrong_indices_of_a_store(project: Project, new: str, reason: str) -> None:
    make_raw(project.root / GT, project.root / "GT.raw")
    make_raw(project.root / LR, project.root / "LR.raw")
    edit_meta(project.root / "GT.raw", "(32,32,3) 0 ", new)
    assert reason in refused(project, project.write(STORES))


# --------------------------------------------------------------------------------------------------
# What pairs show
# --------------------------------------------------------------------------------------------------
@pytest.fixture
def large(project: Project) -> Project:
    """Images of 128 pixels and more to train on, in which there is something to see."""
    shutil.rmtree(project.root / "data/train")
    project.make_pairs("data/train", count=20, size=128)
    return project


def change(project: Project, name: str, function: Callable[[np.ndarray], np.ndarray]) -> None:
    path = project.root / LR / name
    write_png(path, np.ascontiguousarray(function(cv2.imread(str(path)))))


@pytest.mark.parametrize("backend", ["disk", "lmdb", "raw"])
def test_misaligned_pairs_are_warned_of(large: Project, backend: str) -> None:
    """The same sixteen of twenty are looked at every time."""
    for number in range(10):
        change(large, f"{number:04d}.png", lambda img: np.roll(img, 1, 1))
    changes, name = {}, f"{LR}/0000.png"
    if backend == "lmdb":
        large.make_lmdb(GT, "GT.lmdb")
        large.make_lmdb(LR, "LR.lmdb")
        changes, name = LMDBS, "0000"
    elif backend == "raw":
        make_raw(large.root / GT, large.root / "GT.raw")
        make_raw(large.root / LR, large.root / "LR.raw")
        changes, name = {**STORES, "datasets.train.keep_on_device": True}, "0000"
    assert warnings(large, large.write(changes)) == [
        f"datasets.train: {name}: LQ is GT shifted by (0, 1) pixels (down, right); "
        "8 of 16 pairs that were compared; basicsr prepare verify names all"
    ]


def test_degraded_pairs_are_not(large: Project) -> None:
    random = np.random.RandomState(0)

    def noisy(img: np.ndarray) -> np.ndarray:
        return (img + random.normal(0, 50, img.shape)).clip(0, 255).astype(np.uint8)

    for path in sorted((large.root / LR).iterdir()):
        change(large, path.name, noisy)
    assert warnings(large, large.write()) == []


# --------------------------------------------------------------------------------------------------
# What BasicSR does not read, and what results are named
# --------------------------------------------------------------------------------------------------
def test_losses_are_told_once_for_each_kind(project: Project) -> None:
    for folder, side in ((GT, 32), (LR, 16)):
        deep = np.random.default_rng(0).integers(0, 2**16, (side, side, 3), dtype=np.uint16)
        for name in ("5", "6"):
            cv2.imwrite(str(project.root / folder / f"{name}.png"), deep)
    Image.new("RGBA", (32, 32)).save(project.root / GT / "7.png")
    Image.new("P", (16, 16)).save(project.root / LR / "7.png")
    Image.new("CMYK", (32, 32)).save(project.root / GT / "8.jpg")
    Image.new("RGB", (16, 16)).save(project.root / LR / "8.jpg")
    assert warnings(project, project.write()) == [
        f"datasets.train: {GT}/5.png (and 3 more): has 16 bits per channel, of which 8 are read",
        f"datasets.train: {GT}/7.png: has alpha, which is dropped",
        f"datasets.train: {LR}/7.png: has a palette of at most 256 colors, which training images "
        "should not have",
        f"datasets.train: {GT}/8.jpg: has CMYK, converted without its color profile",
    ]


def test_gray_images(project: Project) -> None:
    """All of them gray, but read as color."""
    for folder in ("GT", "LR"):
        for path in (project.root / "data/val" / folder).iterdir():
            cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))
    assert warnings(project, project.write()) == [
        "datasets.val: all images are gray, and are read as color"
    ]


def test_results_of_one_name(project: Project) -> None:
    """``0.png`` and ``0.jpg`` of one set; in training, images of two validation sets."""
    for folder in ("GT", "LR"):
        image = cv2.imread(str(project.root / "data/val" / folder / "0000.png"))
        cv2.imwrite(str(project.root / "data/val" / folder / "0000.jpg"), image)
    assert warnings(project, project.write_test()) == []  # nothing is saved
    line = refused(project, project.write_test({"val.save_img": True}), command="test")
    assert line.endswith(
        "val.save_img: the results of data/val/LR/0000.jpg and data/val/LR/0000.png have one name; "
        "rename one"
    )
    for folder in ("GT", "LR"):
        (project.root / "data/val" / folder / "0000.jpg").unlink()
    opt = project.options({"val.save_img": True})
    opt["datasets"]["val_2"] = {**opt["datasets"]["val"], "name": "other"}
    (project.root / "two.yml").write_text(yaml.safe_dump(opt))
    assert re.search(r"save_img: the results of .* have one name", refused(project, "two.yml"))


def test_results_whose_names_differ_in_case(project: Project) -> None:
    for folder in ("GT", "LR"):
        root = project.root / "data/val" / folder
        shutil.copy(root / "0000.png", root / "a.png")
        shutil.copy(root / "0000.png", root / "A.png")
    if not os.path.exists(project.root / "data/val/GT/A.png"):
        pytest.skip("this disk does not tell them apart")
    (line,) = warnings(project, project.write_test({"val.save_img": True}))
    assert "LR/A.png" in line and "LR/a.png" in line and line.endswith("have one name; rename one")
