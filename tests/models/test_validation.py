"""Validation: SRModel's values and files to the bit, by one process or by several."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from basicsr.models import build_model, sr_model

from compacter_arch.training import test as testing
from compacter_arch.training.options import complete_options

from ..conftest import TEST_SECTIONS, Project

METRICS = {
    "psnr": {"type": "calculate_psnr", "crop_border": 2, "test_y_channel": True},
    "ssim": {"type": "calculate_ssim", "crop_border": 2},
    "worse": {"type": "calculate_psnrb", "crop_border": 2, "better": "lower"},
}


class Scalars:
    """A TensorBoard."""

    def __init__(self) -> None:
        self.added: list[Any] = []

    def add_scalar(self, *scalar: Any) -> None:
        self.added.append(scalar)


def build(project: Project, model_type: str, is_train: bool, **changes: Any) -> Any:
    """A model with weights that follow from the seed."""
    changes = {"model_type": model_type, "name": model_type, "val.metrics": METRICS, **changes}
    options = project.options(changes if is_train else {**TEST_SECTIONS, **changes})
    return build_model(complete_options(options, project.root, is_train))


def validate(model: Any, iteration: int | str, scalars: Scalars | None, save: bool = True) -> Any:
    """What the training and test loops do."""
    phase = "val" if model.is_train else "test_1"
    dataset = build_dataset(model.opt["datasets"][phase])
    loader = build_dataloader(dataset, model.opt["datasets"][phase])
    model.validation(loader, iteration, scalars, save)
    return loader


def files(folder: str) -> dict[str, bytes]:
    """The images below a folder."""
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in Path(folder).rglob("*.png")
    }


@pytest.mark.parametrize("ema", [0, 0.5])
def test_validation_is_srmodel_s(project: Project, monkeypatch: pytest.MonkeyPatch, ema: float):
    """Twice, with other weights the second time, so that either is best in some metric."""
    made = []
    kinds = ("SRModel", "RestorationModel")
    for model in [build(project, kind, True, **{"train.ema_decay": ema}) for kind in kinds]:
        log: list[str] = []
        scalars = Scalars()
        torch.manual_seed(0)
        monkeypatch.setattr(
            sr_model, "get_root_logger", lambda log=log: SimpleNamespace(info=log.append)
        )
        validate(model, 5, scalars)
        with torch.no_grad():
            for network in (model.net_g, getattr(model, "net_g_ema", model.net_g)):
                network.conv_first.weight.mul_(1.5)
        validate(model, 10, scalars)
        images = files(model.opt["path"]["visualization"])
        assert len(log) == 2 and len(images) == 4 and model.net_g.training
        results = repr([model.metric_results, model.best_metric_results, scalars.added])
        made.append((results, images, log, torch.get_rng_state().tolist()))
    assert "5 iter" in log[1] and "10 iter" in log[1] and len(scalars.added) == 6
    for ours, theirs in zip(*made, strict=True):
        assert ours == theirs


@pytest.mark.parametrize("suffix", [None, "x"])
def test_test_is_srmodel_s(project: Project, suffix: str | None):
    made = []
    for kind in ("SRModel", "RestorationModel"):
        model = build(project, kind, False, **{"name": "same", "val.suffix": suffix})
        validate(model, "same", None)
        made.append((repr(model.metric_results), files(model.opt["path"]["visualization"])))
        for path in Path(model.opt["path"]["visualization"]).rglob("*.png"):
            path.unlink()
    assert made[0] == made[1] and len(made[0][1]) == 2


def test_images_without_originals_are_only_restored(project: Project):
    single = {"name": "Single", "type": "SingleImageDataset", "dataroot_lq": "data/val/LR"}
    changes = {"datasets": {"test_1": {**single, "io_backend": {"type": "disk"}}}}
    made = []
    for kind in ("SRModel", "RestorationModel"):
        model = build(project, kind, False, **changes, **{"val.metrics": None, "name": "same"})
        validate(model, "same", None)
        made.append(files(model.opt["path"]["visualization"]))
        assert not hasattr(model, "metric_results")
    assert made[0] == made[1] and len(made[0]) == 2


def test_nothing_is_written_unless_wanted_and_a_bar_shown(project: Project):
    model = build(project, "RestorationModel", False, **{"val.pbar": True})
    project.capsys.readouterr()
    validate(model, "name", None, save=False)
    assert not files(str(project.root / "results"))
    assert "2/2" in (err := project.capsys.readouterr().err) and "Test 0001" in err


# A training of two iterations that leaves its weights as they are, in a process of its own. Ends
# with what the model has measured, and what it was asked to log.
TRAIN = """
import json, sys
import compacter_arch.training.train as training
from compacter_arch.cli import main

build, made = training.build_model, []

def build_model(opt):
    made.append(build(opt))
    return made[0]

training.build_model = build_model
assert main(["train", "-opt", *sys.argv[1:]]) == 0
print(json.dumps([made[0].metric_results, made[0].best_metric_results, made[0].get_current_log()]))
"""


def run_processes(project: Project, file: str, count: int) -> list[tuple[list[Any], str]]:
    """What each of several processes says at the end, and what it has logged."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    started = []
    for rank in range(count):
        who = {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count)}
        where = {"MASTER_ADDR": "localhost", "MASTER_PORT": port}
        started.append(
            subprocess.Popen(
                [sys.executable, "-c", TRAIN, file, "--launcher", "pytorch"],
                cwd=project.root,
                env=project.environment() | who | where,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
    project.started += started  # ended by the fixture, whatever happens
    ended = [process.communicate(timeout=300) for process in started]
    assert not any(process.returncode for process in started), [err[-2000:] for _, err in ended]
    return [(json.loads(out.splitlines()[-1]), err) for out, err in ended]


@pytest.mark.skipif(not torch.distributed.is_available(), reason="torch without distributed")
def test_two_processes_share_the_images(project: Project):
    """One and five: of the first set a process has none, of the second the parts differ."""
    for name, number in (("few", 1), ("val", 5)):
        project.make_pairs(f"data/{name}", count=number, size=24)
    for half in ("GT", "LR"):  # BasicSR saves the images of all sets in the same place
        (project.root / f"data/few/{half}/0000.png").rename(f"data/few/{half}/few.png")
    paired = {"type": "PairedImageDataset", "io_backend": {"type": "disk"}}
    sets = {
        f"{phase}_{name}": paired
        | {"name": name, "dataroot_gt": f"data/{name}/GT", "dataroot_lq": f"data/{name}/LR"}
        for phase in ("val", "test")
        for name in ("few", "val")
    }
    start = build(project, "RestorationModel", True, name="start")
    for folder in ("models", "training_states"):
        os.makedirs(start.opt["path"][folder])
    start.save(-1, -1)
    shared = {
        "model_type": "RestorationModel",
        "path.pretrain_network_g": f"{start.opt['path']['models']}/net_g_latest.pth",
        "val.metrics": METRICS,
        "val.save_img": True,
    }
    options = project.options(shared)["datasets"]["train"]
    training = {
        "name": "shared",
        "train.total_iter": 2,
        "train.optim_g.lr": 0.0,
        "val.val_freq": 2,
        "val.comparison": True,
        "logger.print_freq": 2,
        "datasets": {"train": options} | {key: sets[key] for key in ("val_few", "val_val")},
    }
    (first, log), (second, silence) = run_processes(project, project.write(shared | training), 2)

    testing_sets = {key: sets[key] for key in ("test_few", "test_val")}
    alone = {**TEST_SECTIONS, **shared, "name": "alone", "datasets": testing_sets}
    results = testing.evaluate(complete_options(project.options(alone), project.root, False))
    for results_of_both in (first[1], second[1]):
        for name, scores in results.items():
            best = {metric: kept["val"] for metric, kept in results_of_both[name].items()}
            assert best == scores
    assert first[0] == second[0] == results["val"]

    images, other = (
        {path.name.split("_")[0]: path.read_bytes() for path in found}
        for found in (
            (project.root / "experiments/shared/visualization").rglob("*.png"),
            (project.root / "results/alone/visualization").rglob("*.png"),
        )
    )
    assert images == other and len(images) == 6
    assert log.count("Validation val") == log.count("Validation few") == 1
    assert "l_pix: " in log and "psnr bicubic" in log and "Validation" not in silence
    assert first[2]["l_pix"] > 0
