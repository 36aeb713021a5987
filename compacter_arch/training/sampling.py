"""Which images an epoch shows in which order, and where a resumed run takes up."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from ctypes import c_bool
from functools import partial
from itertools import islice
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any

import torch
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from basicsr.utils import set_random_seed
from torch.utils.data import DataLoader, Sampler

from .device_images import DeviceImages, device_of, is_kept
from .options import Options

SEEDS_APART = 1_000_003  # epochs of one manual_seed before the next one's shuffles begin


class EpochSampler(Sampler[int]):
    """BasicSR's ``EnlargedSampler`` with a shuffle that follows ``manual_seed`` and can start late.

    Args:
        sampler: the ``EnlargedSampler`` (its shuffle depends on the epoch alone).
        seed: ``manual_seed`` of the run, equal on all processes.
    """

    def __init__(self, sampler: Any, seed: int) -> None:
        self.sampler, self.seed, self.first = sampler, seed, 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Take the order of ``epoch`` and leave out its ``first`` samples."""
        self.sampler.set_epoch(self.seed * SEEDS_APART + epoch)
        self.first = first

    def __iter__(self) -> Iterator[int]:
        return islice(iter(self.sampler), self.first, None)

    def __len__(self) -> int:
        return len(self.sampler)


class Batches:
    """The batches of a run from any iteration on: epoch = iteration // batches per epoch.

    A run that is interrupted and resumed shows the rest of its epoch, no image twice. Used in a
    ``with`` statement, after which the workers may be ended.

    Args:
        loader: BasicSR's training loader; its sampler is replaced.
        sampler: BasicSR's training sampler.
    """

    def __init__(self, loader: DataLoader[Any], sampler: Any, opt: Options) -> None:
        self.loader, self.opt = loader, opt
        self.sampler = EpochSampler(sampler, opt["manual_seed"])
        batch_sampler: Any = loader.batch_sampler
        batch_sampler.sampler = self.sampler
        self.over = RawValue(c_bool, False)
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn, self.over)
        prefetch = opt["datasets"]["train"].get("prefetch_mode")
        self.on_gpu = prefetch == "cuda" and torch.cuda.is_available()
        self.kept: DeviceImages | None = None
        if is_kept(loader.dataset):
            self.kept = DeviceImages(loader.dataset, device_of(opt))

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.value = True

    def epoch(self, iteration: int) -> Iterator[dict[str, Any]]:
        """The batches of the epoch that follows ``iteration`` finished iterations."""
        epoch, done = divmod(iteration, len(self.loader))
        self.sampler.set_epoch(epoch, done * (self.loader.batch_size or 1))
        # Crops and flips are drawn from the global generators, by this process or by workers that
        # take their seeds from it: they follow from the seed and the iteration alone.
        seed = self.opt["manual_seed"] + self.opt["rank"] + SEEDS_APART * iteration
        set_random_seed(seed % 2**32)
        if self.kept is not None:
            yield from map(self.kept.batch, self.loader.batch_sampler or ())
            return
        if not self.on_gpu:
            yield from self.loader
            return
        prefetcher = CUDAPrefetcher(self.loader, self.opt)
        while (batch := prefetcher.next()) is not None:
            yield batch


def start_worker(init: Callable[[int], None] | None, over: Any, number: int) -> None:
    """Prepare a worker of the loader: it ends with the run, not with the signals that stop the run.

    Ctrl-C and a batch system's SIGTERM reach the workers as well. Without them there would be no
    batch for the iteration at hand. The SIGTERM that multiprocessing sends comes when it is over.
    """

    def end_if_over(number: int, frame: FrameType | None) -> None:
        if over.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_if_over)
    if init is not None:
        init(number)
