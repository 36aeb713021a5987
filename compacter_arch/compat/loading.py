"""Data loading: prefetching, and the processes that read the images."""

from __future__ import annotations

import multiprocessing
import multiprocessing.context
import random
from collections.abc import Iterator
from typing import Any

import torch

from .patching import Function, patch


def repair_prefetch_errors() -> None:
    """`data/prefetch_dataloader.py:26`: an exception ends the prefetch thread and nothing else.

    The training waits for the next batch for ever: one corrupt image under ``prefetch_mode: cpu``
    hangs the run. The exception now comes in place of the batch, and the end after it.
    """
    from basicsr.data.prefetch_dataloader import PrefetchGenerator

    @patch(PrefetchGenerator, "run")
    def run(original: Function, self: Any) -> None:
        try:
            original(self)
        except Exception as error:
            self.queue.put(error)
            self.queue.put(None)

    @patch(PrefetchGenerator, "__next__")
    def get_next(original: Function, self: Any) -> Any:
        item = original(self)
        if isinstance(item, Exception):
            raise item
        return item


def repair_cpu_prefetcher() -> None:
    """`data/prefetch_dataloader.py:72`: the CPU prefetcher makes an iterator that is thrown away.

    With ``persistent_workers`` both iterators are one, read by two threads: the run hangs. Without,
    the workers are started twice. So the iterator waits for `reset`, or for the first batch if that
    comes earlier.
    """
    from basicsr.data.prefetch_dataloader import CPUPrefetcher

    @patch(CPUPrefetcher, "__init__")
    def init(original: Function, self: Any, loader: Any) -> None:
        original(self, ())  # an empty loader: nothing is started
        self.ori_loader = loader
        self.loader = None

    @patch(CPUPrefetcher, "next")
    def get_next(original: Function, self: Any) -> Any:
        if self.loader is None:
            self.reset()
        return original(self)


def repair_worker_seed() -> None:
    """`data/__init__.py:99`: workers are seeded without the epoch: the same crops in each.

    Torch draws a new seed per worker and epoch from the main process's generator, which
    `manual_seed` fixes: that seed gives new crops and the same run again.
    """
    import numpy as np
    from basicsr import data

    @patch(data, "worker_init_fn")
    def worker_init_fn(
        original: Function, worker_id: int, num_workers: int, rank: int, seed: int
    ) -> None:
        worker_seed = torch.initial_seed() % 2**32
        np.random.seed(worker_seed)
        random.seed(worker_seed)


class _SpawnProcess(multiprocessing.context.SpawnProcess):
    """A spawned process: unpickling it imports its class, and so repairs BasicSR first."""


class _SpawnContext(multiprocessing.context.SpawnContext):
    Process = _SpawnProcess


_worker_contexts: dict[str, multiprocessing.context.BaseContext] = {"spawn": _SpawnContext()}

if "forkserver" in multiprocessing.get_all_start_methods():

    class _ForkServerProcess(multiprocessing.context.ForkServerProcess):
        """The same for a fork server, which is Python 3.14's default on Linux."""

    class _ForkServerContext(multiprocessing.context.ForkServerContext):
        Process = _ForkServerProcess

    _worker_contexts["forkserver"] = _ForkServerContext()


def _worker_context() -> multiprocessing.context.BaseContext | None:
    """The context that repairs BasicSR in new workers; None where they inherit the repairs."""
    # the default method is the first one; asking for it by get_start_method() would fix it for good
    method = (
        multiprocessing.get_start_method(allow_none=True)
        or multiprocessing.get_all_start_methods()[0]
    )
    return _worker_contexts.get(method)


def repair_spawned_workers() -> None:
    """`data/__init__.py:93`: a spawned worker starts without any repair.

    Distributed runs force spawn (`utils/dist_util.py:12`), macOS and Windows always use it. The
    worker unpickles the dataset first, for which it imports BasicSR as released, and dies as in
    `imports.shim_functional_tensor`.
    """
    from basicsr import data

    @patch(data, "build_dataloader")
    def build_dataloader(original: Function, *args: Any, **kwargs: Any) -> Any:
        loader = original(*args, **kwargs)
        if loader.num_workers > 0 and loader.multiprocessing_context is None:
            loader.multiprocessing_context = _worker_context()
        return loader


def repair_scandir() -> None:
    """`utils/misc.py:80`: the images of a folder come in the order of the file system.

    The same seed then trains on other batches on another machine, or from an LMDB of the same
    images, whose keys are sorted.
    """
    from basicsr.utils import misc

    @patch(misc, "scandir")
    def scandir(original: Function, *args: Any, **kwargs: Any) -> Iterator[str]:
        return iter(sorted(original(*args, **kwargs)))


REPAIRS = (
    repair_scandir,
    repair_prefetch_errors,
    repair_cpu_prefetcher,
    repair_worker_seed,
    repair_spawned_workers,
)
