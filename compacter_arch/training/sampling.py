"""Which images an epoch shows in which order, what is drawn of each, where a resumed run takes up.

Nothing here remembers anything: the order follows from the seed and the epoch, a sample's crop,
flips and noise from these and its position in the order, what the network draws (dropout) from the
seed and the iteration. So a run may be interrupted anywhere, and any number of workers and of
processes shows the same.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from ctypes import c_bool
from functools import partial
from multiprocessing.sharedctypes import RawValue
from types import FrameType
from typing import Any

import torch
from basicsr.data.prefetch_dataloader import CUDAPrefetcher
from torch.utils.data import DataLoader, Dataset, Sampler

from .device_images import DeviceImages, device_of, is_kept
from .options import Options
from .seeds import Sample, seed_generators, seed_of

SEEDS_APART = 1_000_003  # epochs of one manual_seed before the next one's shuffles begin


class EpochSampler(Sampler[Sample]):
    """The samples of one of ``world_size`` processes: every ``world_size``-th of a shuffle.

    For one process and ``manual_seed: 0`` the order is that of BasicSR's ``EnlargedSampler``. Its
    shuffle ignores ``manual_seed``, and depends on the number of processes.

    Args:
        images: length of the data set.
        opt: completed options.
    """

    def __init__(self, images: int, opt: Options) -> None:
        self.images, self.seed = images, opt["manual_seed"]
        self.rank, self.world_size = opt["rank"], opt["world_size"]
        self.total = math.ceil(images * opt["datasets"]["train"].get("dataset_enlarge_ratio", 1))
        self.epoch = self.first = 0

    def set_epoch(self, epoch: int, first: int = 0) -> None:
        """Take the order of ``epoch`` and leave out the ``first`` samples of this process."""
        self.epoch, self.first = epoch, first

    def __iter__(self) -> Iterator[Sample]:
        generator = torch.Generator().manual_seed(self.seed * SEEDS_APART + self.epoch)
        order = torch.randperm(self.total, generator=generator).tolist()
        for number in range(self.first, len(self)):
            position = number * self.world_size + self.rank
            seed = seed_of(self.seed, self.epoch, position)
            yield Sample(order[position] % self.images, seed)

    def __len__(self) -> int:
        return self.total // self.world_size


class SeededDataset(Dataset[Any]):
    """A data set that draws each sample from the generators as its seed leaves them."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __getitem__(self, sample: Sample) -> Any:
        seed_generators(sample.seed)
        return self.dataset[sample.image]

    def __len__(self) -> int:
        return len(self.dataset)


class Batches:
    """The batches of a run from any iteration on: epoch = iteration // batches per epoch.

    A run that is interrupted and resumed shows the rest of its epoch, no image twice. Used in a
    ``with`` statement, after which the workers may be ended.

    Args:
        loader: BasicSR's training loader; its sampler is replaced.

    Raises:
        ValueError: an epoch holds no batch, or ``keep_on_device`` images do not fit.
    """

    def __init__(self, loader: DataLoader[Any], opt: Options) -> None:
        self.loader, self.opt = loader, opt
        dataset: Any = loader.dataset
        self.sampler = EpochSampler(len(dataset), opt)
        batch_sampler: Any = loader.batch_sampler
        batch_sampler.sampler = self.sampler
        if not len(loader):
            raise ValueError(
                f"datasets.train.batch_size_per_gpu: {loader.batch_size} x {opt['world_size']} "
                f"processes is more than an epoch of {self.sampler.total:,} samples; make it "
                "smaller or dataset_enlarge_ratio larger"
            )
        # Past the loader's own guard, which protects samplers that it has made from the data set.
        vars(loader)["dataset"] = SeededDataset(dataset)
        self.over = RawValue(c_bool, False)
        loader.worker_init_fn = partial(start_worker, loader.worker_init_fn, self.over)
        prefetch = opt["datasets"]["train"].get("prefetch_mode")
        self.on_gpu = prefetch == "cuda" and torch.cuda.is_available()
        self.kept = DeviceImages(dataset, device_of(opt)) if is_kept(dataset) else None

    def __enter__(self) -> Batches:
        return self

    def __exit__(self, *exception: object) -> None:
        self.over.value = True

    def epoch(self, iteration: int) -> Iterator[dict[str, Any]]:
        """The batches of the epoch that follows ``iteration`` finished iterations."""
        epoch, done = divmod(iteration, len(self.loader))
        self.sampler.set_epoch(epoch, done * (self.loader.batch_size or 1))
        for number, batch in enumerate(self.read(), iteration + 1):
            seed = seed_of(self.opt["manual_seed"], "iteration", number, self.opt["rank"])
            seed_generators(seed)  # for what the network draws
            torch.cuda.manual_seed_all(seed)
            yield batch

    def read(self) -> Iterator[dict[str, Any]]:
        """The batches of the sampler, from the device, through a prefetcher or plainly."""
        if self.kept is not None:
            for samples in self.loader.batch_sampler or ():
                yield self.kept.batch(samples)
        elif self.on_gpu:
            prefetcher = CUDAPrefetcher(self.loader, self.opt)
            while (batch := prefetcher.next()) is not None:
                yield batch
        elif self.loader.num_workers == 0:
            # Not BasicSR's thread of `prefetch_mode: cpu`, which would draw from the generators
            # while the network does.
            yield from DataLoader.__iter__(self.loader)
        else:
            yield from self.loader


def start_worker(init: Callable[[int], None] | None, over: Any, number: int) -> None:
    """Prepare a worker of the loader: it ends with the run, not with the signals that stop the run.

    Ctrl-C and a batch system's SIGTERM reach the workers as well. Without them there would be no
    batch for the iteration at hand. The SIGTERM that multiprocessing sends comes when it is over.

    PyTorch ends a worker whose parent changes. It does not see it if the run was killed before it
    looked for the first time.
    """

    def end_if_over(number: int, frame: FrameType | None) -> None:
        if over.value:
            os._exit(0)

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, end_if_over)
    if init is not None:
        init(number)
    parent = multiprocessing.parent_process()
    forked = multiprocessing.get_start_method() == "fork"
    if forked and parent is not None and os.getppid() != parent.pid:
        os._exit(0)
