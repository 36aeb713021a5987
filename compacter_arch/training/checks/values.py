"""Checks of single values of an option file: names, numbers, choices."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..options import Options
from .findings import Findings

COUNTS = (
    ("train", "total_iter"),
    ("logger", "print_freq"),
    ("logger", "save_checkpoint_freq"),
    ("val", "val_freq"),
)
NUMBERS = (("train", "ema_decay"), ("train", "warmup_iter"))
PREFETCH_MODES = (None, "cpu", "cuda")


def check_values(opt: Options, is_train: bool, found: Findings) -> None:
    """Names are folder names, paths are texts, numbers are in range, the GPUs exist."""
    name, scale, present = opt["name"], opt.get("scale", 1), torch.cuda.device_count()
    gpus, seed = opt["num_gpu"], opt.get("manual_seed")
    if not isinstance(name, str) or Path(name).name != name or name == "..":
        found.problems.append(f"name: {name!r} must be a plain folder name")
    if gpus != "auto" and not is_whole(gpus, 0):
        found.problems.append(f"num_gpu: {gpus!r} must be 'auto', 0 or the number of GPUs")
    elif gpus != "auto" and gpus > present:
        found.problems.append(f"num_gpu: {gpus}, but PyTorch sees {present}; use num_gpu: auto")
    if seed is not None and not is_whole(seed, 0):
        found.problems.append(f"manual_seed: {seed!r} must be a whole number of at least 0")
    for section, key in (*COUNTS, *NUMBERS) if is_train else ():
        value = (opt.get(section) or {}).get(key, 1)
        if (section, key) in COUNTS and not is_count(value):
            found.problems.append(f"{section}: {key}: {value!r} must be a whole number above 0")
        elif not is_number(value):
            found.problems.append(f"{section}: {key}: {value!r} must be a number")
    metrics = (opt.get("val") or {}).get("metrics")
    if metrics is not None and not isinstance(metrics, dict):
        found.problems.append("val.metrics: is not a section of `name: {type: ...}`")
    for key, value in opt["path"].items():
        is_file = "resume_state" in key or "pretrain_network" in key
        if is_file and not isinstance(value, (str, type(None))):
            found.problems.append(f"path.{key}: {value!r} must be the path of a file")
    if not is_whole(scale, 1):
        found.problems.append(f"scale: {scale!r} must be a whole number of at least 1")
        return
    upscale = opt.get("network_g", {}).get("upscale", scale)
    if "scale" in opt and upscale != scale:
        found.problems.append(f"network_g: upscale {upscale!r} differs from scale {scale}")
    for phase, dataset in opt["datasets"].items():
        check_dataset_values(f"datasets.{phase}", dataset, scale, found)


def check_dataset_values(
    where: str, dataset: Mapping[str, Any], scale: int, found: Findings
) -> None:
    """The values of one data set."""
    backend = dataset.get("io_backend", {"type": "disk"})
    if not isinstance(backend, dict) or "type" not in backend:
        found.problems.append(f"{where}.io_backend: must hold `type: disk`, `lmdb` or `raw`")
    for key in ("dataroot_gt", "dataroot_lq"):
        if not isinstance(dataset.get(key), (str, type(None))):
            found.problems.append(f"{where}.{key}: {dataset[key]!r} must be the path of a folder")
    for key, least in (("gt_size", 1), ("batch_size_per_gpu", 1), ("num_worker_per_gpu", 0)):
        if not is_whole(dataset.get(key, least), least):
            found.problems.append(
                f"{where}.{key}: {dataset[key]!r} must be a whole number of at least {least}"
            )
        elif key == "gt_size" and dataset.get(key, 0) % scale:
            found.problems.append(
                f"{where}.gt_size: {dataset[key]} must be a multiple of scale {scale}"
            )
    ratio = dataset.get("dataset_enlarge_ratio", 1)
    if not is_number(ratio) or ratio <= 0:
        found.problems.append(f"{where}.dataset_enlarge_ratio: {ratio!r} must be above 0")
    if dataset.get("prefetch_mode") not in PREFETCH_MODES:
        mode = dataset["prefetch_mode"]
        found.problems.append(f"{where}.prefetch_mode: {mode!r} must be ~, 'cpu' or 'cuda'")


def is_number(value: object) -> bool:
    """Whether a value is a number; ``true`` is none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def is_whole(value: object, least: int) -> bool:
    """Whether a value is an integer of at least ``least``; ``true`` is none."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def is_count(value: object) -> bool:
    """Whether a value is a whole number above 0, such as ``1e5``."""
    return is_number(value) and value > 0 and float(value).is_integer()  # type: ignore[operator,arg-type]
