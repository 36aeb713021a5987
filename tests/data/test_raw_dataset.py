"""Samples from raw stores are BasicSR's from PNG files, bit for bit, however they are read."""

from __future__ import annotations

import pickle
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from basicsr.data import build_dataloader, build_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.prepare import make_lmdb, make_raw
from compacter_arch.prepare.files import write_png

from ..conftest import Project
from ..prepare.tools import random_image

COUNT = 5
DISK: dict[str, Any] = {
    "name": "pairs",
    "type": "PairedImageDataset",
    "io_backend": {"type": "disk"},
    "phase": "train",
    "scale": 2,
    "gt_size": 8,
    "use_hflip": True,
    "use_rot": True,
    "num_worker_per_gpu": 0,
    "batch_size_per_gpu": 2,
}


def disk(root: Path, **changes: Any) -> dict[str, Any]:
    """Options of BasicSR's data set on the folders of PNG files."""
    return DISK | {"dataroot_gt": f"{root}/GT", "dataroot_lq": f"{root}/LQ"} | changes


def raw(root: Path, **changes: Any) -> dict[str, Any]:
    """Options of ours on the stores."""
    ours = {"type": "RawPairedImageDataset", "io_backend": {"type": "raw"}}
    return disk(root, **ours, dataroot_gt=f"{root}/GT.raw", dataroot_lq=f"{root}/LQ.raw") | changes


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pairs of several sizes, one of them gray; a list of some; folders, LMDBs and stores."""
    root = tmp_path_factory.mktemp("pairs")
    for number in range(COUNT):
        height, width = 8 + 2 * number, 20 - 3 * number
        for half, factor in (("GT", 2), ("LQ", 1)):
            shape = (height * factor, width * factor, *([3] if number != 2 else []))
            write_png(root / half / f"{number}.png", random_image(number, shape))
    for half in ("GT", "LQ"):
        make_raw(root / half, root / f"{half}.raw")
        make_lmdb(root / half, root / f"{half}.lmdb")
    (root / "list.txt").write_text("3.png (28,22,3)\n1.png (20,34,3)\n3.png (28,22,3)\n")
    return root


def drawn(opt: dict[str, Any], seed: int, indices: list[int]) -> list[dict[str, Any]]:
    dataset = build_dataset(opt)
    random.seed(seed)
    return [dataset[index % len(dataset)] for index in indices]


def assert_same(ours: list[dict[str, Any]], theirs: list[dict[str, Any]]) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        assert a.keys() == b.keys()
        for key in ("gt", "lq"):
            assert a[key].dtype == torch.float32
            torch.testing.assert_close(a[key], b[key], rtol=0, atol=0)


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    indices=st.lists(st.integers(0, COUNT - 1), min_size=1, max_size=6),
    use_hflip=st.booleans(),
    use_rot=st.booleans(),
    gt_size=st.sampled_from([2, 6, 16]),
    listed=st.booleans(),
    rest=st.sampled_from([{}, {"color": "y"}, {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.3, 0.4]}]),
)
def test_training_samples_are_basicsr_s(folder, seed, indices, listed, rest, **changes) -> None:
    """Any images in any order: so the generator stands where BasicSR leaves it."""
    changes |= rest | ({"meta_info_file": f"{folder}/list.txt"} if listed else {})
    ours = drawn(raw(folder, **changes), seed, indices)
    after = random.random()
    assert_same(ours, drawn(disk(folder, **changes), seed, indices))
    assert after == random.random()


def test_names_are_those_of_an_lmdb(folder: Path) -> None:
    roots = {"dataroot_gt": f"{folder}/GT.lmdb", "dataroot_lq": f"{folder}/LQ.lmdb"}
    theirs = build_dataset(disk(folder, io_backend={"type": "lmdb"}, **roots))
    assert build_dataset(raw(folder)).paths == theirs.paths


@pytest.mark.parametrize("phase", ["val", "test"])
def test_whole_images_for_validation(folder: Path, phase: str) -> None:
    ours, theirs = raw(folder, phase=phase), disk(folder, phase=phase)
    assert_same(drawn(ours, 0, list(range(COUNT))), drawn(theirs, 0, list(range(COUNT))))


def test_validation_cuts_what_lq_does_not_show(tmp_path: Path) -> None:
    write_png(tmp_path / "GT" / "a.png", random_image(0, (13, 11, 3)))
    write_png(tmp_path / "LQ" / "a.png", random_image(1, (6, 5, 3)))
    for half in ("GT", "LQ"):
        make_raw(tmp_path / half, tmp_path / f"{half}.raw")
    ours = drawn(raw(tmp_path, phase="val"), 0, [0])
    assert ours[0]["gt"].shape == (3, 12, 10)
    assert_same(ours, drawn(disk(tmp_path, phase="val"), 0, [0]))
    with pytest.raises(ValueError, match=r"a of .*GT\.raw: GT of 13x11 and LQ of 6x5 pix"):
        drawn(raw(tmp_path), 0, [0])


@pytest.mark.parametrize("workers", [0, 2])
def test_loaders_give_the_same_batches(folder: Path, workers: int) -> None:
    def batches(opt: dict[str, Any]) -> list[dict[str, Any]]:
        opt = opt | {"num_worker_per_gpu": workers}
        loader = build_dataloader(build_dataset(opt), opt, num_gpu=0, sampler=range(COUNT), seed=3)
        random.seed(3)
        torch.manual_seed(3)
        return list(loader)

    ours = batches(raw(folder))
    assert len(ours) == 2 and ours[0]["gt"].shape == (2, 3, 8, 8)
    assert_same(ours, batches(disk(folder)))


def test_a_spawned_worker_reads_for_itself(folder: Path) -> None:
    """What it is sent is the index: small, and without the file that this process has open."""
    dataset = build_dataset(raw(folder))
    random.seed(1)
    wanted = [dataset[0]]
    received = pickle.loads(pickle.dumps(dataset))
    assert all(store._pixels is None for store in received.stores)
    random.seed(1)
    assert_same([received[0]], wanted)


def test_lq_may_be_named_otherwise(folder: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        content = (folder / "LQ" / f"{number}.png").read_bytes()
        (tmp_path / "LQ").mkdir(exist_ok=True)
        (tmp_path / "LQ" / f"{number}x2.png").write_bytes(content)
    make_raw(tmp_path / "LQ", tmp_path / "LQ.raw")
    ours = raw(folder, dataroot_lq=f"{tmp_path}/LQ.raw", filename_tmpl="{}x2")
    assert_same(drawn(ours, 0, [0, 3]), drawn(disk(folder), 0, [0, 3]))


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("level", [{"sigma": [0, 50]}, {"quality": [10, 40]}])
def test_degradations_from_a_store(folder: Path, level: dict[str, Any], in_chans: int) -> None:
    type_ = "GaussianNoiseDataset" if "sigma" in level else "JPEGCompressionDataset"
    changes = {"type": type_, "in_chans": in_chans, **level}
    for phase in ({}, {"phase": "val", **{key: high for key, (_, high) in level.items()}}):
        samples = []
        for opt in (raw, disk):
            np.random.seed(7)
            backend = opt(folder)["io_backend"]
            made = opt(folder, **changes | phase | {"io_backend": backend})
            samples.append(drawn(made, 7, list(range(COUNT))))
        assert_same(*samples)


def test_an_empty_corner_of_a_colour_image_is_colour(tmp_path: Path) -> None:
    """Whether Y is taken is decided on the image, not on the patch, which is gray here."""
    image = np.full((16, 16, 3), 200, np.uint8)
    image[-1, -1] = 10, 20, 30
    write_png(tmp_path / "GT" / "a.png", image)
    make_raw(tmp_path / "GT", tmp_path / "GT.raw")
    changes = {"type": "JPEGCompressionDataset", "in_chans": 1, "quality": 10}
    for opt in (raw, disk):
        backend = opt(tmp_path)["io_backend"]
        (sample,) = drawn(opt(tmp_path, **changes | {"io_backend": backend}), 2, [0])
        assert sample["gt"][0, 0, 0] * 255 == pytest.approx(188, abs=0.1)  # 16 + 219 / 255 * 200


# --------------------------------------------------------------------------------------------------
# Through the command line
# --------------------------------------------------------------------------------------------------
RAW_KEYS: dict[str, Any] = {
    "datasets.train.type": "RawPairedImageDataset",
    "datasets.train.dataroot_gt": "data/GT.raw",
    "datasets.train.dataroot_lq": "data/LR.raw",
    "datasets.train.io_backend": {"type": "raw"},
}


@pytest.fixture
def stored(project: Project) -> Project:
    """The project with its training images in stores as well."""
    for half in ("GT", "LR"):
        make_raw(Path(f"data/train/{half}"), Path(f"data/{half}.raw"))
    return project


def test_training_ends_in_the_same_weights(stored: Project) -> None:
    """From the folder, from stores, from memory, and from memory as a subset."""
    kept = RAW_KEYS | {"datasets.train.keep_on_device": True}
    subset = kept | {
        "datasets.train.type": "SubsetsDataset",
        "datasets.train.subset_type": "RawPairedImageDataset",
        "datasets.train.subsets": ["data"],
        "datasets.train.dataroot_gt": "{}/GT.raw",
        "datasets.train.dataroot_lq": "{}/LR.raw",
    }
    runs = {"folder": {}, "raw": RAW_KEYS, "kept": kept, "subset": subset}
    weights = []
    for name, changes in runs.items():
        changes = {"name": name, "datasets.train.dataset_enlarge_ratio": 3, **changes}
        result = stored.run("train", "-opt", stored.write(changes))
        assert result.status == 0, result.err
        assert "warning" not in result.err
        weights.append(stored.weights(name=name))
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"datasets.train.dataroot_gt": "data/no.raw"}, "dataroot_gt: data/no.raw does not exist"),
        (
            {"datasets.train.dataroot_lq": "data/train"},
            "datasets.train.dataroot_lq: data/train/meta_info.txt: missing; remove data/train and",
        ),
        (
            {"datasets.train.type": "PairedImageDataset"},
            "datasets.train.type: PairedImageDataset does not read raw stores; use RawPaired",
        ),
        (
            {"datasets.train.io_backend": {"type": "lmdb"}},
            "datasets.train: io_backend: {'type': 'lmdb'} must be {type: raw}",
        ),
        (
            {"scale": 4, "network_g.upscale": 4, "datasets.val": ..., "val": ...},
            "key '0000' of data/LR.raw has 16x16 pixels and does not fit key '0000' of data/GT",
        ),
        ({"datasets.train.gt_size": 64}, "64 is larger than key '0000' of data/GT.raw with 32x32"),
        ({"datasets.train.keep_on_device": "yes"}, "keep_on_device: 'yes' must be true or false"),
        (
            {"datasets.train.keep_on_device": True, "datasets.train.color": "y"},
            "keep_on_device: true makes RGB alone",
        ),
        ({"datasets.train.keep_on_devise": True}, "'keep_on_devise' (did you mean 'keep_on_device"),
    ],
)
def test_one_line_for_what_is_wrong(stored: Project, changes: dict[str, Any], message: str) -> None:
    result = stored.run("check", "-opt", stored.write(RAW_KEYS | changes))
    assert result.status == 2 and result.err.count("\n") == 1, result.err
    assert message in result.err


def test_damaged_and_unpaired_stores_are_one_line(stored: Project) -> None:
    images = Path("data/GT.raw/images.bin")
    content = images.read_bytes()
    images.write_bytes(content[:-1])
    result = stored.run("check", "-opt", stored.write(RAW_KEYS))
    assert result.status == 2 and result.err.count("\n") == 1
    assert "datasets.train.dataroot_gt: data/GT.raw/images.bin: 12,287 bytes do not" in result.err
    images.write_bytes(content)
    Path("data/train/LR/0001.png").rename("data/train/LR/0009.png")
    make_raw(Path("data/train/LR"), Path("data/other.raw"))
    odd = RAW_KEYS | {"datasets.train.dataroot_lq": "data/other.raw"}
    result = stored.run("check", "-opt", stored.write(odd))
    assert result.status == 2 and result.err.count("\n") == 1
    assert "4 images of data/GT.raw and 4 of data/other.raw do not pair up: '0001' is" in result.err
    Path("data/train/LR/0009.png").rename("data/train/LR/0001.png")
    write_png(Path("data/train/LR/0010.png"), random_image(0, (16, 16, 3)))
    make_raw(Path("data/train/LR"), Path("data/more.raw"))
    odd = RAW_KEYS | {"datasets.train.dataroot_lq": "data/more.raw"}
    result = stored.run("check", "-opt", stored.write(odd))
    assert result.status == 2 and result.err.count("\n") == 1
    assert "and 5 of data/more.raw do not pair up: '0010' has no GT; make both" in result.err


def test_check_knows_every_key(stored: Project) -> None:
    changes = RAW_KEYS | {"datasets.train.keep_on_device": True}
    result = stored.run("check", "-opt", stored.write(changes))
    assert result.status == 0 and result.err == ""
    assert "datasets.train: TinyTrain, 4 pairs" in result.out
    unread = {"datasets.train.keep_on_device": True}
    result = stored.run("check", "-opt", stored.write(unread))
    assert "unknown key 'keep_on_device': nothing reads it" in result.err
