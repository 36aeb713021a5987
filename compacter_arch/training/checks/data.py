"""Checks of the data sets of an option file: they exist, are readable, and their pairs fit."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from ...data.raw_store import RawStore
from ...data.subsets_dataset import SubsetsDataset, subset_options
from ..device_images import check_room, device_of, is_kept
from ..options import Options
from .findings import Findings
from .quiet import quiet_logger

# How a complete file ends; a truncated one does not.
ENDINGS = {"PNG": b"IEND\xaeB`\x82", "JPEG": b"\xff\xd9"}
Size = tuple[int, int]  # height, width


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
            for member, part in zip(members, parts, strict=True):
                if len(member) == 0:
                    root = part.get("dataroot_gt") or part.get("dataroot_lq")
                    found.problems.append(f"{where}: no images in {root}")
                else:
                    check_images(where, member, part, found)
            if len(found.problems) == problems:
                dataset[0]
                if phase == "train" and is_kept(dataset):
                    check_room(dataset, device_of(opt))
                built[phase] = dataset
        if phase == "train" and phase in built:
            check_batch(opt, len(built[phase]), found)
        if len(found.problems) == problems:
            found.facts.append(f"{where}: {dataset_opt['name']}, {describe_size(built[phase])}")
    return built


def check_paths(where: str, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """Every folder and file that the data set names exists."""
    for key, value in dataset_opt.items():
        if not (key.startswith("dataroot") or key == "meta_info_file") or value is None:
            continue
        for path in value if isinstance(value, list) else [value]:
            if not Path(str(path)).exists():
                here = "" if Path(str(path)).is_absolute() else f" below {Path.cwd()}"
                found.problems.append(f"{where}.{key}: {path} does not exist{here}")
            elif not Path(str(path)).is_dir() and key != "meta_info_file":
                found.problems.append(f"{where}.{key}: {path} is not a folder")


def check_stores(where: str, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """Raw stores are whole, and are given to a type that reads them."""
    if dataset_opt.get("io_backend", {}).get("type") != "raw":
        return
    if dataset_opt["type"] == "PairedImageDataset":
        found.problems.append(
            f"{where}.type: PairedImageDataset does not read raw stores; use RawPairedImageDataset"
        )
    for key in ("dataroot_gt", "dataroot_lq"):
        if dataset_opt.get(key) is not None:
            with found.blame(f"{where}.{key}"):
                RawStore(dataset_opt[key])


def check_pairs(where: str, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """Every image of a folder of GT has an image in the folder of LQ, and the other way round."""
    if dataset_opt["io_backend"].get("type") != "disk" or dataset_opt.get("meta_info_file"):
        return
    roots = [Path(dataset_opt[key]) for key in ("dataroot_gt", "dataroot_lq") if key in dataset_opt]
    if len(roots) < 2:
        return
    gt, lq = ({path.name for path in root.glob("[!.]*") if path.is_file()} for root in roots)
    template = dataset_opt.get("filename_tmpl", "{}")
    wanted = {f"{template.format(Path(name).stem)}{Path(name).suffix}" for name in gt}
    alone = [roots[1] / name for name in sorted(wanted - lq)]
    odd = [roots[1] / name for name in sorted(lq - wanted)]
    if alone or odd:
        counts = f"{len(gt):,} images in {roots[0]} and {len(lq):,} in {roots[1]}"
        example = f"{alone[0]} is missing" if alone else f"{odd[0]} has no GT"
        found.problems.append(f"{where}: {counts} do not pair up: {example}")


def check_images(where: str, dataset: Any, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """Every image is complete, fits its pair and holds a patch; read from the headers alone.

    The first that does not is named, the others are counted.
    """
    wrong = []
    scale, train = dataset_opt.get("scale", 1), dataset_opt["phase"] == "train"
    patch = dataset_opt.get("gt_size") if train else None
    for gt, lq in image_pairs(dataset, dataset_opt):
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


def fits(gt: Size, lq: Size, scale: int, exactly: bool) -> bool:
    """Whether GT is ``scale`` times LQ; for testing it may be a little larger, BasicSR crops it."""
    slack = 0 if exactly else scale - 1
    return all(0 <= g - x * scale <= slack for g, x in zip(gt, lq, strict=True))


def image_pairs(
    dataset: Any, dataset_opt: Mapping[str, Any]
) -> Iterator[tuple[tuple[str, Size] | None, tuple[str, Size] | None]]:
    """(gt, lq) of every sample, each (path, size); nothing for data sets that list no paths."""
    backend = dataset_opt.get("io_backend", {}).get("type")
    sizes_of = {"lmdb": lmdb_sizes, "raw": raw_sizes}.get(backend)
    sizes = {
        side: sizes_of(dataset_opt[f"dataroot_{side}"])
        for side in ("gt", "lq")
        if sizes_of and dataset_opt.get(f"dataroot_{side}")
    }
    for sample in getattr(dataset, "paths", []):
        paths = sample if isinstance(sample, dict) else {"lq_path": sample}

        def side(name: str, paths: Mapping[str, Any] = paths) -> tuple[str, Size] | None:
            path = paths.get(f"{name}_path")
            if not isinstance(path, str):
                return None
            if sizes_of is None:
                return path, image_size(Path(path))
            size = sizes.get(name, {}).get(path)
            return (f"key {path!r} of {dataset_opt[f'dataroot_{name}']}", size) if size else None

        yield side("gt"), side("lq")


def image_size(path: Path) -> Size:
    """Height and width of an image file, from its header.

    Raises:
        ValueError: not an image, or a truncated one; names the file.
    """
    try:
        with Image.open(path) as image:
            width, height = image.size
            ending = ENDINGS.get(image.format or "")
    except UnidentifiedImageError as error:
        raise ValueError(f"{path} is not an image") from error
    except (OSError, SyntaxError) as error:  # what Pillow raises on damaged files
        raise ValueError(f"{path} cannot be read: {error}") from error
    if ending is not None:
        with path.open("rb") as file:
            file.seek(max(path.stat().st_size - 64, 0))
            if ending not in file.read():
                raise ValueError(f"{path} is truncated")
    return height, width


def lmdb_sizes(root: str) -> dict[str, Size]:
    """Image sizes by key from the ``meta_info.txt`` of an LMDB: ``name.png (480,480,3) 1``."""
    sizes = {}
    for line in (Path(root) / "meta_info.txt").read_text(encoding="utf-8").splitlines():
        match = re.match(r"(.+)\.\w+ \((\d+),(\d+),\d+\)", line)
        if match:
            sizes[match[1]] = (int(match[2]), int(match[3]))
    return sizes


def raw_sizes(root: str) -> dict[str, Size]:
    """Image sizes by name of a raw store."""
    return {name: entry.shape[:2] for name, entry in RawStore(root).entries.items()}


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
