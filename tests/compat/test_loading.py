"""Data loading."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import queue
import random
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import basicsr
import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, data_util
from basicsr.data import prefetch_dataloader as prefetch
from basicsr.utils import scandir

from .tools import needs_the_defect, original, within


class TinyDataset(torch.utils.data.Dataset):
    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> tuple[float, float]:
        return random.random(), float(np.random.rand())


def tiny_loader(workers: int, **more: Any) -> Any:
    opt = {"phase": "train", "batch_size_per_gpu": 4, "num_worker_per_gpu": workers, **more}
    return build_dataloader(TinyDataset(), opt, num_gpu=0, seed=0)


def test_images_come_in_the_order_of_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("b.png", "c.png", "a.png"):
        (tmp_path / name).touch()
    listed = os.scandir
    # A file system that lists the other way round.
    monkeypatch.setattr(os, "scandir", lambda d: sorted(listed(d), key=lambda e: e.name)[::-1])
    assert list(original(scandir)(str(tmp_path))) == ["c.png", "b.png", "a.png"]
    assert list(scandir(str(tmp_path))) == ["a.png", "b.png", "c.png"]
    folder = str(tmp_path)
    pairs = data_util.paired_paths_from_folder([folder, folder], ["lq", "gt"], "{}")
    assert [os.path.basename(pair["gt_path"]) for pair in pairs] == ["a.png", "b.png", "c.png"]


@needs_the_defect
def test_spawned_workers(spawn_report: dict[str, Any]) -> None:
    assert "exited unexpectedly" in spawn_report["workers as released"]
    assert spawn_report["workers repaired"] == [[1, 3, 4, 6]]


@pytest.mark.parametrize("method", multiprocessing.get_all_start_methods())
def test_process_class_of_workers(monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr(multiprocessing, "get_start_method", lambda allow_none: method)
    loader = tiny_loader(workers=1)
    if method == "fork":
        assert loader.multiprocessing_context is None
        return
    process = loader.multiprocessing_context.Process
    assert loader.multiprocessing_context.get_start_method() == method
    assert process.__module__ == "compacter_arch.compat.loading"
    assert pickle.loads(pickle.dumps(process)) is process
    assert tiny_loader(workers=0).multiprocessing_context is None


def corrupt_after(count: int) -> Iterator[int]:
    yield from range(count)
    raise ValueError("a corrupt image")


def test_prefetch_passes_exceptions_on() -> None:
    generator = prefetch.PrefetchGenerator(corrupt_after(2), 1)
    assert [within(20, lambda: next(generator)) for _ in range(2)] == [0, 1]

    def take() -> str:
        try:
            return next(generator)
        except ValueError as error:
            return str(error)
        except StopIteration:
            return "ended"

    assert [within(10, take), within(10, take)] == ["a corrupt image", "ended"]


def test_prefetch_thread_died_without_a_word() -> None:
    thread = SimpleNamespace(generator=corrupt_after(0), queue=queue.Queue())
    with pytest.raises(ValueError):
        original(prefetch.PrefetchGenerator.run)(thread)
    assert thread.queue.empty()  # so that __next__ waits for ever


class CountingLoader(list):
    """A loader that counts how often it is started."""

    starts = 0

    def __iter__(self) -> Iterator[Any]:
        self.starts += 1
        return super().__iter__()


def test_cpu_prefetcher_starts_the_loader_once_per_epoch() -> None:
    loader = CountingLoader([1, 2])
    prefetcher = prefetch.CPUPrefetcher(loader)
    for epoch in (1, 2):
        prefetcher.reset()
        assert [prefetcher.next() for _ in range(3)] == [1, 2, None]
        assert loader.starts == epoch
    assert prefetch.CPUPrefetcher(loader).next() == 1

    loader = CountingLoader([1, 2])
    released = SimpleNamespace()
    original(prefetch.CPUPrefetcher.__init__)(released, loader)
    prefetch.CPUPrefetcher.reset(released)
    assert loader.starts == 2


def epochs_of(loader: Any, count: int) -> list[list[float]]:
    """The random values that the workers draw, epoch by epoch, as BasicSR's loop reads them."""
    prefetcher, drawn = prefetch.CPUPrefetcher(loader), []
    for _ in range(count):
        prefetcher.reset()
        python, numpy = prefetcher.next()
        drawn.append([*python.tolist(), *numpy.tolist()])
        assert prefetcher.next() is None
    return drawn


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("persistent", [False, True])
def test_workers_draw_anew_in_each_epoch(monkeypatch: pytest.MonkeyPatch, persistent: bool) -> None:
    def draw(seed: int) -> list[list[float]]:
        torch.manual_seed(seed)
        loader = tiny_loader(1, prefetch_mode="cpu", persistent_workers=persistent)
        return within(60, lambda: epochs_of(loader, 2))

    first = draw(7)
    assert first[0] != first[1]
    assert draw(7) == first and draw(8) != first
    if not persistent:
        repaired = basicsr.data.worker_init_fn
        monkeypatch.setattr(basicsr.data, "worker_init_fn", original(repaired))
        released = draw(7)
        assert released[0] == released[1]
