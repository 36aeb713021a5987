"""Checks of single values of an option file: names, numbers, choices."""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...messages import shown
from ..nonfinite import SKIP, STOP
from ..options import Options
from .findings import Findings

COUNTS = (
    ("train", "total_iter"),
    ("logger", "print_freq"),
    ("logger", "save_checkpoint_freq"),
    ("logger", "keep_checkpoints"),
    ("val", "val_freq"),
)
NUMBERS = (("train", "ema_decay"), ("train", "warmup_iter"))
TEXTS = ("name", "type", "filename_tmpl", "meta_info_file", "dataroot_gt", "dataroot_lq")
NO_FOLDERS = ("resume", "pretrain_network", "param_key", "strict_load")  # of all else one is made
BACKENDS = ("disk", "lmdb", "raw", "memcached")
PREFETCH_MODES = (None, "cpu", "cuda")
LARGEST_SEED = 2**32 - 1_000_000  # NumPy's are below 2^32; each process adds its number
LONGEST_NAME = 200  # bytes; of 255 that a folder may have BasicSR needs some for dates
LARGEST_BATCH = 4096
WORKERS = max(64, 4 * (os.cpu_count() or 1))  # more of them than that only take memory
DATA_NUMBERS = {  # least and largest
    "gt_size": (1, 2**15),
    "batch_size_per_gpu": (1, LARGEST_BATCH),
    "num_worker_per_gpu": (0, WORKERS),
    "num_prefetch_queue": (1, LARGEST_BATCH),
}


def check_values(opt: Options, is_train: bool, found: Findings) -> None:
    """Names are folder names, paths are texts, numbers are in range, the GPUs exist."""
    scale, present = opt.get("scale", 1), torch.cuda.device_count()
    gpus, seed = opt["num_gpu"], opt.get("manual_seed")
    if not is_folder_name(opt["name"]):
        found.problems.append(f"name: {shown(opt['name'])} must be a plain folder name")
    if gpus != "auto" and not is_whole(gpus, 0):
        found.problems.append(f"num_gpu: {shown(gpus)} must be 'auto', 0 or the number of GPUs")
    elif gpus != "auto" and gpus > present:
        found.problems.append(f"num_gpu: {gpus}, but PyTorch sees {present}; use num_gpu: auto")
    if seed is not None and not is_whole(seed, 0, LARGEST_SEED):
        found.problems.append(
            f"manual_seed: {shown(seed)} must be a whole number of 0 to {LARGEST_SEED}"
        )
    for section, key in (*COUNTS, *NUMBERS) if is_train else ():
        value = (opt.get(section) or {}).get(key, 1)
        if (section, key) in COUNTS and not is_count(value):
            found.problems.append(
                f"{section}: {key}: {shown(value)} must be a whole number above 0"
            )
        elif not is_number(value):
            found.problems.append(f"{section}: {key}: {shown(value)} must be a number")
    nonfinite = opt["train"].get("nonfinite", STOP) if is_train else STOP
    if nonfinite not in (STOP, SKIP):
        found.problems.append(f"train.nonfinite: {shown(nonfinite)} must be {STOP} or {SKIP}")
    check_sections_below(opt, found)
    if is_train:
        check_wandb(opt, found)
    check_paths(opt["path"], found)
    if not is_whole(scale, 1):
        found.problems.append(f"scale: {shown(scale)} must be a whole number of at least 1")
        return
    upscale = opt.get("network_g", {}).get("upscale", scale)
    if "scale" in opt and upscale != scale:
        found.problems.append(f"network_g: upscale {shown(upscale)} differs from scale {scale}")
    for phase, dataset in opt["datasets"].items():
        check_dataset_values(f"datasets.{phase}", dataset, scale, found)


def check_sections_below(opt: Options, found: Findings) -> None:
    """Metrics and the like are sections, or are left out."""
    for section, key in (("val", "metrics"), ("logger", "wandb")):
        content = (opt.get(section) or {}).get(key)
        if content is not None and not isinstance(content, dict):
            found.problems.append(f"{section}.{key}: is not a section of `key: value`")


def check_wandb(opt: Options, found: Findings) -> None:
    """BasicSR asks for Weights & Biases after it has made the folders."""
    logger = opt.get("logger") or {}
    wandb = logger.get("wandb")
    project = wandb.get("project") if isinstance(wandb, dict) else None
    if project is None or "debug" in opt["name"]:  # which BasicSR does not send
        return
    if not isinstance(project, str) or not project:
        found.problems.append(f"logger.wandb.project: {shown(project)} must be a name, or ~")
    elif logger.get("use_tb_logger") is not True:
        found.problems.append(
            "logger.wandb.project: needs use_tb_logger: true; set that, or this to ~"
        )
    elif importlib.util.find_spec("wandb") is None:
        found.problems.append("logger.wandb.project: needs `pip install wandb`; or set it to ~")


def check_paths(paths: Mapping[str, Any], found: Findings) -> None:
    """What is below ``path`` are paths, and what belongs to a file of weights."""
    for key, value in paths.items():
        is_file = "resume_state" in key or "pretrain_network" in key
        if is_file and not isinstance(value, (str, type(None))):
            found.problems.append(f"path.{key}: {shown(value)} must be the path of a file")
        elif "param_key" in key and not isinstance(value, (str, type(None))):
            found.problems.append(f"path.{key}: {shown(value)} must be a name, or ~")
        elif "strict_load" in key and not isinstance(value, (bool, type(None))):
            found.problems.append(f"path.{key}: {shown(value)} must be true or false")
        elif not any(part in key for part in NO_FOLDERS) and not is_path(value):
            found.problems.append(f"path.{key}: {shown(value)} must be the path of a folder")


def check_dataset_values(
    where: str, dataset: Mapping[str, Any], scale: int, found: Findings
) -> None:
    """The values of one data set."""
    backend = dataset.get("io_backend", {"type": "disk"})
    if not isinstance(backend, dict) or not isinstance(backend.get("type"), str):
        found.problems.append(f"{where}.io_backend: must hold `type: disk`, `lmdb` or `raw`")
    elif backend["type"] not in BACKENDS:
        found.problems.append(
            f"{where}.io_backend.type: {shown(backend['type'])} must be disk, lmdb or raw"
        )
    for key in TEXTS:
        value = dataset.get(key)
        if not isinstance(value, (str, type(None))) or "\0" in (value or ""):
            what = "the path of a folder" if key.startswith("dataroot") else "text"
            found.problems.append(f"{where}.{key}: {shown(value)} must be {what}")
    for key, (least, largest) in DATA_NUMBERS.items():
        value = dataset.get(key, least)
        if not is_whole(value, least, largest):
            found.problems.append(
                f"{where}.{key}: {shown(value)} must be a whole number of at least {least}"
                f"{f' and at most {largest}' if is_whole(value, least) else ''}"
            )
        elif key == "gt_size" and dataset.get(key, 0) % scale:
            found.problems.append(f"{where}.gt_size: {value} must be a multiple of scale {scale}")
    ratio = dataset.get("dataset_enlarge_ratio", 1)
    if not is_number(ratio) or ratio <= 0:
        found.problems.append(f"{where}.dataset_enlarge_ratio: {shown(ratio)} must be above 0")
    mode = dataset.get("prefetch_mode")
    if mode not in PREFETCH_MODES:
        found.problems.append(f"{where}.prefetch_mode: {shown(mode)} must be ~, 'cpu' or 'cuda'")


def is_path(value: object) -> bool:
    """Whether a value can be the path of a folder."""
    return isinstance(value, str) and value.isprintable() and bool(value)


def is_folder_name(name: object) -> bool:
    """Whether a value is the name of a folder, such as any file system takes."""
    return (
        isinstance(name, str)
        and name.isprintable()
        and name.strip() == Path(name).name == name
        and name not in ("..", "")
        and len(name.encode()) <= LONGEST_NAME
    )


def is_number(value: object) -> bool:
    """Whether a value is a finite number; ``true`` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def is_whole(value: object, least: int, largest: float = math.inf) -> bool:
    """Whether a value is an integer of ``least`` to ``largest``; ``true`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= largest


def is_count(value: object) -> bool:
    """Whether a value is a whole number above 0, such as ``1e5``."""
    return is_number(value) and value > 0 and float(value).is_integer()  # type: ignore[operator,arg-type]
