"""Fixtures of all tests: a tiny project to train in, and the command line in and out of process."""

from __future__ import annotations

import copy
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

import compacter_arch
from compacter_arch.cli import main
from compacter_arch.prepare import imresize

REPOSITORY = Path(compacter_arch.__file__).parents[1]
REMOVE = ...  # as a value of `Project.options`: leave the key out

torch.set_num_threads(1)  # the networks are tiny; threads would only wait for each other

TINY: dict[str, Any] = {
    "name": "tiny",
    "model_type": "SRModel",
    "scale": 2,
    "num_gpu": 0,
    "manual_seed": 0,
    "datasets": {
        "train": {
            "name": "TinyTrain",
            "type": "PairedImageDataset",
            "dataroot_gt": "data/train/GT",
            "dataroot_lq": "data/train/LR",
            "filename_tmpl": "{}",
            "io_backend": {"type": "disk"},
            "gt_size": 16,
            "use_hflip": True,
            "use_rot": True,
            "num_worker_per_gpu": 0,
            "batch_size_per_gpu": 2,
            "dataset_enlarge_ratio": 1,
            "prefetch_mode": None,
        },
        "val": {
            "name": "TinyVal",
            "type": "PairedImageDataset",
            "dataroot_gt": "data/val/GT",
            "dataroot_lq": "data/val/LR",
            "io_backend": {"type": "disk"},
        },
    },
    "network_g": {
        "type": "CompacterArch",
        "upscale": 2,
        "in_chans": 3,
        "dim": 12,
        "num_blocks": 1,
        "num_heads": 3,
        "window_size": 4,
    },
    "path": {"pretrain_network_g": None, "strict_load_g": True, "resume_state": None},
    "train": {
        "ema_decay": 0,
        "optim_g": {"type": "Adam", "lr": 1e-3, "weight_decay": 0, "betas": [0.9, 0.99]},
        "scheduler": {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5},
        "total_iter": 4,
        "warmup_iter": -1,
        "pixel_opt": {"type": "L1FrequencyLoss", "loss_weight": 1.0, "reduction": "mean"},
    },
    "val": {
        "val_freq": 4,
        "save_img": False,
        "metrics": {"psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True}},
    },
    "logger": {"print_freq": 1, "save_checkpoint_freq": 100, "use_tb_logger": False},
}
# What changes for a test of the validation images.
TEST_SECTIONS: dict[str, Any] = {
    "datasets": {"test_1": {**TINY["datasets"]["val"]}},
    "train": REMOVE,
    "logger": REMOVE,
    "val.val_freq": REMOVE,
    "val.suffix": None,
}


@dataclass
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str


class Project:
    """A BasicSR tree in a temporary folder: data, option files, and what commands make of them."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.capsys = root, capsys
        self.started: list[subprocess.Popen[str]] = []
        self.make_pairs("data/train", count=4, size=32)
        self.make_pairs("data/val", count=2, size=24)

    def make_pairs(
        self, folder: str, count: int, size: int, scale: int = 2, gt: str = "GT", lr: str = "LR"
    ) -> None:
        """Write smooth random images and their MATLAB-exact LR images as PNG."""
        generator = np.random.default_rng(count * 1000 + size)
        for number in range(count):
            noise = generator.integers(0, 256, (6, 6, 3), dtype=np.uint8)
            image = cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
            for half, pixels in ((gt, image), (lr, imresize(image, 1 / scale))):
                path = self.root / folder / half / f"{number:04d}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                cv2.imwrite(str(path), pixels)

    def make_lmdb(self, folder: str, lmdb: str) -> None:
        """Pack the images of a folder with BasicSR's own writer."""
        from basicsr.utils.lmdb_util import make_lmdb_from_imgs

        names = sorted(path.name for path in (self.root / folder).iterdir())
        target = self.root / lmdb
        target.parent.mkdir(parents=True, exist_ok=True)
        keys = [Path(name).stem for name in names]
        make_lmdb_from_imgs(str(self.root / folder), str(target), names, keys, map_size=2**24)

    def make_meta_info(self, folder: str, file: str) -> None:
        """List the images of a folder as BasicSR's meta_info files do."""
        lines = []
        for path in sorted((self.root / folder).iterdir()):
            height, width, channels = cv2.imread(str(path)).shape
            lines.append(f"{path.name} ({height},{width},{channels})\n")
        (self.root / file).write_text("".join(lines))

    def options(self, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Options of a tiny training with changes such as ``{"train.total_iter": 8}``."""
        opt = copy.deepcopy(TINY)
        for where, value in copy.deepcopy(dict(changes or {})).items():
            *sections, key = where.split(".")
            node = opt
            for section in sections:
                node = node.setdefault(section, {})
            if value is REMOVE:
                node.pop(key, None)
            else:
                node[key] = value
        return opt

    def write(self, changes: Mapping[str, Any] | None = None, file: str = "tiny.yml") -> str:
        """Write an option file for a training; returns its name."""
        text = yaml.safe_dump(self.options(changes), sort_keys=False)
        (self.root / file).write_text(text, encoding="utf-8")
        return file

    def write_test(self, changes: Mapping[str, Any] | None = None, file: str = "test.yml") -> str:
        """Write an option file for a test; returns its name."""
        return self.write({**TEST_SECTIONS, **(changes or {})}, file)

    def run(self, *argv: str) -> Result:
        """Run a command of ours in this process."""
        reset_basicsr_logger()
        self.capsys.readouterr()
        status: Any
        try:
            status = main([str(argument) for argument in argv])
        except SystemExit as stop:  # argparse
            status = stop.code
        return Result(status, *self.capsys.readouterr())

    def start(
        self, *argv: str, python: tuple[str, ...] = ("-m", "compacter_arch")
    ) -> subprocess.Popen[str]:
        """Start a command of ours in a process (and process group) of its own."""
        process = subprocess.Popen(
            [sys.executable, *python, *map(str, argv)],
            cwd=self.root,
            env=self.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.started.append(process)
        return process

    def environment(self) -> dict[str, str]:
        """What a Python process needs to find this package from the project."""
        paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        python_path = os.pathsep.join(filter(None, paths))
        return {
            **os.environ,
            "PYTHONPATH": python_path,
            "PYTHONWARNINGS": "ignore",
            "OMP_NUM_THREADS": "1",
        }

    def log(self, name: str = "tiny") -> str:
        """The newest log of a training."""
        return max((self.root / "experiments" / name).glob("train_*.log")).read_text()

    def weights(
        self, which: int | str = "latest", name: str = "tiny", key: str = "params"
    ) -> dict[str, torch.Tensor]:
        """The weights that a training has saved."""
        file = self.root / "experiments" / name / "models" / f"net_g_{which}.pth"
        return torch.load(file, weights_only=True)[key]

    def snapshot(self) -> dict[str, bytes | None]:
        """Everything below the current directory: folders, and files with their content."""
        return {
            str(path.relative_to(self.root)): path.read_bytes() if path.is_file() else None
            for path in sorted(self.root.rglob("*"))
        }


def reset_basicsr_logger() -> None:
    """Let BasicSR's logger, which a process sets up once, be set up anew."""
    from basicsr.utils.logger import initialized_logger

    initialized_logger.clear()
    logger = logging.getLogger("basicsr")
    for handler in list(logger.handlers):
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture
def project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Project]:
    """A tiny project, which is the current directory during the test."""
    monkeypatch.chdir(tmp_path)
    project = Project(tmp_path, capsys)
    yield project
    reset_basicsr_logger()
    for process in project.started:
        with suppress(ProcessLookupError):  # all of it has ended, as it should
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
