"""Every option file says its recipe, passes the checks, and runs here and in BasicSR itself."""

from __future__ import annotations

import math
import re
import sys
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from basicsr.test import test_pipeline as basicsr_test
from basicsr.train import train_pipeline as basicsr_train

from compacter_arch.data.subsets_dataset import subset_options
from compacter_arch.prepare import imresize, make_lmdb
from compacter_arch.training.options import package_options, read_options

from .conftest import REPOSITORY, Project, reset_basicsr_logger

FILES = {
    path.name: read_options(path)
    for path in sorted(package_options().glob("*.yml"))
    if not path.name.startswith("ablation")  # as a demo's, trained by tests/tables/test_ablation.py
}
TRAIN = [name for name in FILES if name.startswith("train")]
DEMOS = [name for name in TRAIN if name.endswith("_demo.yml")]
TESTS = [name for name in FILES if name.startswith("test")]

# The recipes. Sources: the heads of the files.
NETWORK = {
    "type": "CompacterArch",
    "dim": 48,
    "num_blocks": 14,
    "num_heads": 3,
    "window_size": 8,
    "expansion_ratio": 2,
}
SR_TRAIN = {
    "ema_decay": 0.999,
    "optim_g": {"type": "Adam", "lr": 5e-4, "weight_decay": 0, "betas": [0.9, 0.99]},
    "scheduler": {
        "type": "MultiStepLR",
        "milestones": [250000, 400000, 450000, 475000],
        "gamma": 0.5,
    },
    "total_iter": 500000,
    "warmup_iter": -1,
    "pixel_opt": {
        "type": "L1FrequencyLoss",
        "loss_weight": 1.0,
        "frequency_weight": 0.1,
        "reduction": "mean",
    },
}
SR_DEMO = SR_TRAIN | {
    "ema_decay": 0.99,
    "warmup_iter": 20,
    "optim_g": {"type": "Adam", "lr": 4e-3, "weight_decay": 0, "betas": [0.9, 0.99]},
    "scheduler": {"type": "CosineAnnealingLR", "eta_min": 1e-7},
    "total_iter": 600,
}


def restoration_train(weight_decay: float) -> dict[str, Any]:
    return {
        "ema_decay": 0.999,
        "grad_clip": 0.01,
        "optim_g": {
            "type": "AdamW",
            "lr": 1e-3,
            "weight_decay": weight_decay,
            "betas": [0.9, 0.9],
        },
        "scheduler": {"type": "CosineAnnealingLR", "eta_min": 1e-7},
        "total_iter": 400000,
        "warmup_iter": -1,
        "pixel_opt": {
            "type": "PSNRLoss",
            "loss_weight": 1.0,
            "frequency_weight": 0.1,
            "reduction": "mean",
        },
    }


# task: scale, channels, level of the training, weight decay, Y channel, metrics, validation set
PSNR_SSIM = ("psnr", "ssim")
TASKS: dict[str, tuple[int, int, dict[str, Any], float, bool, tuple[str, ...], str]] = {
    "SRx2": (2, 3, {}, 0, True, PSNR_SSIM, "Set5"),
    "SRx3": (3, 3, {}, 0, True, PSNR_SSIM, "Set5"),
    "SRx4": (4, 3, {}, 0, True, PSNR_SSIM, "Set5"),
    "ColorDN": (1, 3, {"sigma": [0, 50]}, 0, False, PSNR_SSIM, "CBSD68_sigma25"),
    "GrayDN": (1, 1, {"sigma": [0, 50]}, 0, False, PSNR_SSIM, "Set12_sigma25"),
    "JPEG": (1, 1, {"quality": [10, 40]}, 0, False, (*PSNR_SSIM, "psnrb"), "Classic5_q10"),
    "Derain": (1, 3, {}, 1e-3, True, PSNR_SSIM, "Rain100L"),
    "LowLight": (1, 3, {}, 1e-3, False, PSNR_SSIM, "LOL_eval15"),
    "LowLightV2": (1, 3, {}, 1e-3, False, PSNR_SSIM, "LOLv2_real"),
}
DFWB = [
    f"datasets/{name}.lmdb" for name in ("DIV2K/DIV2K_train_HR_sub", "Flickr2K/Flickr2K_HR_sub")
]
DFWB += ["datasets/WED/WED_sub.lmdb", "datasets/BSD400/BSD400.lmdb"]
# What is trained on, GT.
TRAINED_ON = {
    **{f"SRx{scale}": DFWB[:1] for scale in (2, 3, 4)},
    **dict.fromkeys(("ColorDN", "GrayDN", "JPEG"), DFWB),
    "Derain": ["datasets/Rain13K/train/gt"],
    "LowLight": ["datasets/LOL/train/gt"],
    "LowLightV2": ["datasets/LOLv2/real/train/gt", "datasets/LOLv2/synthetic/train/gt"],
}
SR_SETS = ["Set5", "Set14", "B100", "Urban100", "Manga109"]
TESTED_ON = {
    **{f"SRx{scale}": SR_SETS for scale in (2, 3, 4)},
    "ColorDN": [
        f"{name}_sigma{sigma}"
        for name, sigma in product(("CBSD68", "Kodak24", "McMaster", "Urban100"), (15, 25, 50))
    ],
    "GrayDN": [
        f"{name}_sigma{sigma}"
        for name, sigma in product(("Set12", "BSD68", "Urban100"), (15, 25, 50))
    ],
    "JPEG": [f"{name}_q{q}" for name, q in product(("Classic5", "LIVE1"), (10, 20, 30, 40))],
    "Derain": ["Test100", "Rain100H", "Rain100L", "Test2800", "Test1200"],
    "LowLight": ["LOL_eval15"],
    "LowLightV2": ["LOLv2_real", "LOLv2_synthetic"],
}


def task_of(file: str) -> str:
    return re.fullmatch(r"(?:train|test)_Compacter_(\w+?)(?:_demo)?\.yml", file)[1]


def test_every_task_has_its_files():
    assert {task_of(name) for name in TESTS} == set(TASKS)
    assert {task_of(name) for name in TRAIN if name not in DEMOS} == set(TASKS)
    assert {task_of(name) for name in DEMOS} == set(TASKS) - {"LowLightV2"}


@pytest.mark.parametrize("file", FILES)
def test_says_its_recipe(file: str):
    opt, task, demo = FILES[file], task_of(file), file in DEMOS
    scale, chans, level, weight_decay, y, metrics, val_name = TASKS[task]
    assert opt["name"] == Path(file).stem.partition("_")[2]
    assert opt["model_type"] == "RestorationModel" and opt["scale"] == scale
    assert opt["manual_seed"] == 0 and opt["num_gpu"] == "auto"
    network = NETWORK | {"upscale": scale, "in_chans": chans}
    if scale > 1:
        network["input_skip"] = True
    assert opt["network_g"] == network
    border = scale if scale > 1 else 0
    measured = dict(opt["val"]["metrics"])
    if file == "test_Compacter_ColorDN.yml":
        assert measured.pop("ssim3d") == {"type": "calculate_ssim3d", "crop_border": 0}
    assert measured == {
        name: {"type": f"calculate_{name}", "crop_border": border, "test_y_channel": y}
        for name in metrics
    }
    if file in TESTS:
        names = [section["name"] for _, section in sorted(opt["datasets"].items())]
        assert names == TESTED_ON[task]
        assert opt["path"]["pretrain_network_g"].startswith(f"experiments/Compacter_{task}/")
        assert opt["path"]["param_key_g"] == "params_ema"
        return
    data = opt["datasets"]["train"]
    wanted = (SR_DEMO if demo else SR_TRAIN) if scale > 1 else restoration_train(weight_decay)
    if demo and scale == 1:
        wanted |= {"ema_decay": 0.99, "total_iter": 300}
    if demo:
        wanted |= {"compile": "cpu"}
    assert opt["train"] == wanted
    patch = (32 if demo else 64) * scale if scale > 1 else (48 if demo else 128)
    batch = 4 if demo else 8
    assert (data["gt_size"], data["batch_size_per_gpu"]) == (patch, batch)
    assert data["use_hflip"] and data["use_rot"]
    assert {key: data[key] for key in ("sigma", "quality") if key in data} == level
    roots = [part["dataroot_gt"] for part in subset_options(data)]
    assert roots == (["datasets/demo/train/GT"] if demo else TRAINED_ON[task])
    assert opt["datasets"]["val"]["name"] == ("demo_val" if demo else val_name)


@pytest.mark.parametrize("file", FILES)
def test_levels_and_channels_agree(file: str):
    """The level is in the name of a test set; the data have the channels of the network."""
    opt = FILES[file]
    for section in opt["datasets"].values():
        assert section.get("in_chans", 3) == opt["network_g"]["in_chans"]
        if section["type"] == "GaussianNoiseDataset" and file in TESTS:
            assert section["name"].endswith(f"_sigma{section['sigma']}")
        if section["type"] == "JPEGCompressionDataset" and file in TESTS:
            assert section["name"].endswith(f"_q{section['quality']}")


def test_layout_is_the_documented_one():
    """datasets/README.md has every folder that an option file looks for."""
    text = (REPOSITORY / "datasets" / "README.md").read_text()
    documented = {path for word in re.findall(r"`(datasets/[^`]+)`", text) for path in expand(word)}
    for name in set(FILES) - set(DEMOS):
        for section in FILES[name]["datasets"].values():
            for part in subset_options(section):
                roots = [part[key] for key in ("dataroot_gt", "dataroot_lq") if key in part]
                assert set(roots) <= documented, (name, set(roots) - documented)


def expand(word: str) -> list[str]:
    """``a/{b,c}`` -> ``a/b``, ``a/c``, as a shell does."""
    match = re.search(r"\{([^{}]*)\}", word)
    if not match:
        return [word]
    parts = [word[: match.start()] + choice + word[match.end() :] for choice in match[1].split(",")]
    return [path for part in parts for path in expand(part)]


FORCED = ["num_gpu=0", "network_g:num_blocks=1", "network_g:dim=12"]
FORCED_TRAIN = ["train:total_iter=2", "logger:print_freq=1", "datasets:train:batch_size_per_gpu=2"]
FORCED_TRAIN += ["datasets:train:num_worker_per_gpu=0"]


@pytest.mark.parametrize("file", FILES)
def test_runs(project: Project, file: str, monkeypatch: pytest.MonkeyPatch):
    """As written but for the size of the run: checked and run here, then by BasicSR's pipelines."""
    opt, is_train = FILES[file], file in TRAIN
    make_data(project.root, opt)
    forced = FORCED + (FORCED_TRAIN if is_train else ["path:pretrain_network_g=None"])
    result = project.run("train" if is_train else "test", "-opt", file, "--force_yml", *forced)
    assert result.status == 0, result.err
    assert "warning" not in result.err
    check_run(project, opt, is_train, result.err + result.out)

    monkeypatch.setattr(sys, "argv", ["basicsr", "-opt", file, "--force_yml", *forced])
    (project.root / file).write_bytes((package_options() / file).read_bytes())
    reset_basicsr_logger()
    (basicsr_train if is_train else basicsr_test)(str(project.root))
    check_run(project, opt, is_train, project.capsys.readouterr().err)


def check_run(project: Project, opt: dict[str, Any], is_train: bool, text: str) -> None:
    """Every set was measured, and training moved the weights."""
    folder = project.root / ("experiments" if is_train else "results") / opt["name"]
    log = max(folder.glob("*.log")).read_text()
    for metric in opt["val"]["metrics"]:
        scores = [float(value) for value in re.findall(rf"# {metric}: (\S+)", log)]
        assert len(scores) == sum(name.startswith(("val", "test")) for name in opt["datasets"])
        assert all(math.isfinite(score) for score in scores)
    if is_train:
        assert "iter:       2" in log
        assert (folder / "models" / "net_g_latest.pth").is_file()
    else:
        images = {path.parent.name for path in folder.glob("visualization/*/*.png")}
        assert images == {section["name"] for section in opt["datasets"].values()}


def make_data(root: Path, opt: dict[str, Any]) -> None:
    """Images where an option file looks for them, just large enough."""
    scale = opt["scale"]
    generator = np.random.default_rng(0)
    for section in opt["datasets"].values():
        for part in subset_options(section):
            size = part.get("gt_size", 12 * scale if scale > 1 else 24)
            noise = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            gt = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
            lq = imresize(gt, 1 / scale) if scale > 1 else gt // 2
            for key, image in (("dataroot_gt", gt), ("dataroot_lq", lq)):
                if key not in part or (root / part[key]).exists():
                    continue
                lmdb = part["io_backend"]["type"] == "lmdb"
                folder = root / ("images/" * lmdb + part[key])
                folder.mkdir(parents=True)
                for number in range(2):
                    cv2.imwrite(str(folder / f"{number}.png"), image)
                if lmdb:
                    make_lmdb(folder, root / part[key])
