"""Batches made on the device are those of a loader without workers, on every process."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.data import build_dataloader, build_dataset

from compacter_arch.data.raw_dataset import RawPairedImageDataset
from compacter_arch.prepare import make_raw
from compacter_arch.prepare.files import write_png
from compacter_arch.training import device_images
from compacter_arch.training.device_images import DeviceImages, is_kept
from compacter_arch.training.sampling import Batches

from ..conftest import Project
from ..data.test_raw_dataset import DISK
from ..prepare.tools import random_image

CPU = torch.device("cpu")
SCALED = {"phase": "train", "scale": 2}  # what completing the options adds


@pytest.fixture(scope="module")
def options(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Two subsets of pairs, of colour and gray, in several sizes."""
    root = tmp_path_factory.mktemp("subsets")
    for name, count in (("one", 3), ("two", 4)):
        for number in range(count):
            height, width = 8 + 2 * number, 14 - 2 * number
            for half, factor in (("GT", 2), ("LQ", 1)):
                shape = (height * factor, width * factor, *([3] if number != 1 else []))
                write_png(root / name / half / f"{number}.png", random_image(number, shape))
        for half in ("GT", "LQ"):
            make_raw(root / name / half, root / name / f"{half}.raw")
    return DISK | {
        "name": "subsets",
        "type": "SubsetsDataset",
        "subset_type": "RawPairedImageDataset",
        "subsets": ["one", "two"],
        "dataroot_gt": f"{root}/{{}}/GT.raw",
        "dataroot_lq": f"{root}/{{}}/LQ.raw",
        "io_backend": {"type": "raw"},
        "mean": [0.4, 0.5, 0.6],
        "std": [0.2, 0.3, 0.4],
    }


def epoch(
    options: dict[str, Any], iteration: int, rank: int = 0, world: int = 1, **changes: Any
) -> list[dict[str, Any]]:
    """What the training loop of one process is given after some iterations."""
    opt = options | {"dataset_enlarge_ratio": 3} | changes
    loader = build_dataloader(build_dataset(opt), opt, 0, world > 1)
    run = {"manual_seed": 5, "rank": rank, "world_size": world, "num_gpu": 0}
    with Batches(loader, run | {"datasets": {"train": opt}}) as batches:
        assert (batches.kept is not None) == opt.get("keep_on_device", False)
        return list(batches.epoch(iteration))


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs) > 1
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        assert a["lq_path"] == b["lq_path"] and a["gt_path"] == b["gt_path"]
        torch.testing.assert_close(a["gt"], b["gt"], rtol=0, atol=0)
        torch.testing.assert_close(a["lq"], b["lq"], rtol=0, atol=0)


@pytest.mark.parametrize("iteration", [0, 7, 10])
def test_batches_are_those_of_the_loader(options: dict[str, Any], iteration: int) -> None:
    """From the beginning, from the middle of an epoch and in the second one."""
    kept = epoch(options, iteration, keep_on_device=True)
    assert len(kept) == 10 - iteration % 10
    assert_same(kept, epoch(options, iteration))


def test_each_process_shows_its_share(options: dict[str, Any]) -> None:
    shown = []
    for rank in range(2):
        kept = epoch(options, 0, rank, 2, keep_on_device=True)
        assert_same(kept, epoch(options, 0, rank, 2))
        shown.append(torch.cat([batch["gt"] for batch in kept]))
    assert not torch.equal(*shown)


def test_images_are_copied_in_pieces(
    options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(device_images, "_PIECE", 100)
    dataset = build_dataset(options)
    kept = DeviceImages(dataset, CPU)
    stores = [store.pixels for part in dataset.datasets for store in part.stores]
    assert kept.pixels.tolist() == [value for pixels in stores for value in pixels.tolist()]
    assert [begins.lq for begins in kept.begins] == [
        len(stores[0]),
        sum(map(len, stores[:3])),
    ]


def test_only_where_it_is_asked_for(options: dict[str, Any]) -> None:
    assert is_kept(build_dataset(options | {"keep_on_device": True}))
    assert not is_kept(build_dataset(options | {"keep_on_device": False}))
    assert not is_kept(build_dataset(options))
    assert not is_kept(torch.utils.data.TensorDataset(torch.zeros(1)))


def test_too_many_images_are_one_line(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the checks, before anything is created, and when the images are copied."""
    for half in ("GT", "LR"):
        make_raw(Path(f"data/train/{half}"), Path(f"data/{half}.raw"))
    pair_names = RawPairedImageDataset.pair_names

    def enlarge(self: RawPairedImageDataset) -> list[dict[str, str]]:
        self.stores.gt.size = 2**60
        return pair_names(self)

    monkeypatch.setattr(RawPairedImageDataset, "pair_names", enlarge)
    changes = {
        "type": "RawPairedImageDataset",
        "dataroot_gt": "data/GT.raw",
        "dataroot_lq": "data/LR.raw",
        "io_backend": {"type": "raw"},
        "keep_on_device": True,
    }
    file = project.write({f"datasets.train.{key}": value for key, value in changes.items()})
    result = project.run("train", "-opt", file)
    assert result.status == 2 and result.err.count("\n") == 1
    assert "datasets.train: keep_on_device: 1,152,921,504.6 GB of images do not fit into the" in (
        result.err
    )
    assert not Path("experiments").exists()
    dataset = build_dataset(project.options()["datasets"]["train"] | changes | SCALED)
    with pytest.raises(ValueError, match="keep_on_device: .* this machine; set it to false"):
        DeviceImages(dataset, CPU)
