"""Several data sets of one kind as one: DF2K is DIV2K and Flickr2K, DFWB is four."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from torch.utils.data import ConcatDataset

TEMPLATES = ("dataroot_gt", "dataroot_lq", "meta_info_file")


def subset_options(opt: dict[str, Any]) -> list[dict[str, Any]]:
    """The options of each subset: ``{}`` in roots and ``meta_info_file`` replaced by its name.

    Args:
        opt: options of a :class:`SubsetsDataset`, or of any other data set, which is its own only
            subset.

    Raises:
        ValueError: there is no subset, or several that are the same.
    """
    if opt["type"] != SubsetsDataset.__name__:
        return [opt]
    subsets = opt["subsets"]
    if not isinstance(subsets, list) or not subsets:
        raise ValueError(f"subsets: {subsets!r} must be a list of names")
    parts = []
    for name in subsets:
        part = {key: deepcopy(value) for key, value in opt.items() if key != "subsets"}
        part["type"] = part.pop("subset_type")
        filled = {key: opt[key].format(name) for key in TEMPLATES if opt.get(key) is not None}
        parts.append(part | filled)
    for key in TEMPLATES:
        if opt.get(key) is not None and len({part[key] for part in parts}) < len(parts):
            raise ValueError(f"{key}: {opt[key]} must hold {{}} where the names of subsets differ")
    return parts


class SubsetsDataset(ConcatDataset[Any]):
    """One after the other, several data sets that differ in their roots alone.

    Args:
        opt: options of an option file:

            - subset_type: the type of each, such as ``PairedImageDataset``.
            - subsets: a list of names. Each takes the place of ``{}`` in ``dataroot_gt``,
              ``dataroot_lq`` and ``meta_info_file``.
            - everything else: the options of each.

    Raises:
        ValueError: there is no subset, or several that are the same.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        from basicsr.utils.registry import DATASET_REGISTRY

        self.opt = opt
        super().__init__([DATASET_REGISTRY.get(part["type"])(part) for part in subset_options(opt)])
        self.paths = [path for part in self.datasets for path in part.paths]  # type: ignore[attr-defined]
