"""Noise and JPEG artefacts made from clean images while they are read.

Training draws a fresh degradation for each sample, from the global generators that BasicSR seeds.
Validation and testing degrade an image as a pure function of its pixels, the level and the seed:
whatever the order, the number of workers or the platform, the same pixels come out.
"""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from basicsr.data.single_image_dataset import SingleImageDataset
from basicsr.data.transforms import augment, paired_random_crop
from basicsr.utils import FileClient, bgr2ycbcr, imfrombytes, img2tensor
from torch import Tensor
from torch.utils.data import Dataset

from .raw_store import RawStore, is_gray

CHANNELS = (1, 3)
GRAY_WEIGHTS = np.array([3735, 19235, 9798])  # of blue, green, red, in 1 / 2**15


class DegradationDataset(Dataset[dict[str, Any]]):
    """Clean images from a folder, an LMDB, a raw store or a list, and their degraded copies.

    Args:
        opt: options of an option file:

            - dataroot_gt: folder of the images, an LMDB of BasicSR's format, or a raw store, see
              :mod:`~compacter_arch.data.raw_store`.
            - io_backend: ``{type: disk}``, ``{type: lmdb}`` or ``{type: raw}``.
            - meta_info_file: lists the images below ``dataroot_gt`` (default: all of the folder).
            - in_chans: 3 for RGB (default), 1 for gray.
            - the level, see the subclass: a number, or [lowest, highest] to draw from in training.
            - seed: of the degradation in validation and testing (default 0).
            - gt_size: side of the patches, pixels; use_hflip, use_rot: BasicSR's augmentation.
              Training only.
            - phase: ``train``, ``val`` or ``test``; BasicSR fills it in.

    Raises:
        ValueError: a level that is none, or a range outside training.
    """

    level_key: str
    lowest: float
    highest: float

    def __init__(self, opt: dict[str, Any]) -> None:
        self.opt = opt
        self.train = opt["phase"] == "train"
        self.in_chans = opt.get("in_chans", 3)
        if self.in_chans not in CHANNELS:
            raise ValueError(f"in_chans: {self.in_chans!r} must be 3 (RGB) or 1 (gray)")
        self.levels = self.read_levels(opt[self.level_key])
        self.io_backend = dict(opt["io_backend"])
        self.store: RawStore | None = None
        if self.io_backend["type"] == "raw":
            self.store = RawStore(opt["dataroot_gt"])
            paths = self.store.names(opt.get("meta_info_file"))
        else:  # BasicSR's listing of single images; its data set calls every image "lq"
            listing = {key: opt[key] for key in ("meta_info_file",) if opt.get(key) is not None}
            listing |= {"dataroot_lq": opt["dataroot_gt"], "io_backend": self.io_backend}
            paths = SingleImageDataset(listing).paths
        self.paths = [{"gt_path": path} for path in paths]
        self.file_client: FileClient | None = None

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """``lq`` and ``gt``: (in_chans, H, W) float32, gt in [0, 1]; their path."""
        path = self.paths[index]["gt_path"]
        gt = self.read(path)
        if self.train:
            gt, _ = paired_random_crop(gt, gt, self.opt["gt_size"], 1, path)
            gt = augment(gt.copy(), self.opt["use_hflip"], self.opt["use_rot"])
        if gt.shape[2] > self.in_chans:
            gt = self.to_gray(gt)[..., None]
        elif gt.shape[2] < self.in_chans:
            gt = gt.repeat(self.in_chans, axis=2)
        tensors: list[Tensor] = img2tensor([gt.astype(np.float32) / 255, self.degrade(gt)])
        return {"gt": tensors[0], "lq": tensors[1], "gt_path": path, "lq_path": path}

    def read(self, path: str) -> np.ndarray:
        """(H, W, 3) uint8, channels BGR, or (H, W, 1) if the image is gray.

        Only a store tells of gray that nobody asked for.
        """
        if self.store is not None:
            return self.store[path]
        if self.file_client is None:
            backend = dict(self.io_backend)
            self.file_client = FileClient(backend.pop("type"), **backend)
        image: np.ndarray = imfrombytes(self.file_client.get(path, "lq"))
        return image[..., :1] if self.in_chans == 1 and is_gray(image) else image

    def read_levels(self, value: Any) -> tuple[float, float]:
        """Lowest and highest level."""
        levels = list(value) if isinstance(value, (list, tuple)) else [value, value]
        numbers = all(isinstance(level, (int, float)) for level in levels)
        ordered = numbers and len(levels) == 2 and self.lowest <= levels[0] <= levels[1]
        if not ordered or levels[1] > self.highest:
            raise ValueError(
                f"{self.level_key}: {value!r} must be a number or [lowest, highest], from "
                f"{self.lowest} to {self.highest}"
            )
        if levels[0] != levels[1] and not self.train:
            raise ValueError(
                f"{self.level_key}: {value!r} is a range; validation and testing need one level"
            )
        return levels[0], levels[1]

    def to_gray(self, image: np.ndarray) -> np.ndarray:
        """(H, W, 3) uint8, colour in channels BGR -> (H, W) uint8."""
        raise NotImplementedError

    def degrade(self, gt: np.ndarray) -> np.ndarray:
        """(H, W, in_chans) uint8, channels BGR -> its degraded copy, float32, 255 becomes 1."""
        raise NotImplementedError


class GaussianNoiseDataset(DegradationDataset):
    """Additive white Gaussian noise, neither clipped nor rounded.

    ``sigma`` is the standard deviation on the scale of [0, 255]. In training it is drawn uniformly
    from its range. In testing the noise of every image is ``numpy.random.RandomState(seed)
    .normal(0, sigma / 255, (H, W, C))`` over BGR pixels: SwinIR's protocol (main_test_swinir.py),
    and a generator whose stream NumPy keeps for good. Gray is 0.299 R + 0.587 G + 0.114 B.

    Args:
        opt: see :class:`DegradationDataset`; the level is ``sigma``, 0 to 255.
    """

    level_key, lowest, highest = "sigma", 0, 255

    def to_gray(self, image: np.ndarray) -> np.ndarray:
        """OpenCV's gray, in [0, 255]; in integers here, since its versions round differently."""
        return ((image @ GRAY_WEIGHTS + (1 << 14)) >> 15).astype(np.uint8)

    def degrade(self, gt: np.ndarray) -> np.ndarray:
        """Add noise."""
        random: Any = np.random if self.train else np.random.RandomState(self.opt.get("seed", 0))
        low, high = self.levels
        sigma = random.uniform(low, high) if low < high else low
        noise = random.normal(0, sigma / 255, gt.shape)
        return (gt.astype(np.float32) / 255 + noise).astype(np.float32)


class JPEGCompressionDataset(DegradationDataset):
    """JPEG compression by OpenCV (libjpeg-turbo; colour with its 4:2:0 chroma).

    Training draws the quality uniformly from the whole numbers of its range; testing needs no
    generator. Patches are compressed by themselves, so that their 8 x 8 blocks lie as in a whole
    image. Gray is the Y of BT.601, in [16, 235], of colour images, and gray images as they are:
    the protocol of SwinIR and its predecessors on LIVE1 and Classic5.

    Args:
        opt: see :class:`DegradationDataset`; the level is ``quality``, 1 to 100.
    """

    level_key, lowest, highest = "quality", 1, 100

    def to_gray(self, image: np.ndarray) -> np.ndarray:
        """Y."""
        return bgr2ycbcr(image, y_only=True)

    def degrade(self, gt: np.ndarray) -> np.ndarray:
        """Compress and decompress."""
        low, high = map(int, self.levels)
        quality = np.random.randint(low, high + 1) if low < high else low
        content = cv2.imencode(".jpg", gt, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
        lq = np.asarray(cv2.imdecode(content, cv2.IMREAD_UNCHANGED), np.float32)
        return lq.reshape(gt.shape) / 255
