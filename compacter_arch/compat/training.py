"""The training itself: devices, the number of epochs, learning rates and the remaining time."""

from __future__ import annotations

import logging
import math
import threading
from typing import Any

import torch

from .checkpoints import load_state
from .patching import Function, StandIn, patch, stand_in_for_torch


def repair_init_dist() -> None:
    """`utils/dist_util.py:23, 42`: a distributed run on CPUs divides by the number of GPUs.

    And it would ask for the NCCL backend, which has no CPU side.
    """
    from basicsr.utils import dist_util

    def device_count() -> int:
        return torch.cuda.device_count() or 1

    def set_device(device: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.set_device(device)

    cuda = StandIn(torch.cuda, device_count=device_count, set_device=set_device)
    stand_in_for_torch(dist_util, cuda=cuda)

    @patch(dist_util, "_init_dist_pytorch")
    @patch(dist_util, "_init_dist_slurm")
    def init(original: Function, backend: str, *args: Any, **kwargs: Any) -> None:
        original(backend if torch.cuda.is_available() else "gloo", *args, **kwargs)


def repair_model_to_device() -> None:
    """`models/base_model.py:98`: the distributed wrapper of a CPU model asks for a CUDA device."""
    from basicsr.models.base_model import BaseModel

    @patch(BaseModel, "model_to_device")
    def model_to_device(original: Function, self: Any, net: torch.nn.Module) -> torch.nn.Module:
        if not self.opt["dist"] or self.device.type != "cpu":
            return original(self, net)
        unused = self.opt.get("find_unused_parameters", False)
        return torch.nn.parallel.DistributedDataParallel(
            net.to(self.device), find_unused_parameters=unused
        )


def _epochs_needed(opt: dict, iters_per_epoch: int, total_iters: int) -> int:
    """The number of the epoch, counted from the first of the run, in which it is complete."""
    needed = math.ceil(total_iters / iters_per_epoch)
    if opt["path"].get("resume_state"):
        # a run that continues with larger batches has made more epochs than its iterations now
        # amount to
        state = load_state(opt["path"]["resume_state"])
        left = max(0, total_iters - state["iter"])
        needed = max(needed, state["epoch"] + math.ceil(left / iters_per_epoch))
    return needed


def repair_epochs() -> None:
    """`train.py:45-48`: epochs are counted with the last, incomplete batch, which the loader drops.

    The run stops short of `total_iter` with exit status 0. A batch larger than the dataset trains
    nothing and saves the untrained weights; an empty dataset is a ZeroDivisionError.
    """
    from basicsr import train

    @patch(train, "create_train_val_dataloader")
    def create_train_val_dataloader(original: Function, opt: dict, logger: logging.Logger) -> tuple:
        train_opt = opt["datasets"].get("train", {})
        name = f"The training dataset {train_opt.get('name')}"
        try:
            loader, sampler, val_loaders, epochs, total_iters = original(opt, logger)
        except ZeroDivisionError as error:
            raise ValueError(f"{name} holds no images ({train_opt.get('dataroot_gt')}).") from error
        if len(loader) == 0:
            raise ValueError(
                f"{name} has too few images for one batch: batch_size_per_gpu is "
                f"{train_opt['batch_size_per_gpu']}, images are {len(loader.dataset)} "
                f"(dataset_enlarge_ratio {train_opt.get('dataset_enlarge_ratio', 1)}, "
                f"{opt['world_size']} process(es))."
            )
        needed = _epochs_needed(opt, len(loader), total_iters)
        if needed != epochs:
            logger.info(
                f"Only full batches count: {len(loader)} iterations per epoch, {needed} epochs."
            )
        return loader, sampler, val_loaders, needed, total_iters


def repair_warmup() -> None:
    """`models/lr_scheduler.py:32`: after a warm-up the multi-step rate stays too low for good.

    It multiplies the rate that it finds, which the warm-up has just lowered; milestones inside the
    warm-up are lost. So the scheduler is given back the rate that it had left (kept in its state,
    hence also after a resume) before its step.
    """
    from basicsr.models.base_model import BaseModel

    @patch(BaseModel, "update_learning_rate")
    def update_learning_rate(
        original: Function, self: Any, current_iter: int, warmup_iter: int = -1
    ) -> None:
        if 1 < current_iter <= warmup_iter:
            for scheduler in self.schedulers:
                groups = scheduler.optimizer.param_groups
                for group, lr in zip(groups, scheduler.get_last_lr(), strict=True):
                    group["lr"] = lr
        original(self, current_iter, warmup_iter)


def repair_cosine() -> None:
    """`models/lr_scheduler.py:88`: the cosine scheduler is a TypeError past its last period.

    The rate now stays where the last period ended.
    """
    from basicsr.models.lr_scheduler import CosineAnnealingRestartLR

    @patch(CosineAnnealingRestartLR, "get_lr")
    def get_lr(original: Function, self: Any) -> list[float]:
        now = self.last_epoch
        try:
            self.last_epoch = min(now, self.cumulative_period[-1])
            return original(self)
        finally:
            self.last_epoch = now


_pipeline = threading.local()  # running: this thread is in BasicSR's `train_pipeline`


def repair_last_validation() -> None:
    """`train.py:207`: the validation at the end is reported for an iteration that was never made.

    The loop has counted one further, and the last values of the log, of TensorBoard and in the
    names of images are those of "iteration" total_iter + 1.
    """
    from basicsr import train
    from basicsr.models.base_model import BaseModel

    @patch(train, "train_pipeline")
    def train_pipeline(original: Function, *args: Any, **kwargs: Any) -> None:
        _pipeline.running = True
        try:
            original(*args, **kwargs)
        finally:
            _pipeline.running = False

    @patch(BaseModel, "validation")
    def validation(
        original: Function, self: Any, dataloader: Any, current_iter: Any, *args: Any, **kwargs: Any
    ) -> None:
        running = getattr(_pipeline, "running", False)
        if running and current_iter == self.opt["train"]["total_iter"] + 1:
            current_iter -= 1
        original(self, dataloader, current_iter, *args, **kwargs)


def repair_eta() -> None:
    """`utils/logger.py:101`: the remaining iterations are counted one short.

    The last line of a run says "eta: -1 day, 23:59:59".
    """
    from basicsr.utils.logger import MessageLogger

    @patch(MessageLogger, "__call__")
    def log(original: Function, self: Any, log_vars: dict) -> None:
        last = self.max_iters
        try:
            self.max_iters = max(last, log_vars["iter"] + 1)
            original(self, log_vars)
        finally:
            self.max_iters = last


REPAIRS = (
    repair_init_dist,
    repair_model_to_device,
    repair_epochs,
    repair_warmup,
    repair_cosine,
    repair_last_validation,
    repair_eta,
)
