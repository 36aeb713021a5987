"""Images."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from basicsr.data import degradations, transforms
from basicsr.utils import file_client, img_util, matlab_functions

from .tools import original, png


@pytest.mark.parametrize("content", [png()[:300], b"", b"no image"])
@pytest.mark.parametrize("float32", [False, True])
def test_undecodable_images_are_named(tmp_path: Path, content: bytes, float32: bool) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(content)
    read = file_client.FileClient("disk").get(str(path))
    with pytest.raises(ValueError, match=r"a\.png cannot be decoded") as caught:
        img_util.imfrombytes(read, float32=float32)
    assert str(path) in str(caught.value)
    with pytest.raises(ValueError, match="The image cannot be decoded"):
        img_util.imfrombytes(content, float32=float32)
    if content:  # as released: None, or a failure on None
        released = original(img_util.imfrombytes)
        if float32:
            with pytest.raises(AttributeError, match="NoneType"):
                released(content, float32=True)
        else:
            assert released(content) is None


def test_images_are_read_as_before(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(png())
    client = file_client.FileClient("disk")
    read = client.get(str(path))
    assert read == png() and read.path == str(path)
    assert not hasattr(original(file_client.FileClient.get)(client, str(path)), "path")
    image = img_util.imfrombytes(read, "grayscale", True)
    assert np.array_equal(image, original(img_util.imfrombytes)(png(), "grayscale", True))


def test_size_mismatch_names_the_file() -> None:
    gt, lq = np.zeros((8, 8, 3)), np.zeros((3, 4, 3))
    with pytest.raises(ValueError, match=r"^set/a\.png: Scale mismatches\. GT .* LQ \(3, 4\)"):
        transforms.paired_random_crop(gt, lq, 4, 2, "set/a.png")
    with pytest.raises(ValueError) as caught:
        original(transforms.paired_random_crop)(gt, lq, 4, 2, "set/a.png")
    assert "a.png" not in str(caught.value)
    with pytest.raises(ValueError, match=r"smaller than patch size .* remove set/a\.png"):
        transforms.paired_random_crop(gt, np.zeros((4, 4, 3)), 16, 2, "set/a.png")


@pytest.mark.parametrize("shape", [(16, 12, 3), (16, 12)])
def test_imresize_of_uint8(shape: tuple[int, ...]) -> None:
    image = np.random.default_rng(0).choice(np.array([0, 255], np.uint8), shape)
    floats = original(matlab_functions.imresize)(image, 2)
    assert floats.dtype == np.float32 and floats.min() < 0 and floats.max() > 255

    resized = matlab_functions.imresize(image, 2)
    assert resized.dtype == np.uint8 and resized.shape == floats.shape
    assert np.abs(resized - np.clip(floats, 0, 255)).max() <= 0.5

    tensor = torch.from_numpy(image if image.ndim == 2 else image.transpose(2, 0, 1))
    of_tensor = matlab_functions.imresize(tensor, 2).numpy()
    assert np.array_equal(of_tensor if image.ndim == 2 else of_tensor.transpose(1, 2, 0), resized)


def test_imresize_of_floats_stays() -> None:
    image = np.random.default_rng(0).random((8, 8, 3))
    expected = original(matlab_functions.imresize)(image, 0.5)
    assert np.array_equal(matlab_functions.imresize(image, 0.5), expected)


def test_jpg_quality_may_be_a_float() -> None:
    image = np.random.default_rng(0).random((16, 16, 3)).astype(np.float32)
    compressed = degradations.random_add_jpg_compression(image, (30.2, 60.7))
    assert compressed.shape == image.shape
    assert np.array_equal(
        degradations.add_jpg_compression(image, 40.7),
        original(degradations.add_jpg_compression)(image, 40),
    )
    with pytest.raises(cv2.error):
        original(degradations.add_jpg_compression)(image, 40.7)
