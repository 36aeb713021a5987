"""The training itself."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import basicsr
import cv2
import numpy as np
import pytest
import torch
from basicsr.models import lr_scheduler
from basicsr.models.base_model import BaseModel
from basicsr.utils import dist_util
from basicsr.utils.logger import MessageLogger

from .tools import base_model, multi_step, needs_no_cuda, original, write_state


@pytest.fixture
def process_group(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    if not torch.distributed.is_available():
        pytest.skip("torch without distributed")
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("SLURM_PROCID", "0")
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_NODELIST", "localhost")
    rendezvous = f"file://{tmp_path}/rendezvous"

    def start(init: Callable[..., None]) -> None:
        init("nccl", init_method=rendezvous, rank=0, world_size=1)

    yield start
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


@needs_no_cuda
def test_distributed_on_a_cpu(process_group: Callable[..., None], tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(original(dist_util._init_dist_pytorch).__globals__, "torch", torch)
        with pytest.raises(ZeroDivisionError):
            process_group(original(dist_util._init_dist_pytorch))
    process_group(dist_util._init_dist_pytorch)
    assert torch.distributed.get_backend() == "gloo"
    assert dist_util.get_dist_info() == (0, 1)

    model = base_model(tmp_path, dist=True)
    net = model.model_to_device(torch.nn.Linear(2, 2))
    assert isinstance(net, torch.nn.parallel.DistributedDataParallel)
    assert isinstance(model.get_bare_model(net), torch.nn.Linear)
    net(torch.zeros(1, 2)).sum().backward()
    with pytest.raises((AssertionError, RuntimeError)):
        original(BaseModel.model_to_device)(model, torch.nn.Linear(2, 2))


@needs_no_cuda
def test_slurm_on_a_cpu(
    process_group: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[str] = []
    monkeypatch.setattr(
        torch.distributed, "init_process_group", lambda backend: started.append(backend)
    )
    for name in ("MASTER_PORT", "MASTER_ADDR", "WORLD_SIZE", "LOCAL_RANK"):
        monkeypatch.setenv(name, "")
    monkeypatch.setattr(dist_util.subprocess, "getoutput", lambda command: "localhost")
    dist_util._init_dist_slurm("nccl", port="29500")
    assert started == ["gloo"]


def test_model_to_device_alone(tmp_path: Path) -> None:
    net = torch.nn.Linear(1, 1)
    assert base_model(tmp_path).model_to_device(net) is net


def write_images(folder: Path, count: int, size: tuple[int, int] = (8, 8)) -> str:
    folder.mkdir()
    for index in range(count):
        image = np.random.default_rng(index).integers(0, 256, (*size, 3), np.uint8)
        cv2.imwrite(str(folder / f"{index}.png"), image)
    return str(folder)


def train_options(folder: Path, images: int, batch: int, total: int) -> dict[str, Any]:
    root = write_images(folder / "images", images)
    dataset = {
        "name": "tiny",
        "type": "PairedImageDataset",
        "phase": "train",
        "dataroot_gt": root,
        "dataroot_lq": root,
        "io_backend": {"type": "disk"},
        "batch_size_per_gpu": batch,
        "num_worker_per_gpu": 0,
    }
    return {
        "datasets": {"train": dataset},
        "world_size": 1,
        "rank": 0,
        "num_gpu": 0,
        "dist": False,
        "manual_seed": 0,
        "train": {"total_iter": total},
        "path": {},
    }


def iterations(result: tuple, first_epoch: int = 0) -> int:
    """How many iterations BasicSR's loop makes: it runs to the total, one epoch more."""
    loader, _, _, epochs, _ = result
    return (epochs + 1 - first_epoch) * len(loader)


def test_training_does_not_stop_short(tmp_path: Path) -> None:
    opt, logger = train_options(tmp_path, images=5, batch=3, total=30), logging.getLogger("tiny")
    assert iterations(basicsr.train.create_train_val_dataloader(opt, logger)) >= 30
    assert iterations(original(basicsr.train.create_train_val_dataloader)(opt, logger)) < 30


def test_resumed_training_with_larger_batches_does_not_stop_short(tmp_path: Path) -> None:
    opt, logger = train_options(tmp_path, images=6, batch=1, total=30), logging.getLogger("tiny")
    write_state(tmp_path / "states" / "1.state", 1)
    state = {"epoch": 14, "iter": 20, "optimizers": [], "schedulers": []}
    torch.save(state, tmp_path / "states" / "20.state")
    opt["path"]["resume_state"] = str(tmp_path / "states" / "20.state")
    result = basicsr.train.create_train_val_dataloader(opt, logger)
    assert 20 + iterations(result, first_epoch=14) >= 30


@pytest.mark.parametrize(
    ("images", "batch", "message"),
    [(5, 6, "batch_size_per_gpu is 6, images are 5"), (0, 1, "tiny holds no images")],
)
def test_too_few_images_are_told(tmp_path: Path, images: int, batch: int, message: str) -> None:
    opt, logger = train_options(tmp_path, images, batch, total=30), logging.getLogger("tiny")
    with pytest.raises(ValueError, match=message) as caught:
        basicsr.train.create_train_val_dataloader(opt, logger)
    assert "\n" not in str(caught.value)
    released = original(basicsr.train.create_train_val_dataloader)
    if images:
        assert iterations(released(opt, logger)) == 0
    else:
        with pytest.raises(ZeroDivisionError):
            released(opt, logger)


def warm_up(
    update: Callable[..., None], milestones: list[int], resume_at: int | None = None
) -> list[float]:
    """The learning rates of 12 iterations with a warm-up of 6, optionally resumed on the way."""

    def start() -> SimpleNamespace:
        scheduler = multi_step(milestones)
        model = SimpleNamespace(schedulers=[scheduler], optimizers=[scheduler.optimizer])
        model._get_init_lr = lambda: BaseModel._get_init_lr(model)
        model._set_lr = lambda groups: BaseModel._set_lr(model, groups)
        return model

    model, rates = start(), []
    for iteration in range(1, 13):
        update(model, iteration, warmup_iter=6)
        model.optimizers[0].step()
        rates.append(model.optimizers[0].param_groups[0]["lr"])
        if iteration == resume_at:
            saved = model.optimizers[0].state_dict(), model.schedulers[0].state_dict()
            model = start()
            model.optimizers[0].load_state_dict(saved[0])
            model.schedulers[0].load_state_dict(saved[1])
    return rates


@pytest.mark.parametrize("resume_at", [None, 1, 3, 5, 6])
def test_warm_up_ends_at_the_learning_rate(resume_at: int | None) -> None:
    rising = [i / 6 for i in range(1, 6)]
    rates = warm_up(BaseModel.update_learning_rate, [9], resume_at)
    assert rates == pytest.approx(rising + [1] * 4 + [0.1] * 3)
    # a milestone within the warm-up counts after it
    rates = warm_up(BaseModel.update_learning_rate, [3], resume_at)
    assert rates == pytest.approx(rising + [0.1] * 7)


def test_warm_up_ended_too_low() -> None:
    rates = warm_up(original(BaseModel.update_learning_rate), [9])
    assert rates[5:9] == pytest.approx([5 / 6] * 4)


def test_cosine_past_its_periods() -> None:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = lr_scheduler.CosineAnnealingRestartLR(optimizer, periods=[4], eta_min=0.25)
    optimizer.step()
    rates = []
    for _ in range(6):
        scheduler.step()
        rates += scheduler.get_last_lr()
    assert rates[1] == pytest.approx(0.625)
    assert rates[3:] == pytest.approx([0.25] * 3)
    assert scheduler.last_epoch == 6
    with pytest.raises(TypeError):
        original(type(scheduler).get_lr)(scheduler)


@pytest.mark.parametrize("dist", [False, True])
def test_validation_is_of_an_iteration_that_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dist: bool
) -> None:
    model, seen = base_model(tmp_path, dist), []
    model.opt["train"] = {"total_iter": 4.0}
    name = "dist_validation" if dist else "nondist_validation"
    setattr(model, name, lambda loader, iteration, *rest: seen.append((iteration, *rest)))

    def validate(root: str, is_train: bool) -> None:
        """What BasicSR's loop calls first, in place of what it calls last."""
        model.validation([], 4, None, True)
        model.validation([], 5, None, save_img=True)
        original(BaseModel.validation)(model, [], 5, None, True)
        raise StopIteration

    monkeypatch.setattr(basicsr.train, "parse_options", validate)
    with pytest.raises(StopIteration):
        basicsr.train.train_pipeline(str(tmp_path))
    model.validation([], 5, None, True)  # of another loop
    assert seen == [(iteration, None, True) for iteration in (4, 4, 5, 5)]


@pytest.mark.parametrize("iteration", [50, 100, 101])
def test_eta_is_not_negative(iteration: int) -> None:
    lines: list[str] = []
    logger = SimpleNamespace(
        exp_name="tiny",
        max_iters=100,
        start_iter=1,
        start_time=time.time() - 1000,
        use_tb_logger=False,
        logger=SimpleNamespace(info=lines.append),
    )

    def values() -> dict[str, Any]:
        return {"epoch": 1, "iter": iteration, "lrs": [0.1], "time": 1.0, "data_time": 0.0}

    MessageLogger.__call__(logger, values())
    original(MessageLogger.__call__)(logger, values())
    assert "eta: 0:" in lines[0] and logger.max_iters == 100
    assert ("eta: -" in lines[1]) == (iteration >= 100)
