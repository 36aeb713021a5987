"""Wrong inputs: each ends in one clear line and a non-zero status, and nothing is created."""

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

from ..conftest import REMOVE, Project, Result
from .conftest import Spy


def only_line(result: Result, command: str = "train") -> str:
    """The one line on stderr of a command that refused."""
    assert result.status == 2 and result.out == "", result
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith(f"basicsr {command}: error: "), result.err
    return lines[0]


def refused(project: Project, file: str, *argv: str, command: str = "train") -> str:
    """The one line that a command ends with, having created nothing."""
    before = project.snapshot()
    line = only_line(project.run(command, "-opt", file, *argv), command)
    assert project.snapshot() == before
    return line


# --------------------------------------------------------------------------------------------------
# What the option file says
# --------------------------------------------------------------------------------------------------
WRONG_KEYS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "arch misspelt": (
        {"network_g.type": "CompactorArch"},
        ["network_g.type", "'CompactorArch'", "'CompacterArch'"],
    ),
    "argument of the arch misspelt": (
        {"network_g.num_block": 1},
        ["network_g", "'num_block'", "'num_blocks'"],
    ),
    "argument of the arch out of range": ({"network_g.upscale": 5}, ["network_g", "upscale", "5"]),
    "argument of the arch of a wrong type": ({"network_g.dim": "many"}, ["network_g"]),
    "heads that do not divide": ({"network_g.num_heads": 5}, ["network_g", "12", "5"]),
    "arch without a type": ({"network_g.type": REMOVE}, ["network_g", "'type'"]),
    "network missing": ({"network_g": REMOVE}, ["missing section 'network_g'"]),
    "train key misspelt": (
        {"train.total_iters": 4, "train.total_iter": REMOVE},
        ["train", "'total_iter'", "'total_iters'"],
    ),
    "optional train key misspelt": (
        {"train.warmup_iters": 4, "train.warmup_iter": REMOVE},
        ["train", "'warmup_iters'", "'warmup_iter'"],
    ),
    "train key unheard of": ({"train.zzz": 4}, ["train", "'zzz'"]),
    "data set key misspelt": (
        {"datasets.train.dataroot_hq": "data", "datasets.train.dataroot_gt": REMOVE},
        ["datasets.train", "'dataroot_hq'", "'dataroot_gt'"],
    ),
    "name missing": ({"name": REMOVE}, ["missing key 'name'"]),
    "name misspelt": ({"name": REMOVE, "nmae": "x"}, ["missing key 'name'", "'nmae'"]),
    "name empty": ({"name": None}, ["name"]),
    "name that leaves the folder": ({"name": "../x"}, ["name", "'../x'"]),
    "name of the folder itself": ({"name": ".."}, ["name", "'..'"]),
    "model missing": ({"model_type": REMOVE}, ["missing key 'model_type'"]),
    "model unknown": ({"model_type": "SRModle"}, ["model_type", "'SRModle'", "'SRModel'"]),
    "num_gpu missing": ({"num_gpu": REMOVE}, ["missing key 'num_gpu'"]),
    "num_gpu of a wrong type": ({"num_gpu": "all"}, ["num_gpu", "'all'", "auto"]),
    "more GPUs than there are": ({"num_gpu": 99}, ["num_gpu", "99", "auto"]),
    "scale missing": ({"scale": REMOVE}, ["missing key 'scale'"]),
    "scale of a wrong type": ({"scale": "two"}, ["scale", "'two'"]),
    "scale zero": ({"scale": 0}, ["scale", "0"]),
    "scale of another network": ({"scale": 4}, ["network_g", "upscale 2", "scale 4"]),
    "scale of other images": (
        {"scale": 4, "network_g.upscale": 4, "datasets.val": REMOVE, "val": REMOVE},
        ["datasets.train", "scale 4", "16x16", "32x32", "3 more"],
    ),
    "seed of a wrong type": ({"manual_seed": "x"}, ["manual_seed", "'x'"]),
    "datasets empty": ({"datasets": None}, ["missing section 'datasets'"]),
    "datasets without train": ({"datasets.train": REMOVE}, ["datasets", "'train'"]),
    "train data empty": ({"datasets.train": None}, ["datasets.train"]),
    "data set without a type": ({"datasets.train.type": REMOVE}, ["datasets.train", "'type'"]),
    "data set unknown": (
        {"datasets.train.type": "PairedImagesDataset"},
        ["datasets.train.type", "'PairedImageDataset'"],
    ),
    "phase unknown": (
        {"datasets.validation": {"name": "a", "type": "PairedImageDataset"}},
        ["datasets", "'validation'"],
    ),
    "train empty": ({"train": None}, ["missing section 'train'"]),
    "train a list": ({"train": [1, 2]}, ["'train'", "section"]),
    "datasets a list": ({"datasets": ["train"]}, ["'datasets'", "section"]),
    "val a list": ({"val": [1]}, ["'val'", "section"]),
    "path a text": ({"path": "x"}, ["'path'", "section"]),
    "metrics a list": ({"val.metrics": ["psnr"]}, ["val.metrics"]),
    "io_backend missing": (
        {"datasets.train.io_backend": REMOVE},
        ["datasets.train", "'io_backend'"],
    ),
    "io_backend a text": ({"datasets.train.io_backend": "disk"}, ["datasets.train", "io_backend"]),
    "io_backend unknown": (
        {"datasets.train.io_backend": {"type": "disc"}},
        ["datasets.train", "disc"],
    ),
    "gt_size missing": ({"datasets.train.gt_size": REMOVE}, ["datasets.train", "'gt_size'"]),
    "gt_size of a wrong type": (
        {"datasets.train.gt_size": "big"},
        ["datasets.train.gt_size", "'big'"],
    ),
    "gt_size no multiple": ({"datasets.train.gt_size": 17}, ["datasets.train.gt_size", "17"]),
    "workers missing": (
        {"datasets.train.num_worker_per_gpu": REMOVE},
        ["datasets.train", "'num_worker_per_gpu'"],
    ),
    "workers below zero": (
        {"datasets.train.num_worker_per_gpu": -1},
        ["datasets.train.num_worker_per_gpu", "-1"],
    ),
    "prefetch mode unknown": (
        {"datasets.train.prefetch_mode": "gpu"},
        ["datasets.train.prefetch_mode", "'gpu'"],
    ),
    "batch missing": (
        {"datasets.train.batch_size_per_gpu": REMOVE},
        ["datasets.train", "batch_size_per_gpu"],
    ),
    "batch of zero": (
        {"datasets.train.batch_size_per_gpu": 0},
        ["datasets.train.batch_size_per_gpu", "0"],
    ),
    "batch larger than the data": (
        {"datasets.train.batch_size_per_gpu": 5},
        ["datasets.train.batch_size_per_gpu", "5", "4 images"],
    ),
    "enlarge ratio of zero": (
        {"datasets.train.dataset_enlarge_ratio": 0},
        ["datasets.train.dataset_enlarge_ratio", "0"],
    ),
    "enlarge ratio of a wrong type": (
        {"datasets.train.dataset_enlarge_ratio": "auto"},
        ["datasets.train.dataset_enlarge_ratio", "'auto'"],
    ),
    "patch larger than an image": (
        {"datasets.train.gt_size": 64},
        ["datasets.train.gt_size", "64", "data/train/GT/", "32x32", "3 more"],
    ),
    "iterations below one": ({"train.total_iter": 0}, ["train", "total_iter", "0"]),
    "iterations of a wrong type": ({"train.total_iter": "many"}, ["total_iter", "'many'"]),
    "optimizer missing": ({"train.optim_g": REMOVE}, ["train", "'optim_g'"]),
    "optimizer unknown": ({"train.optim_g.type": "Adma"}, ["train.optim_g.type", "'Adam'"]),
    "optimizer key misspelt": (
        {"train.optim_g.beta": [0.9, 0.99]},
        ["train.optim_g", "'beta'", "'betas'"],
    ),
    "learning rate that is text": ({"train.optim_g.lr": "fast"}, ["train"]),
    "scheduler missing": ({"train.scheduler": REMOVE}, ["train", "'scheduler'"]),
    "scheduler unknown": (
        {"train.scheduler.type": "MultiStep"},
        ["train.scheduler.type", "'MultiStep'", "'MultiStepLR'"],
    ),
    "scheduler key misspelt": (
        {"train.scheduler.milestone": [1]},
        ["train.scheduler", "'milestone'", "'milestones'"],
    ),
    "loss unknown": (
        {"train.pixel_opt.type": "L1FrequencyLos"},
        ["train.pixel_opt.type", "'L1FrequencyLoss'"],
    ),
    "loss key misspelt": (
        {"train.pixel_opt.loss_wieght": 1.0},
        ["train.pixel_opt", "'loss_wieght'", "'loss_weight'"],
    ),
    "no loss": ({"train.pixel_opt": REMOVE}, ["train", "loss"]),
    "metric unknown": (
        {"val.metrics.psnr.type": "calculate_psrn"},
        ["val.metrics.psnr.type", "'calculate_psnr'"],
    ),
    "metric key misspelt": (
        {"val.metrics.psnr.crop_boarder": 2, "val.metrics.psnr.crop_border": REMOVE},
        ["val.metrics.psnr", "'crop_boarder'", "'crop_border'"],
    ),
    "val key misspelt": (
        {"val.val_frequ": 4, "val.val_freq": REMOVE},
        ["val", "'val_freq'", "'val_frequ'"],
    ),
    "metric key of a wrong type": (
        {"val.metrics.psnr.crop_border": "two"},
        ["val.metrics.psnr"],
    ),
    "metric of another kind": (
        {"val.metrics": {"niqe": {"type": "calculate_niqe", "crop_border": 2}}},
        ["val.metrics.niqe"],
    ),
    "decay of a wrong type": ({"train.ema_decay": "slow"}, ["train", "ema_decay", "'slow'"]),
    "warm-up of a wrong type": ({"train.warmup_iter": "no"}, ["train", "warmup_iter", "'no'"]),
    "weights that are no path": (
        {"path.pretrain_network_g": ["a.pth"]},
        ["path.pretrain_network_g", "a.pth"],
    ),
    "folder that is no path": (
        {"datasets.train.dataroot_gt": ["data"]},
        ["datasets.train.dataroot_gt", "data"],
    ),
    "val_freq zero": ({"val.val_freq": 0}, ["val", "val_freq", "0"]),
    "logger missing": ({"logger": REMOVE}, ["missing section 'logger'"]),
    "print_freq zero": ({"logger.print_freq": 0}, ["logger", "print_freq", "0"]),
    "name with a line break": ({"name": "a\nb"}, ["name", r"'a\nb'"]),
    "name with a NUL": ({"name": "a\0b"}, ["name", r"'a\x00b'"]),
    "name of 300 letters": ({"name": "é" * 300}, ["name", "..."]),
    "name with a space before it": ({"name": " a"}, ["name", "' a'"]),
    "infinite number of iterations": ({"train.total_iter": float("inf")}, ["total_iter", "inf"]),
    "decay that is no number": ({"train.ema_decay": float("nan")}, ["ema_decay", "nan"]),
    "seed beyond NumPy's": ({"manual_seed": 2**70}, ["manual_seed", str(2**70)]),
    "metrics of text": ({"val.metrics": "psnr"}, ["val.metrics"]),
    "wandb of text": ({"logger.wandb": "mine"}, ["logger.wandb"]),
    "wandb of a number": ({"logger.wandb": {"project": 3}}, ["logger.wandb.project: 3"]),
    "wandb alone": (
        {"logger.wandb": {"project": "mine"}, "logger.use_tb_logger": False},
        ["logger.wandb.project", "use_tb_logger: true"],
    ),
    "strict_load of text": ({"path.strict_load_g": "x"}, ["path.strict_load_g", "'x'"]),
    "param_key that is a list": ({"path.param_key_g": []}, ["path.param_key_g", "[]"]),
    "folder that is nothing": ({"path.models_too": None}, ["path.models_too", "None"]),
    "type that is a list": ({"datasets.train.type": []}, ["datasets.train.type", "[]"]),
    "optimizer that is a list": ({"train.optim_g.type": []}, ["train.optim_g.type", "[]"]),
    "template that is a list": ({"datasets.train.filename_tmpl": []}, ["filename_tmpl", "[]"]),
    "dim that is a list": ({"network_g.dim": []}, ["network_g.dim", "[] must be a whole number"]),
    "dim of zero": ({"network_g.dim": 0}, ["network_g"]),
    "rate that is a list": ({"train.optim_g.lr": [1]}, ["train.optim_g.lr", "[1] must be"]),
    "weight of a loss that is text": (
        {"train.pixel_opt.loss_weight": "x"},
        ["train.pixel_opt.loss_weight", "'x' must be a number"],
    ),
    "gamma that is text": ({"train.scheduler.gamma": "x"}, ["train.scheduler.gamma", "'x'"]),
    "network of another scale by default": (
        {
            "network_g.upscale": REMOVE,
            "scale": 1,
            **dict.fromkeys(
                [f"datasets.{phase}.dataroot_lq" for phase in ("train", "val")], "data/train/GT"
            ),
        }
        | {"datasets.val.dataroot_gt": "data/train/GT"},
        ["network_g.upscale: 2", "scale 1"],
    ),
    "gray network of colors": (
        {"network_g.in_chans": 1},
        ["network_g.in_chans: 1", "has 3 channels"],
    ),
    # What would cost all memory, or hours, if it were tried.
    "network of too many parameters": ({"network_g.dim": 10**6 // 3 * 3}, ["network_g"]),
    "network of too many blocks": ({"network_g.num_blocks": 10**6}, ["network_g", "layers"]),
    "more blocks than can be counted": ({"network_g.num_blocks": 2**64}, ["num_blocks"]),
    "window of too many pixels": ({"network_g.window_size": 500}, ["network_g", "memory"]),
    "batch of a billion": (
        {"datasets.train.batch_size_per_gpu": 10**9, "datasets.train.dataset_enlarge_ratio": 10**9},
        ["datasets.train.batch_size_per_gpu", "at most"],
    ),
    "epoch without an end": (
        {"datasets.train.dataset_enlarge_ratio": 10**12},
        ["datasets.train.dataset_enlarge_ratio", "4e+12 images"],
    ),
    "infinite epoch": (
        {"datasets.train.dataset_enlarge_ratio": float("inf")},
        ["datasets.train.dataset_enlarge_ratio", "inf"],
    ),
    "a million workers": (
        {"datasets.train.num_worker_per_gpu": 10**6},
        ["datasets.train.num_worker_per_gpu", "at most"],
    ),
    "patch of a billion": ({"datasets.train.gt_size": 10**9}, ["datasets.train.gt_size"]),
}


@pytest.mark.parametrize("case", WRONG_KEYS)
def test_wrong_options(project: Project, case: str):
    changes, parts = WRONG_KEYS[case]
    line = refused(project, project.write(changes))
    for part in ["tiny.yml: ", *parts]:
        assert part in line, line


def test_mistakes_of_one_file_are_told_together(project: Project):
    changes = {"network_g.num_block": 1, "train.warmup_itr": 1, "val.metrics.psnr.type": "psnr"}
    result = project.run("train", "-opt", project.write(changes))
    assert result.status == 2 and len(result.err.splitlines()) == 3


def test_key_that_nothing_reads_is_a_warning(project: Project):
    result = project.run("check", "-opt", project.write({"remark": "mine"}))
    assert result.status == 0
    assert result.err == "tiny.yml: warning: unknown key 'remark': nothing reads it\n"


def test_key_of_another_model_is_a_warning(project: Project):
    """BasicSR's own option files hold such keys, and are to run."""
    result = project.run("check", "-opt", project.write({"train.net_d_iters": 1}))
    assert result.status == 0
    assert result.err == "tiny.yml: warning: train: SRModel does not read 'net_d_iters'\n"


def test_good_options_give_no_warning(project: Project):
    assert project.run("check", "-opt", project.write()).err == ""


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


WRONG_FILES = {
    "tabs": b"name: a\ntrain:\n\ttotal_iter: 1\n",
    "key given twice": b"name: a\nname: b\n",
    "binary": bytes(range(256)),
    "empty": b"",
    "a list": b"- name\n",
    "runs code": b"name: !!python/object/apply:os.mkdir [made]\n",
    "runs code below": b"name: a\ntrain: {total_iter: !!python/name:os.getcwd ''}\n",
}


@pytest.mark.parametrize("case", WRONG_FILES)
@pytest.mark.parametrize("command", ["train", "test", "check"])
def test_wrong_option_file(project: Project, case: str, command: str):
    (project.root / "wrong.yml").write_bytes(WRONG_FILES[case])
    assert "wrong.yml" in refused(project, "wrong.yml", command=command)


@pytest.mark.parametrize("path", ["absent.yml", "data", "."])
def test_option_file_that_is_none(project: Project, path: str):
    assert f"-opt {path}: no such file" in refused(project, path)


@pytest.mark.parametrize(
    "entry", ["nonsense", "=", "name:deeper=1", "train:total_iter=x", "trian:total_iter=3"]
)
def test_forced_nonsense(project: Project, entry: str):
    refused(project, project.write(), "--force_yml", entry)


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


# --------------------------------------------------------------------------------------------------
# The test command
# --------------------------------------------------------------------------------------------------
WRONG_TESTS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "val missing": ({"val": REMOVE}, ["missing section 'val'"]),
    "save_img missing": ({"val.save_img": REMOVE}, ["val", "'save_img'"]),
    "datasets empty": ({"datasets": {}}, ["datasets: is empty"]),
    "phase of a training": (
        {"datasets.train": {"name": "a", "type": "PairedImageDataset"}},
        ["datasets", "'train'"],
    ),
    "weights missing": ({"path.pretrain_network_g": "absent.pth"}, ["absent.pth does not exist"]),
    "data missing": ({"datasets.test_1.dataroot_gt": "absent"}, ["absent does not exist"]),
    "metric unknown": ({"val.metrics.psnr.type": "calculate_psrn"}, ["'calculate_psnr'"]),
}


@pytest.mark.parametrize("case", WRONG_TESTS)
@pytest.mark.parametrize("command", ["test", "check"])
def test_wrong_tests(project: Project, case: str, command: str):
    changes, parts = WRONG_TESTS[case]
    line = refused(project, project.write_test(changes), command=command)
    for part in ["test.yml: ", *parts]:
        assert part in line, line
