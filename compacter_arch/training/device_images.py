"""Training images kept where the network is: batches of crops are made there, not loaded."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import ConcatDataset, Dataset

from ..data.raw_dataset import Pair, RawPairedImageDataset
from .options import Options
from .seeds import Sample, seed_generators

_PIECE = 2**26  # bytes copied at a time


def device_of(opt: Options) -> torch.device:
    """Where BasicSR trains."""
    return torch.device("cuda" if opt["num_gpu"] != 0 else "cpu")


def is_kept(dataset: Dataset[Any]) -> bool:
    """Whether the option file wants the images on the device: ``keep_on_device: true``."""
    return all(getattr(part, "keep_on_device", False) for part in parts_of(dataset))


def parts_of(dataset: Dataset[Any]) -> list[Any]:
    """The data sets that make up one."""
    return list(dataset.datasets) if isinstance(dataset, ConcatDataset) else [dataset]


def reserve(dataset: Dataset[Any], device: torch.device) -> Tensor:
    """(bytes,) uint8 on the device, not yet filled, as large as all images.

    Raises:
        ValueError: They do not fit.
    """
    need = sum(store.size for part in parts_of(dataset) for store in part.stores)
    try:
        return torch.empty(need, dtype=torch.uint8, device=device)
    except RuntimeError as error:  # so does a GPU tell that its memory is too small
        where = "the GPU" if device.type == "cuda" else "this machine"
        raise ValueError(
            f"keep_on_device: {need / 1e9:,.1f} GB of images do not fit into the memory of "
            f"{where}; set it to false, and workers read them from the stores"
        ) from error


def check_room(dataset: Dataset[Any], device: torch.device) -> None:
    """Try to :func:`reserve`, and give back."""
    reserve(dataset, device)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()  # a training step's is measured after this


class DeviceImages:
    """All images of a training set on a device.

    What a batch shows is drawn by the data set itself: the samples are those of a loader without
    workers.

    Args:
        dataset: a :class:`RawPairedImageDataset`, or several as one.
        device: where the network is trained.

    Raises:
        ValueError: the images do not fit.
    """

    def __init__(self, dataset: Dataset[Any], device: torch.device) -> None:
        self.parts: list[RawPairedImageDataset] = parts_of(dataset)
        self.ends = list(accumulate(map(len, self.parts)))
        self.pixels = reserve(dataset, device)
        self.begins: list[Pair] = []  # of the two stores of each part, in `pixels`
        end = 0
        for part in self.parts:
            begins = []
            for store in part.stores:
                begins.append(end)
                for start in range(0, store.size, _PIECE):
                    piece = torch.from_numpy(store.pixels[start : start + _PIECE].copy())
                    self.pixels[end + start : end + start + len(piece)].copy_(piece)
                end += store.size
            self.begins.append(Pair(*begins))

    def batch(self, samples: list[Sample]) -> dict[str, Any]:
        """What a loader makes of these samples.

        Returns:
            ``lq`` and ``gt``: (B, 3, H, W) float32 on the device; the names of the images.
        """
        views: Pair = Pair([], [])
        paths: list[dict[str, str]] = []
        for index, seed in samples:
            seed_generators(seed)
            number = bisect_right(self.ends, index)
            part, begins = self.parts[number], self.begins[number]
            index -= self.ends[number] - len(part)
            paths.append(part.paths[index])
            for rows, begin, view in zip(views, begins, part.draw(index), strict=True):
                rows.append((begin + view.start, *view.strides, *view.shape))
        batch: dict[str, Any] = {key: [path[key] for path in paths] for key in paths[0]}
        for key, rows in zip(Pair._fields, views, strict=True):
            batch[key] = self.parts[0].to_float(self.gather(rows))
        return batch

    def gather(self, rows: list[tuple[int, ...]]) -> Tensor:
        """(B, 3, H, W) uint8: views of one shape; each row is start, strides, shape."""
        device, shape = self.pixels.device, rows[0][4:]
        # Without waiting for the GPU, which may be at work on the batch before.
        table = torch.tensor([row[:4] for row in rows]).to(device, non_blocking=True)
        where = table[:, 0, None, None, None]
        for axis, length in enumerate(shape, 1):
            steps = torch.arange(length, device=device).view(-1, *[1] * (3 - axis))
            where = where + steps * table[:, axis, None, None, None]
        return self.pixels[where]
