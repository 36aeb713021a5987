"""Degraded copies: the same for ever when testing, fresh and in range when training."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import build_dataset
from torch.utils.data import DataLoader

from ..conftest import Project

# SHA-256 of the float32 bytes of the degraded STRIPES, computed with OpenCV 5.0 and NumPy 2.4, and
# again with OpenCV 4.11 and NumPy 1.26: (type, level, in_chans, seed) -> first 16 digits.
HASHES = {
    ("GaussianNoiseDataset", 15, 1, 0): "7b6334ed1a7522a3",
    ("GaussianNoiseDataset", 15, 1, 1): "abd7692fd54e241b",
    ("GaussianNoiseDataset", 15, 3, 0): "ef1297ef7ccba44a",
    ("GaussianNoiseDataset", 15, 3, 1): "59ff99032366d504",
    ("GaussianNoiseDataset", 50, 1, 0): "ba635936d8b5487a",
    ("GaussianNoiseDataset", 50, 3, 0): "545887c49ed64478",
    ("JPEGCompressionDataset", 10, 1, 0): "e5dfa79ee90c9fd5",
    ("JPEGCompressionDataset", 10, 3, 0): "6970ab88ad107900",
    ("JPEGCompressionDataset", 40, 1, 0): "af4297ffb145782b",
    ("JPEGCompressionDataset", 40, 3, 0): "d394e0ea5b9bde2f",
}
LEVEL_KEY = {"GaussianNoiseDataset": "sigma", "JPEGCompressionDataset": "quality"}
NOISE, JPEG = LEVEL_KEY
STRIPES = (np.add.outer(np.arange(40) * 7, np.arange(56) * 5)[..., None] + [0, 40, 90]) % 256


def options(root: Path | str, type_: str, level: Any, **changes: Any) -> dict[str, Any]:
    return {
        "name": "test",
        "type": type_,
        "phase": "test",
        "dataroot_gt": str(root),
        "io_backend": {"type": "disk"},
        LEVEL_KEY[type_]: level,
    } | changes


def training(root: Path | str, type_: str, level: Any, **changes: Any) -> dict[str, Any]:
    patches = {"phase": "train", "gt_size": 16, "use_hflip": True, "use_rot": True}
    return options(root, type_, level, **patches | changes)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images: STRIPES, its mirror image, and a gray one."""
    images = [STRIPES, STRIPES[:, ::-1], STRIPES[..., 0]]
    for name, image in zip("abc", images, strict=True):
        cv2.imwrite(str(tmp_path / f"{name}.png"), image.astype(np.uint8))
    return tmp_path


@pytest.mark.parametrize("case", HASHES)
def test_testing_is_the_same_for_ever(folder: Path, case: tuple[str, int, int, int]):
    type_, level, in_chans, seed = case
    sample = build_dataset(options(folder, type_, level, in_chans=in_chans, seed=seed))[0]
    assert sample["lq"].shape == (in_chans, 40, 56) and sample["lq"].dtype == torch.float32
    assert hashlib.sha256(sample["lq"].numpy().tobytes()).hexdigest()[:16] == HASHES[case]
    assert sample["lq_path"] == sample["gt_path"] == str(folder / "a.png")


@pytest.mark.parametrize("type_", LEVEL_KEY)
def test_testing_depends_on_nothing_else(folder: Path, type_: str):
    """Neither on the order, nor on workers, nor on the global generators, which it leaves alone."""
    dataset = build_dataset(options(folder, type_, 25))
    wanted = [dataset[i]["lq"] for i in range(3)]
    np.random.seed(5)
    state = np.random.get_state()[1].copy()
    assert all(torch.equal(dataset[i]["lq"], wanted[i]) for i in (2, 0, 1, 1))
    assert np.array_equal(np.random.get_state()[1], state)
    loaded = list(DataLoader(dataset, num_workers=2))
    assert all(torch.equal(a["lq"][0], b) for a, b in zip(loaded, wanted, strict=True))


def test_noise_has_its_sigma_and_is_not_clipped(tmp_path: Path):
    white = np.full((300, 300, 3), 255, np.uint8)
    cv2.imwrite(str(tmp_path / "white.png"), white)
    sample = build_dataset(options(tmp_path, NOISE, 50))[0]
    noise = (sample["lq"] - sample["gt"]) * 255
    assert noise.std().item() == pytest.approx(50, rel=0.01)
    assert noise.mean().item() == pytest.approx(0, abs=0.5)
    assert sample["lq"].max() > 1.5
    assert (sample["gt"] == 1).all()


def test_noise_is_that_of_the_published_protocol(folder: Path):
    """`np.random.seed(0)`, then `np.random.normal` over the BGR pixels, for each image."""
    dataset = build_dataset(options(folder, NOISE, 25))
    for index, name in enumerate("ab"):
        bgr = cv2.imread(str(folder / f"{name}.png")).astype(np.float32) / 255
        np.random.seed(0)
        bgr = bgr + np.random.normal(0, 25 / 255, bgr.shape)
        wanted = bgr[..., ::-1].transpose(2, 0, 1).astype(np.float32)
        np.testing.assert_array_equal(dataset[index]["lq"].numpy(), wanted)


@pytest.mark.parametrize("level", [10, 40])
def test_jpeg_is_opencv_s(folder: Path, level: int):
    file = folder / "out.jpg"
    bgr = cv2.imread(str(folder / "a.png"))
    cv2.imwrite(str(file), bgr, [cv2.IMWRITE_JPEG_QUALITY, level])
    wanted = cv2.imread(str(file))[..., ::-1].transpose(2, 0, 1)
    file.unlink()
    lq = build_dataset(options(folder, JPEG, level))[0]["lq"]
    np.testing.assert_array_equal((lq * 255).round().byte().numpy(), wanted)


def test_gray_of_each_task(folder: Path):
    """Denoising takes the usual gray, JPEG the Y of BT.601; a gray image is itself for both."""
    bgr = cv2.imread(str(folder / "a.png"))
    weights = {
        NOISE: (0, [0.114, 0.587, 0.299]),
        JPEG: (16, [24.966 / 255, 128.553 / 255, 65.481 / 255]),
    }
    for type_, (offset, of_bgr) in weights.items():
        dataset = build_dataset(options(folder, type_, 10, in_chans=1))
        exact = offset + bgr @ of_bgr
        assert np.abs(dataset[0]["gt"][0].numpy() * 255 - exact).max() < 0.52
        plain = cv2.imread(str(folder / "c.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal((dataset[2]["gt"][0] * 255).round().numpy(), plain)


@pytest.mark.parametrize(("type_", "level"), [(NOISE, [0, 50]), (NOISE, 25), (JPEG, [10, 40])])
def test_training_draws_afresh_and_repeats_by_seed(folder: Path, type_: str, level: Any):
    dataset = build_dataset(training(folder, type_, level))

    def draw(seed: int) -> list[torch.Tensor]:
        random.seed(seed)
        np.random.seed(seed)
        return [dataset[0]["lq"] for _ in range(4)]

    first, again, other = draw(0), draw(0), draw(1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not any(torch.equal(first[0], later) for later in first[1:])
    assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_training_sigma_is_uniform_and_quality_reaches_both_ends(tmp_path: Path):
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3))
    cv2.imwrite(str(tmp_path / "a.png"), image.astype(np.uint8))
    np.random.seed(1)
    noise = build_dataset(training(tmp_path, NOISE, [0, 50], gt_size=48))
    sigmas = [
        255 * (sample["lq"] - sample["gt"]).std().item()
        for sample in (noise[0] for _ in range(200))
    ]
    assert np.mean(sigmas) == pytest.approx(25, abs=3) and np.std(sigmas) == pytest.approx(
        50 / 12**0.5, abs=2
    )
    assert min(sigmas) < 2 and max(sigmas) > 48
    plain = {"gt_size": 48, "use_hflip": False, "use_rot": False}
    jpeg = build_dataset(training(tmp_path, JPEG, [10, 12], **plain))
    drawn = {jpeg[0]["lq"].numpy().tobytes() for _ in range(40)}
    ends = {
        build_dataset(options(tmp_path, JPEG, q))[0]["lq"].numpy().tobytes() for q in (10, 11, 12)
    }
    assert drawn == ends


def test_patches_are_cut_and_turned_alike(folder: Path):
    """With no noise the two halves of a sample are one patch, somewhere in the image."""
    dataset = build_dataset(training(folder, NOISE, 0))
    whole = build_dataset(options(folder, NOISE, 0))[0]["gt"]
    seen = set()
    for _ in range(30):
        sample = dataset[0]
        assert torch.equal(sample["lq"], sample["gt"]) and sample["gt"].shape == (3, 16, 16)
        windows = whole.unfold(1, 16, 1).unfold(2, 16, 1)
        turned = {
            (k, flip): torch.rot90(sample["gt"].flip(2) if flip else sample["gt"], k, (1, 2))
            for k in range(4)
            for flip in (False, True)
        }
        hits = [
            key
            for key, patch in turned.items()
            if (windows == patch[:, None, None]).flatten(3).all(3).all(0).any()
        ]
        assert hits
        seen |= set(hits[:1])
    assert len(seen) > 2


def test_backends_give_the_same_images(project: Project):
    project.make_lmdb("data/train/GT", "data/GT.lmdb")
    project.make_meta_info("data/train/GT", "data/meta_info.txt")
    lmdb = {"dataroot_gt": "data/GT.lmdb", "io_backend": {"type": "lmdb"}}
    listed = {"meta_info_file": "data/meta_info.txt"}
    for type_ in LEVEL_KEY:
        wanted = build_dataset(options("data/train/GT", type_, 20))
        for changes in (lmdb, listed):
            dataset = build_dataset(options("data/train/GT", type_, 20, **changes))
            assert len(dataset) == len(wanted) == 4
            for a, b in zip(dataset, wanted, strict=True):
                assert torch.equal(a["lq"], b["lq"]) and torch.equal(a["gt"], b["gt"])


@pytest.mark.parametrize(
    ("type_", "level", "changes", "message"),
    [
        (NOISE, [0, 50], {}, "sigma: .* is a range"),
        (JPEG, [10, 40], {}, "quality: .* is a range"),
        (NOISE, [50, 0], {"phase": "train"}, "number or .lowest, highest"),
        (NOISE, 256, {}, "from 0 to 255"),
        (NOISE, "25", {}, "must be a number"),
        (JPEG, 0, {}, "from 1 to 100"),
        (JPEG, [10, 20, 30], {"phase": "train"}, "must be a number or"),
        (JPEG, 30, {"in_chans": 2}, "in_chans: 2 must be"),
    ],
)
def test_refuses_what_is_no_level(folder, type_, level, changes, message):
    with pytest.raises(ValueError, match=message):
        build_dataset(options(folder, type_, level, **changes))
