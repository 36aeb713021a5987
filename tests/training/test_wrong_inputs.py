"""Wrong data, weights, folders: each ends in one line and a non-zero status; nothing is created."""

from __future__ import annotations

import importlib.util
import io
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from compacter_arch import CompacterArch

from ..conftest import Project
from .conftest import Spy
from .refusals import refused

# --------------------------------------------------------------------------------------------------
# Data
# --------------------------------------------------------------------------------------------------
GT, LR = "data/train/GT", "data/train/LR"


def remove_folder(root: Path) -> None:
    shutil.rmtree(root / LR)


def empty_folders(root: Path) -> None:
    for folder in (GT, LR):
        shutil.rmtree(root / folder)
        (root / folder).mkdir()


def file_in_place_of_folder(root: Path) -> None:
    shutil.rmtree(root / LR)
    (root / LR).write_text("not a folder")


def one_lr_less(root: Path) -> None:
    (root / LR / "0002.png").unlink()


def other_names(root: Path) -> None:
    for path in (root / LR).iterdir():
        path.rename(path.with_stem(f"{path.stem}x2"))


def lr_of_another_size(root: Path) -> None:
    shutil.copy(root / "data/val/LR/0000.png", root / LR / "0001.png")


def truncate(root: Path) -> None:
    path = root / LR / "0001.png"
    path.write_bytes(path.read_bytes()[:-40])


def truncate_in_header(root: Path) -> None:
    path = root / LR / "0001.png"
    path.write_bytes(path.read_bytes()[:20])


def text_as_png(root: Path) -> None:
    (root / LR / "0001.png").write_text("not an image\n")


def empty_file(root: Path) -> None:
    (root / LR / "0001.png").write_bytes(b"")


def folder_as_png(root: Path) -> None:
    (root / LR / "0001.png").unlink()
    (root / LR / "0001.png").mkdir()


def stray_file(root: Path) -> None:
    for folder in (GT, LR):
        (root / folder / "Thumbs.db").write_bytes(b"\1\2\3")


WRONG_DATA: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "folder missing": (remove_folder, ["datasets.train.dataroot_lq", LR, "does not exist"]),
    "folder empty": (empty_folders, ["datasets.train", GT, "no images"]),
    "file in the place of a folder": (file_in_place_of_folder, ["dataroot_lq", "not a folder"]),
    "pair counts differ": (one_lr_less, ["datasets.train: 4 images", "3 in", "is missing"]),
    "names differ": (other_names, ["datasets.train", ".png"]),
    "LR does not fit": (
        lr_of_another_size,
        ["datasets.train", f"{LR}/0001.png", "12x12", f"{GT}/0001.png", "32x32", "scale 2"],
    ),
    "truncated": (truncate, ["datasets.train", f"{LR}/0001.png", "truncated"]),
    "truncated in its header": (truncate_in_header, ["datasets.train", f"{LR}/0001.png"]),
    "text named .png": (text_as_png, ["datasets.train", f"{LR}/0001.png", "not an image"]),
    "empty file": (empty_file, ["datasets.train", f"{LR}/0001.png", "not an image"]),
    "folder named .png": (folder_as_png, ["datasets.train"]),
    "stray file": (stray_file, ["datasets.train", "Thumbs.db", "not an image"]),
}


@pytest.mark.parametrize("case", WRONG_DATA)
def test_wrong_data(project: Project, case: str):
    harm, parts = WRONG_DATA[case]
    harm(project.root)
    line = refused(project, project.write())
    for part in ["tiny.yml: ", *parts]:
        assert part in line, line


def test_wrong_validation_data(project: Project):
    shutil.rmtree(project.root / "data/val/LR")
    assert "datasets.val.dataroot_lq: data/val/LR does not exist" in refused(
        project, project.write()
    )


@pytest.mark.parametrize("workers", [0, 1])
@pytest.mark.parametrize("mode", [None, "cpu"])
def test_image_that_breaks_the_run(project: Project, workers: int, mode: str | None):
    """Its header and its end are as they should be: only decoding it tells, in the middle of a run.

    A process of its own, since with workers the question is also whether it ends.
    """
    project.make_pairs("data/train", count=32, size=32)  # of which the checks decode every second
    path = project.root / LR / "0003.png"
    content = path.read_bytes()
    path.write_bytes(content[:100] + content[-12:])
    project.make_meta_info(GT, "data/meta_info.txt")
    changes = {
        "train.total_iter": 16,
        "datasets.train.meta_info_file": "data/meta_info.txt",
        "datasets.train.num_worker_per_gpu": workers,
        "datasets.train.prefetch_mode": mode,
    }
    process = project.start("train", "-opt", project.write(changes))
    _, err = process.communicate(timeout=300)
    assert process.returncode == 2
    assert err.splitlines()[-1].startswith(f"basicsr train: error: {LR}/0003.png cannot be decoded")
    assert "Traceback" not in err


def test_image_that_vanishes_during_the_run(project: Project, spy: Spy):
    spy.at[2] = lambda: (project.root / LR / "0001.png").unlink()
    result = project.run("train", "-opt", project.write())
    assert result.status == 2 and "Traceback" not in result.err
    line = result.err.splitlines()[-1]
    assert line.startswith("basicsr train: error: ") and f"{LR}/0001.png" in line


def test_full_disk_is_one_line(project: Project, spy: Spy):
    """The folder of the weights is gone: a state that cannot be saved ends the run."""
    spy.at[2] = lambda: shutil.rmtree(project.root / "experiments/tiny/models")
    result = project.run("train", "-opt", project.write())
    assert result.status == 2
    assert "experiments/tiny/models/net_g_4.pth" in result.err.splitlines()[-1]


def test_meta_info_that_names_a_missing_file(project: Project):
    (project.root / "data/meta.txt").write_text("0000.png (32,32,3)\nabsent.png (32,32,3)\n")
    line = refused(project, project.write({"datasets.train.meta_info_file": "data/meta.txt"}))
    assert "tiny.yml: datasets.train" in line and f"{GT}/absent.png" in line


def test_meta_info_that_is_missing(project: Project):
    line = refused(project, project.write({"datasets.train.meta_info_file": "data/meta.txt"}))
    assert "datasets.train.meta_info_file: data/meta.txt does not exist" in line


def lmdb_options(project: Project) -> str:
    """The project with its training images in LMDB."""
    for half in ("GT", "LR"):
        project.make_lmdb(f"data/train/{half}", f"data/{half}.lmdb")
    return project.write(
        {
            "datasets.train.dataroot_gt": "data/GT.lmdb",
            "datasets.train.dataroot_lq": "data/LR.lmdb",
            "datasets.train.io_backend": {"type": "lmdb"},
        }
    )


def test_lmdb_without_meta_info(project: Project):
    file = lmdb_options(project)
    (project.root / "data/LR.lmdb/meta_info.txt").unlink()
    line = refused(project, file)
    assert "tiny.yml: datasets.train" in line and "data/LR.lmdb/meta_info.txt" in line


def test_lmdb_without_data(project: Project):
    file = lmdb_options(project)
    for path in (project.root / "data/LR.lmdb").glob("*.mdb"):
        path.unlink()
    line = refused(project, file)
    assert "tiny.yml: datasets.train" in line and "data/LR.lmdb" in line


def test_lmdb_with_other_keys(project: Project):
    file = lmdb_options(project)
    meta = project.root / "data/LR.lmdb/meta_info.txt"
    meta.write_text(meta.read_text().replace("0003.png", "0004.png"))
    line = refused(project, file)
    assert "tiny.yml: datasets.train" in line and "different" in line


def test_lmdb_asked_for_in_a_plain_folder(project: Project):
    file = project.write({"datasets.train.io_backend": {"type": "lmdb"}})
    result = project.run("train", "-opt", file)
    assert result.status == 2
    for key, line in zip(("dataroot_gt", "dataroot_lq"), result.err.splitlines(), strict=True):
        assert f"tiny.yml: datasets.train.{key}: " in line and "lmdb" in line


# --------------------------------------------------------------------------------------------------
# Weights and states
# --------------------------------------------------------------------------------------------------
def save_weights(path: Path, upscale: int = 2, **others: Any) -> None:
    """A checkpoint of the tiny network."""
    network = CompacterArch(upscale, 3, 12, 1, 3, 4)
    torch.save({"params": network.state_dict(), **others}, path)


def another_scale(path: Path) -> None:
    save_weights(path, upscale=4)


def text(path: Path) -> None:
    path.write_text("version https://git-lfs.github.com/spec/v1\n")


def cut(path: Path) -> None:
    save_weights(path)
    path.write_bytes(path.read_bytes()[:2000])


def code(path: Path) -> None:
    torch.save({"params": shutil.rmtree}, path)


def a_list(path: Path) -> None:
    torch.save([torch.zeros(1)], path)


def nothing(path: Path) -> None:
    """No file at all."""


WRONG_WEIGHTS: dict[str, tuple[Callable[[Path], None], list[str]]] = {
    "of another scale": (another_scale, ["does not fit network_g", "another scale"]),
    "text file": (text, ["not a checkpoint"]),
    "truncated": (cut, ["damaged"]),
    "runs code": (code, ["not a checkpoint"]),
    "a list": (a_list, ["holds no weights"]),
    "missing": (nothing, ["does not exist"]),
    "folder": (Path.mkdir, ["weights.pth"]),
}


@pytest.mark.parametrize("case", WRONG_WEIGHTS)
def test_wrong_weights(project: Project, case: str):
    make, parts = WRONG_WEIGHTS[case]
    make(project.root / "weights.pth")
    line = refused(project, project.write({"path.pretrain_network_g": "weights.pth"}))
    for part in ["tiny.yml: path.pretrain_network_g: ", "weights.pth", *parts]:
        assert part in line, line


def test_weights_under_another_key(project: Project):
    torch.save({"weights": CompacterArch().state_dict()}, project.root / "weights.pth")
    changes = {"path.pretrain_network_g": "weights.pth", "path.param_key_g": "params_ema"}
    line = refused(project, project.write(changes))
    assert "path.pretrain_network_g: weights.pth" in line and "params_ema" in line


def test_weights_of_another_scale_are_welcome_in_part(project: Project):
    save_weights(project.root / "weights.pth", upscale=4)
    changes = {"path.pretrain_network_g": "weights.pth", "path.strict_load_g": False}
    result = project.run("check", "-opt", project.write(changes))
    assert result.status == 0 and "weights.pth fits network_g in part" in result.err


@pytest.mark.parametrize("make", [text, cut, a_list, nothing])
def test_wrong_resume_state(project: Project, make: Callable[[Path], None]):
    make(project.root / "1.state")
    line = refused(project, project.write({"path.resume_state": "1.state"}))
    assert "tiny.yml: path.resume_state: " in line and "1.state" in line


# --------------------------------------------------------------------------------------------------
# Files and folders
# --------------------------------------------------------------------------------------------------
def test_experiments_that_is_a_file(project: Project):
    (project.root / "experiments").write_text("in the way")
    line = refused(project, project.write())
    assert "tiny.yml: name: tiny: cannot write into " in line and "experiments" in line


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write")
def test_experiments_without_permission(project: Project):
    folder = project.root / "experiments"
    folder.mkdir(mode=0o500)
    try:
        assert "Permission denied" in refused(project, project.write())
    finally:
        folder.chmod(0o700)


def test_wandb_that_is_not_installed(project: Project, monkeypatch: pytest.MonkeyPatch):
    """Told before anything is made."""
    find = importlib.util.find_spec

    def find_others(name: str, *package: Any) -> Any:
        return None if name == "wandb" else find(name, *package)

    monkeypatch.setattr(importlib.util, "find_spec", find_others)
    changes = {"logger.wandb": {"project": "mine"}, "logger.use_tb_logger": True}
    assert "pip install wandb" in refused(project, project.write(changes))


def test_tb_logger_that_is_a_file(project: Project):
    (project.root / "tb_logger").write_text("in the way")
    line = refused(project, project.write({"logger.use_tb_logger": True}))
    assert "tb_logger" in line


def test_names_that_are_not_ascii(project: Project):
    for folder in (GT, LR):
        (project.root / folder / "0001.png").rename(project.root / folder / "été ü.png")
    result = project.run("train", "-opt", project.write({"name": "kör"}, "grün.yml"))
    assert result.status == 0, result.err
    assert project.weights(name="kör")


@pytest.mark.skipif(os.name == "nt", reason="file names are text on Windows")
def test_names_that_are_not_utf8(project: Project, monkeypatch: pytest.MonkeyPatch):
    """Linux allows any bytes; such a name must not end in a traceback where it is printed."""
    name = os.fsdecode(b"\xe9t\xe9.png")
    for folder in (GT, LR):
        (project.root / folder / "0001.png").rename(project.root / folder / name)
    file = project.write()
    assert project.run("train", "-opt", file).status == 0
    shutil.rmtree(project.root / "experiments")
    (project.root / LR / name).write_text("not an image")
    err = io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace")  # as Python sets it up
    monkeypatch.setattr(sys, "stderr", err)
    assert project.run("train", "-opt", file).status == 2
    err.seek(0)
    assert "t\\udce9.png is not an image" in err.read()
