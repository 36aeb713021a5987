"""A real training, killed again and again: nothing is lost, nothing changes."""

from __future__ import annotations

import csv
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from compacter_arch.cli import main

from ..conftest import Project, reset_basicsr_logger
from ..training.test_exact_resume import BY_LMDB, assert_same_runs

# Killed; a signal before the run looks for it; afterwards, with its state saved
ENDS = (-signal.SIGKILL, -signal.SIGTERM, 130, 143)
KILLS = int(os.environ.get("KILLS", "50"))  # of each way, at least
MODELS = Path("experiments/parts/models")
SIGNALS = (signal.SIGKILL,) * 6 + (signal.SIGTERM, signal.SIGINT)
LONG = {
    "datasets.train.dataset_enlarge_ratio": 7,  # 14 iterations per epoch
    "train.ema_decay": 0.9,
    "train.scheduler.milestones": [30, 200],
    "train.warmup_iter": 20,
    "val.val_freq": 10,
    "val.save_img": True,
    "logger.save_checkpoint_freq": 5,
    "logger.keep_checkpoints": 3,
    "logger.use_tb_logger": True,
}
WAYS: dict[str, dict[str, Any]] = {
    "no workers": {},
    "two workers, LMDB, prefetch": {
        **BY_LMDB,
        "datasets.train.num_worker_per_gpu": 2,
        "datasets.train.prefetch_mode": "cpu",
    },
    "compiled kernels": {
        "model_type": "RestorationModel",
        "network_g.dim": 16,
        "network_g.num_heads": 1,
        "train.compile": True,
    },
}


def train(file: str) -> None:
    """``basicsr train`` in a process of its own, forked so that it need not import anything."""
    reset_basicsr_logger()
    with Path("output.txt").open("a") as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    raise SystemExit(main(["train", "-opt", file, "--auto_resume"]))


def start(file: str) -> Any:
    """The process."""
    process = multiprocessing.get_context("fork").Process(target=train, args=(file,))
    process.start()
    return process


def newest() -> int:
    """When the last weights were saved, ns."""
    return max((file.stat().st_mtime_ns for file in MODELS.glob("*.pth")), default=0)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX")
@pytest.mark.parametrize("way", WAYS)
def test_killed_again_and_again(project: Project, way: str):
    for half in ("GT", "LR"):
        project.make_lmdb(f"data/train/{half}", f"data/{half}.lmdb")
    # As long as it takes to be killed so often, at 3 to 7 iterations each time.
    changes = {**LONG, **WAYS[way], "train.total_iter": 10 * KILLS}
    whole = start(project.write({**changes, "name": "whole"}, "whole.yml"))
    whole.join(600)
    assert whole.exitcode == 0, Path("output.txt").read_text()[-2000:]

    parts = project.write({**changes, "name": "parts"}, "parts.yml")
    generator, kills, done, at, begun = random.Random(0), 0, False, [], time.monotonic()
    while not done:
        process, before, deadline = start(parts), newest(), time.monotonic() + 120
        if generator.random() < 0.25:  # while it starts or takes up its state
            time.sleep(generator.uniform(0, 1))
        else:  # a while after it has got further
            while process.is_alive() and newest() <= before:
                assert time.monotonic() < deadline, Path("output.txt").read_text()[-2000:]
                time.sleep(0.005)
            time.sleep(generator.uniform(0, 0.2))
        if kills < KILLS and process.is_alive():
            os.kill(process.pid, generator.choice(SIGNALS))
            process.join(120)
            killed = process.exitcode != 0
            kills += killed
            at.append(process.exitcode)
        process.join(300)
        done = process.exitcode == 0
        output = Path("output.txt").read_text()[-2000:]
        assert done or process.exitcode in ENDS, output

    assert kills >= KILLS, f"the run was over after {kills} kills"
    for state in Path("experiments/parts/training_states").glob("*.state"):
        if not Path("experiments/whole/training_states", state.name).exists():
            state.unlink()  # saved because of a signal
            Path(MODELS, f"net_g_{state.stem}.pth").unlink()
    assert_same_runs("whole", "parts")
    with Path("experiments/parts/train_parts.csv").open() as file:
        logged = [int(row["iteration"]) for row in csv.DictReader(file) if row["l_pix"]]
    assert logged == list(range(1, 10 * KILLS + 1))
    assert not list(Path("experiments").rglob("*.tmp"))
    assert all(torch.load(f, weights_only=True) for f in MODELS.glob("*.pth"))
    print(
        f"{way}: {kills} kills ({at.count(-signal.SIGKILL)} by SIGKILL) of a run of "
        f"{10 * KILLS} iterations: 0 differences, 0 lost steps; {time.monotonic() - begun:.0f} s"
    )
