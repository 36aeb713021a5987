"""Training: BasicSR's data sets, models, loggers and validation in a loop that can stop."""

from __future__ import annotations

import logging
import os.path as osp
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from basicsr.models import build_model
from basicsr.train import create_train_val_dataloader, load_resume_state
from basicsr.utils import (
    get_env_info,
    get_root_logger,
    get_time_str,
    make_exp_dirs,
    mkdir_and_rename,
)
from basicsr.utils.options import copy_opt_file, dict2str

from .interrupts import StopRequest
from .lock import only_run
from .options import Options
from .run import Run


def train(opt: Options, opt_file: Path, stop: StopRequest) -> str:
    """Train as an option file says.

    Args:
        opt: completed and checked options.
        opt_file: the file that they come from; a copy is kept beside the results.
        stop: entered; asked after every iteration whether to stop.

    Returns:
        Why the run was asked to stop; empty if it was not, and all is done.

    Raises:
        UserError: a training of this name is under way.
        ValueError: the data cannot be used, or a loss, gradient or metric is not finite.
        OSError: the disk is full, files cannot be read or written, or another process of a
            distributed run is gone.
    """
    torch.backends.cudnn.benchmark = True
    root = opt["path"]["experiments_root"]
    with only_run(Path(root), opt["rank"]):
        state = load_resume_state(opt)
        open_folders(opt, fresh=state is None)
        copy_opt_file(opt_file, root)
        logger = open_log(opt, "train")
        if state is not None and state.get("manual_seed", opt["manual_seed"]) != opt["manual_seed"]:
            opt["manual_seed"] = state["manual_seed"]
            logger.info(f"manual_seed: {opt['manual_seed']}, as the run began.")
        # Page-locked batches are copied to a GPU without being waited for.
        opt["datasets"]["train"].setdefault("pin_memory", opt["num_gpu"] != 0)
        loader, _, val_loaders, _, total_iters = create_train_val_dataloader(opt, logger)
        run = Run(build_model(opt), opt, loader, val_loaders, stop)
        if state is not None:
            run.resume(state)
        go_on = f"o on with: basicsr train -opt {opt_file} --auto_resume"
        try:
            run.train(total_iters)
        except FloatingPointError as error:
            run.save()
            raise ValueError(
                f"{error}. State before it saved; lower the learning rate, set train.grad_clip, "
                f"mend the data, or set train.nonfinite: skip, and g{go_on}"
            ) from error
        except RuntimeError as error:
            if not lost_process(error):
                raise
            reason = str(error).strip().partition("\n")[0]
            raise ConnectionError(
                f"another process of this run has ended, or cannot be reached ({reason}); its own "
                f"message tells why. G{go_on}"
            ) from error
        if run.iteration < total_iters:
            run.save()
            logger.info(
                f"Stopped by {stop.reason} after iteration {run.iteration:,} of {total_iters:,}; "
                f"state saved. G{go_on}"
            )
        else:
            logger.info(f"All {total_iters:,} iterations are done; saving the latest model.")
            run.finish()
        if run.tb_logger:
            run.tb_logger.close()
    return stop.reason


def lost_process(error: RuntimeError) -> bool:
    """Whether the processes of a distributed run cannot exchange numbers any more."""
    if not torch.distributed.is_initialized():
        return False
    return isinstance(error, torch.distributed.DistBackendError) or "gloo" in str(error)


def open_folders(opt: Options, fresh: bool) -> None:
    """Create the folders of a fresh run; those of an earlier run of its name are renamed."""
    if not fresh:
        return
    make_exp_dirs(opt)
    if opt["logger"]["use_tb_logger"] and "debug" not in opt["name"] and opt["rank"] == 0:
        mkdir_and_rename(osp.join(opt["root_path"], "tb_logger", opt["name"]))


def open_log(opt: Options, command: str) -> Any:
    """BasicSR's logger, writing to the terminal and below the folder of the results."""
    stem = f"{command}_{opt['name']}_{get_time_str()}"
    names = chain([f"{stem}.log"], (f"{stem}_{number}.log" for number in count(2)))
    files = (Path(opt["path"]["log"], name) for name in names)
    log_file = next(file for file in files if not file.exists())  # BasicSR would write over it
    logger = get_root_logger(log_level=logging.INFO, log_file=str(log_file))
    logger.info(get_env_info())
    logger.info(dict2str(opt))
    return logger
