"""Pairs of images from raw stores: BasicSR's samples at a fraction of the time."""

from __future__ import annotations

import random
from typing import Any, NamedTuple

import numpy as np
import torch
from basicsr.utils import bgr2ycbcr, img2tensor
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import normalize

from .raw_store import Entry, RawStore, Turn, View, view_of


class Pair(NamedTuple):
    """The two images of a sample, or their views."""

    gt: Any
    lq: Any


class RawPairedImageDataset(Dataset[dict[str, Any]]):
    """``PairedImageDataset`` on raw stores: with the same seed the same samples, bit for bit.

    Crop, flips, rotation and the order of the channels are one strided view of the ``uint8``
    pixels; it is copied once and becomes float32 once.

    Args:
        opt: options of an option file, those of BasicSR's ``PairedImageDataset``:

            - dataroot_gt, dataroot_lq: the stores, see :mod:`~compacter_arch.data.raw_store`.
            - io_backend: ``{type: raw}``.
            - meta_info_file, filename_tmpl, gt_size, use_hflip, use_rot, color, mean, std: as
              there.
            - keep_on_device: the images are copied to the GPU, or whatever trains, and batches
              made there, by ``basicsr train``. Nothing is read by workers. (default false)
            - phase, scale: BasicSR fills them in.

    Raises:
        ValueError: a store is missing or damaged, images have no partner, or a key has a value
            that it cannot have.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        if opt["io_backend"] != {"type": "raw"}:
            raise ValueError(
                f"io_backend: {opt['io_backend']} must be {{type: raw}} for RawPairedImageDataset"
            )
        self.keep_on_device = opt.get("keep_on_device", False)
        if not isinstance(self.keep_on_device, bool):
            raise ValueError(f"keep_on_device: {self.keep_on_device!r} must be true or false")
        self.train, self.scale = opt["phase"] == "train", opt["scale"]
        if self.keep_on_device and not self.train:
            raise ValueError("keep_on_device: true is for training alone; leave it out")
        if self.keep_on_device and opt.get("color") == "y":
            raise ValueError("keep_on_device: true makes RGB alone; leave out one of it and color")
        if self.train and opt["gt_size"] % self.scale:
            raise ValueError(f"gt_size: {opt['gt_size']} must be a multiple of scale {self.scale}")
        self.stores = Pair(RawStore(opt["dataroot_gt"]), RawStore(opt["dataroot_lq"]))
        self.paths = self.pair_names()
        entries, others = (store.entries for store in self.stores)
        self.pairs = [Pair(entries[p["gt_path"]], others[p["lq_path"]]) for p in self.paths]

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``lq`` and ``gt``: (3, H, W) float32, RGB in [0, 1]; their names."""
        sample: dict[str, Any] = dict(self.paths[index])
        views = self.draw(index)
        for key, store, view in zip(Pair._fields, self.stores, views, strict=True):
            patch = torch.from_numpy(np.ascontiguousarray(store.planes(view)))
            sample[key] = self.to_float(patch)
        return sample

    def pair_names(self) -> list[dict[str, str]]:
        """``gt_path`` and ``lq_path`` of every sample, in the order of GT."""
        gt, lq = self.stores
        listed, template = self.opt.get("meta_info_file"), self.opt.get("filename_tmpl", "{}")
        pairs = [(template.format(name), name) for name in gt.names(listed)]
        alone = [name for name, _ in pairs if name not in lq.entries]
        odd = [] if listed else sorted(lq.entries.keys() - {name for name, _ in pairs})
        if alone or odd:
            example = f"{alone[0]!r} is missing" if alone else f"{odd[0]!r} has no GT"
            raise ValueError(
                f"{len(pairs):,} images of {gt.root} and {len(lq.entries):,} of {lq.root} do not "
                f"pair up: {example}; make both anew with basicsr prepare raw"
            )
        return [{"lq_path": lq_name, "gt_path": gt_name} for lq_name, gt_name in pairs]

    def draw(self, index: int) -> Pair:
        """What sample ``index`` shows of its two images: :class:`View` of ``gt`` and ``lq``.

        In training these are the calls of ``random`` of BasicSR's ``paired_random_crop`` and
        ``augment``, in their order.

        Raises:
            ValueError: the images do not fit each other or the patch.
        """
        gt, lq = self.pairs[index]
        (height, width, _), (h, w, _), scale = gt.shape, lq.shape, self.scale
        if not self.train:  # BasicSR cuts what LQ does not show
            height, width = min(height, h * scale), min(width, w * scale)
            return Pair(whole(gt, height, width), whole(lq, h, w))
        size = self.opt["gt_size"]
        side = size // scale
        if (height, width) != (h * scale, w * scale) or min(h, w) < side:
            raise ValueError(
                f"{gt.name} of {self.stores.gt.root}: GT of {height}x{width} and LQ of {h}x{w} "
                f"pixels do not hold a patch of {size} at scale {scale}; prepare both anew"
            )
        top, left = random.randint(0, h - side), random.randint(0, w - side)
        rotate = self.opt["use_rot"]
        turn = Turn(
            hflip=self.opt["use_hflip"] and random.random() < 0.5,
            vflip=rotate and random.random() < 0.5,
            rot90=rotate and random.random() < 0.5,
        )
        return Pair(
            view_of(gt, top * scale, left * scale, size, size, turn),
            view_of(lq, top, left, side, side, turn),
        )

    def to_float(self, patch: Tensor) -> Tensor:
        """(..., 3, H, W) uint8 of any device -> float32, 255 becomes 1, as the options say."""
        # By a tensor: a GPU multiplies by 1 / 255 in place of dividing by a number.
        image = patch.float().div_(torch.full((), 255.0, device=patch.device))
        if self.opt.get("color") == "y":
            bgr = np.ascontiguousarray(image.numpy()[::-1].transpose(1, 2, 0))
            image = img2tensor(bgr2ycbcr(bgr, y_only=True)[..., None])
        mean, std = self.opt.get("mean"), self.opt.get("std")
        if mean is not None or std is not None:
            normalize(image, mean, std, inplace=True)
        return image


def whole(entry: Entry, height: int, width: int) -> View:
    """The upper left part of an image as it is."""
    return view_of(entry, 0, 0, height, width, Turn())
