"""Pairs of images: both are there, their sizes fit, they show the same."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from .alignment import misalignment
from .findings import Findings
from .headers import Size

PAIRED = ("PairedImageDataset", "RawPairedImageDataset")
SAMPLED = 16, 8_000_000  # pairs of which the pixels are compared, and pixels of GT in all


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


def fits(gt: Size, lq: Size, scale: int, exactly: bool) -> bool:
    """Whether GT is ``scale`` times LQ; for testing it may be a little larger, BasicSR crops it."""
    slack = 0 if exactly else scale - 1
    return all(0 <= g - x * scale <= slack for g, x in zip(gt, lq, strict=True))


def check_alignment(where: str, dataset_opt: Mapping[str, Any], found: Findings) -> None:
    """The images of some pairs show the same at the same place, else a warning.

    No more than that: real pairs of photographs may be a pixel apart, and what LQ and GT are is for
    the user to say. The same pairs are looked at each time, spread evenly.

    Args:
        where: the key of the data set.
        dataset_opt: its options, of one of :data:`PAIRED`.
        found: gets the warning.
    """
    from basicsr.data import build_dataset
    from basicsr.utils import tensor2img

    left_out = ("mean", "std", "color", "keep_on_device")
    plain = {key: value for key, value in dataset_opt.items() if key not in left_out}
    dataset = build_dataset(deepcopy(plain | {"phase": "val"}))  # whole images, as they are
    odd, pixels, looked = [], 0, 0
    count = min(len(dataset), SAMPLED[0])
    for number in range(count):
        sample = dataset[number * len(dataset) // count]
        gt, lq = tensor2img([sample["gt"], sample["lq"]])
        looked, pixels = looked + 1, pixels + gt.shape[0] * gt.shape[1]
        if reason := misalignment(gt, lq, dataset_opt["scale"]):
            odd.append(f"{sample['lq_path']}: {reason}")
        if pixels > SAMPLED[1]:
            break
    if odd:
        looked_at = f"; {len(odd)} of {looked} pairs that were compared"
        found.warnings.append(f"{where}: {odd[0]}{looked_at}; basicsr prepare verify names all")
