"""Wrong option files: each ends in one line and a non-zero status, and nothing is created."""

from __future__ import annotations

from typing import Any

import pytest

from ..conftest import REMOVE, Project
from .refusals import refused

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
# The file
# --------------------------------------------------------------------------------------------------
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
