"""Checks of the data sets of an option file: they exist, are readable, and their pairs fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from ...data.raw_store import RawStore
from ...data.subsets_dataset import SubsetsDataset, subset_options
from ..device_images import check_room, device_of, is_kept
from ..options import Options
from .findings import Findings
from .headers import Header, Size, read_header
from .kinds import Kinds, and_more
from .lists import read_list
from .lmdb_files import lmdb_headers, lmdb_sizes
from .names import equal_stems, odd_entries
from .pairs import PAIRED, check_alignment, check_pairs, fits
from .quiet import quiet_logger


def check_data(opt: Options, is_train: bool, found: Findings) -> dict[str, Any]:
    """Check all data sets.

    Args:
        opt: completed options, so that each data set has its phase and scale.

    Returns:
        The data sets by phase, as BasicSR builds them; without those that have a problem.
    """
    from basicsr.data import build_dataset

    built = {}
    for phase, dataset_opt in opt["datasets"].items():
        where, problems = f"datasets.{phase}", len(found.problems)
        with found.blame(where), quiet_logger():
            parts = subset_options(dataset_opt)
            for part in parts:
                check_paths(where, part, found)
                if len(found.problems) == problems:
                    check_stores(where, part, found)
                if part["type"] == "PairedImageDataset" and len(found.problems) == problems:
                    check_pairs(where, part, found)
            if len(found.problems) > problems:
                continue
            dataset = build_dataset(deepcopy(dataset_opt))
            members: list[Any] = (
                dataset.datasets if isinstance(dataset, SubsetsDataset) else [dataset]
            )
            kinds = Kinds()
            for member, part in zip(members, parts, strict=True):
                if len(member) == 0:
                    root = part.get("dataroot_gt") or part.get("dataroot_lq")
                    found.problems.append(f"{where}: no images in {root}")
                else:
                    check_images(where, member, part, kinds, found)
            if len(found.problems) == problems:
                if dataset[0].get("lq", torch.empty(1, 1, 1)).shape[-3] == 3 and kinds.all_gray:
                    found.warnings.append(f"{where}: all images are gray, and are read as color")
                for part in parts:
                    if part["type"] in PAIRED:
                        check_alignment(where, part, found)
                if phase == "train" and is_kept(dataset):
                    check_room(dataset, device_of(opt))
                built[phase] = dataset
            found.warnings += [f"{where}: {line}" for line in kinds.lines()]
        if phase == "train" and phase in built:
            check_batch(opt, len(built[phase]), found)
        if len(found.problems) == problems:
            found.facts.append(f"{where}: {dataset_opt['name']}, {describe_size(built[phase])}")
    if (opt.get("val") or {}).get("save_img"):
        check_results(opt, is_train, built, found)
    return built


def check_paths(where: str, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """Every folder and file that the data set names exists; folders hold files, lists name them."""
    for key, value in dataset_opt.items():
        if not (key.startswith("dataroot") or key == "meta_info_file") or value is None:
            continue
        for path in map(Path, map(str, value if isinstance(value, list) else [value])):
            if not path.exists():
                here = "" if path.is_absolute() else f" below {Path.cwd()}"
                found.problems.append(f"{where}.{key}: {path} does not exist{here}")
            elif key == "meta_info_file":
                with found.blame(f"{where}.{key}"):
                    names = read_list(path)
                    if twice := len(names) - len(set(names)):
                        found.warnings.append(f"{where}.{key}: {path} names {twice:,} images twice")
            elif not path.is_dir():
                found.problems.append(f"{where}.{key}: {path} is not a folder")
            elif odd := list(odd_entries(path)):
                found.problems.append(f"{where}.{key}: {and_more(odd)}")


def check_stores(where: str, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """Lists of LMDBs are whole; raw stores, too, and are given to a type that reads them."""
    backend = dataset_opt.get("io_backend", {}).get("type")
    if backend not in ("lmdb", "raw"):
        return
    if backend == "raw" and dataset_opt["type"] == "PairedImageDataset":
        found.problems.append(
            f"{where}.type: PairedImageDataset does not read raw stores; use RawPairedImageDataset"
        )
    for key in ("dataroot_gt", "dataroot_lq"):
        if dataset_opt.get(key) is not None:
            with found.blame(f"{where}.{key}"):
                if backend == "raw":
                    RawStore(dataset_opt[key])
                else:
                    lmdb_sizes(Path(dataset_opt[key]))


def check_images(
    where: str, dataset: Any, dataset_opt: Mapping[str, Any], kinds: Kinds, found: Findings
) -> None:
    """Every image is complete, fits its pair and holds a patch; read from the headers alone.

    The first that does not is named, the others are counted.
    """
    wrong = []
    scale, train = dataset_opt.get("scale", 1), dataset_opt["phase"] == "train"
    patch = dataset_opt.get("gt_size") if train else None
    for gt, lq in image_pairs(dataset, dataset_opt, kinds):
        if gt and lq and not fits(gt[1], lq[1], scale, exactly=train):
            wrong.append(
                f"{where}: {lq[0]} has {lq[1][0]}x{lq[1][1]} pixels and does not fit "
                f"{gt[0]} with {gt[1][0]}x{gt[1][1]} at scale {scale}"
            )
        elif gt and patch and min(gt[1]) < patch:
            wrong.append(
                f"{where}.gt_size: {patch} is larger than {gt[0]} with {gt[1][0]}x{gt[1][1]} pixels"
            )
    if wrong:
        others = f" (and {len(wrong) - 1:,} more like it)" if len(wrong) > 1 else ""
        found.problems.append(wrong[0] + others)


def image_pairs(
    dataset: Any, dataset_opt: Mapping[str, Any], kinds: Kinds
) -> Iterator[tuple[tuple[str, Size] | None, tuple[str, Size] | None]]:
    """(gt, lq) of every sample, each (path, size); nothing for data sets that list no paths.

    Args:
        kinds: counts the images.
    """
    backend = dataset_opt.get("io_backend", {}).get("type")
    packed = {
        side: dict(lmdb_headers(Path(root))) if backend == "lmdb" else raw_headers(root)
        for side in ("gt", "lq")
        if backend in ("lmdb", "raw") and (root := dataset_opt.get(f"dataroot_{side}"))
    }
    for sample in getattr(dataset, "paths", []):
        paths = sample if isinstance(sample, dict) else {"lq_path": sample}

        def side(name: str, paths: Mapping[str, Any] = paths) -> tuple[str, Size] | None:
            path = paths.get(f"{name}_path")
            if not isinstance(path, str):
                return None
            if backend not in ("lmdb", "raw"):
                header: Header | None = read_header(Path(path))
            else:
                header = packed.get(name, {}).get(path)
                path = f"key {path!r} of {dataset_opt[f'dataroot_{name}']}"
            if header is None:
                return None
            if not header.readable:
                raise ValueError(f"{path}: {header.mode} is no image of 8 bits; convert it to PNG")
            kinds.add(path, header)
            return path, header.size

        yield side("gt"), side("lq")


def raw_headers(root: str) -> dict[str, Header]:
    """Of the images of a raw store, by name, what a header would tell."""
    return {
        name: Header(entry.shape[:2], "L" if entry.shape[2] == 1 else "RGB", False, False)
        for name, entry in RawStore(root).entries.items()
    }


def check_results(opt: Options, is_train: bool, built: Mapping[str, Any], found: Findings) -> None:
    """No two restored images are saved under one name; in training those of all data sets meet."""
    by_folder: dict[str, list[str]] = {}
    for phase, dataset in built.items():
        if phase != "train":
            folder = "" if is_train else opt["datasets"][phase]["name"]
            by_folder.setdefault(folder, []).extend(lq_paths(dataset))
    for paths in by_folder.values():
        for one, other in equal_stems(paths):
            line = f"val.save_img: the results of {one} and {other} have one name; rename one"
            same = Path(one).stem == Path(other).stem
            (found.problems if same else found.warnings).append(line)
            break


def lq_paths(dataset: Any) -> Iterator[str]:
    """The paths after which results are named."""
    for sample in getattr(dataset, "paths", []):
        path = sample.get("lq_path", sample.get("gt_path")) if isinstance(sample, dict) else sample
        if isinstance(path, str):
            yield path


def check_batch(opt: Options, images: int, found: Findings) -> None:
    """An epoch holds at least one whole batch, else nothing would be trained."""
    dataset_opt = opt["datasets"]["train"]
    ratio = dataset_opt.get("dataset_enlarge_ratio", 1)
    batch = dataset_opt["batch_size_per_gpu"] * max(opt["num_gpu"], 1)
    if batch > images * ratio:
        found.problems.append(
            f"datasets.train.batch_size_per_gpu: a batch of {batch} is larger than an epoch of "
            f"{images} images x dataset_enlarge_ratio {ratio}; make the batch smaller or the ratio "
            "larger"
        )


def describe_size(dataset: Any) -> str:
    """``800 pairs`` or ``100 images``."""
    sample = getattr(dataset, "paths", [None])[0]
    kind = "pairs" if isinstance(sample, dict) and len(sample) > 1 else "images"
    return f"{len(dataset):,} {kind}"
