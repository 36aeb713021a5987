"""Training: BasicSR's data sets, models, loggers and validation in a loop that can stop."""

from __future__ import annotations

import logging
import os.path as osp
from itertools import chain, count
from pathlib import Path
from typing import Any

import torch
from basicsr.models import build_model
from basicsr.train import create_train_val_dataloader, init_tb_loggers, load_resume_state
from basicsr.utils import (
    AvgTimer,
    get_env_info,
    get_root_logger,
    get_time_str,
    make_exp_dirs,
    mkdir_and_rename,
)
from basicsr.utils.dist_util import master_only
from basicsr.utils.options import copy_opt_file, dict2str

from .comparison import compare_with_input
from .interrupts import StopRequest
from .options import Options
from .progress import Progress
from .sampling import Batches


def train(opt: Options, opt_file: Path, stop: StopRequest) -> str:
    """Train as an option file says.

    Args:
        opt: completed and checked options.
        opt_file: the file that they come from; a copy is kept beside the results.
        stop: entered; asked after every iteration whether to stop.

    Returns:
        Why the run was asked to stop; empty if it was not, and all is done.
    """
    torch.backends.cudnn.benchmark = True
    resume_state = load_resume_state(opt)
    open_folders(opt, fresh=resume_state is None)
    copy_opt_file(opt_file, opt["path"]["experiments_root"])
    logger = open_log(opt, "train")
    tb_logger = init_tb_loggers(opt)
    # Page-locked batches are copied to a GPU without being waited for.
    opt["datasets"]["train"].setdefault("pin_memory", opt["num_gpu"] != 0)
    loader, _, val_loaders, _, total_iters = create_train_val_dataloader(opt, logger)
    model = build_model(opt)
    iteration = 0
    if resume_state is not None:
        model.resume_training(resume_state)
        iteration = resume_state["iter"]
        logger.info(f"Resuming after iteration {iteration:,}.")

    validated = False

    def validate() -> None:
        for val_loader in val_loaders:
            model.validation(val_loader, iteration, tb_logger, opt["val"]["save_img"])

    data_timer, iter_timer = AvgTimer(), AvgTimer()
    with Progress(opt, iteration, tb_logger) as progress, Batches(loader, opt) as batches:
        while iteration < total_iters and not stop.agreed(iteration):
            epoch = iteration // len(loader)
            data_timer.start()
            iter_timer.start()
            for batch in batches.epoch(iteration):
                data_timer.record()
                iteration += 1
                model.update_learning_rate(iteration, opt["train"].get("warmup_iter", -1))
                model.feed_data(batch)
                model.optimize_parameters(iteration)
                iter_timer.record()
                progress.update(
                    epoch, iteration, model, data_timer.get_avg_time(), iter_timer.get_avg_time()
                )
                if iteration % opt["logger"]["save_checkpoint_freq"] == 0:
                    model.save(epoch, iteration)
                validated = False
                if opt.get("val") and iteration % opt["val"]["val_freq"] == 0:
                    validated = stop.unless_stopped(validate)
                if iteration >= total_iters or stop.agreed(iteration):
                    break
                data_timer.start()
                iter_timer.start()

    if iteration < total_iters:
        model.save(iteration // len(loader), iteration)
        logger.info(
            f"Stopped by {stop.reason} after iteration {iteration:,} of {total_iters:,}; "
            f"state saved. Go on with: basicsr train -opt {opt_file} --auto_resume"
        )
    else:
        logger.info(f"All {total_iters:,} iterations are done; saving the latest model.")
        model.save(epoch=-1, current_iter=-1)
        if opt.get("val") and not validated:
            stop.unless_stopped(validate)
        if opt.get("val") and opt["val"].get("comparison"):
            compare = master_only(compare_with_input)
            stop.unless_stopped(lambda: compare(model, val_loaders, opt))
    if tb_logger:
        tb_logger.close()
    return stop.reason


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
