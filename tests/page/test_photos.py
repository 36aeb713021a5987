"""Photographs from a browser: limits before decoding, results in full, words without folders."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from compacter_arch import restore
from compacter_arch.errors import UserError
from compacter_arch.inference.encoding import png_of_chunks, write_photo
from compacter_arch.inference.images import Photo, read_photo
from compacter_arch.inference.restoration import Restorer
from compacter_arch.page import photos
from compacter_arch.page.photos import Limits, read_upload, restore_upload, show_upload
from compacter_arch.page.tasks import WORDS, choices
from compacter_arch.zoo import TASKS

from ..inference.tools import tiny

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def random(*shape: int, kind: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(0).integers(0, np.iinfo(kind).max, shape, kind, endpoint=True)


def png_that_claims(width: int, height: int) -> bytes:
    """A PNG file of this size, with hardly any pixels in it."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(bytes(100)))]
    return png_of_chunks(chunks)


def test_every_task_has_words():
    assert set(WORDS) == set(TASKS)
    assert [task for _, task in choices()] == list(TASKS)
    assert len({words for words, _ in choices()}) == len(TASKS)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_depth_alpha_and_profile_are_kept(tmp_path: Path, suffix: str):
    file, model = tmp_path / f"photo{suffix}", tiny()
    write_photo(file, Photo(random(9, 12, 3, kind=np.uint16), random(9, 12, kind=np.uint16), SRGB))
    result = restore_upload(file, Limits(), Restorer(model), tmp_path)
    assert result.file.name == file.name and result.file != file
    after = read_photo(result.file)
    np.testing.assert_array_equal(after.channels, restore(file, model))
    assert after.channels.dtype == np.uint16 and after.icc == SRGB
    assert result.facts == "12 × 9, 16 bits, transparency → 24 × 18, 16 bits, transparency"
    for picture in (result.before, result.after):
        with Image.open(picture) as img:
            assert img.size == (24, 18) and img.mode == "RGB"
            assert img.info["icc_profile"] == SRGB


def test_pictures_are_what_they_are_called(tmp_path: Path):
    """Before is the file enlarged, on white where it is transparent; after is the result."""
    smooth = np.tile(np.linspace(40, 200, 32, dtype=np.uint8)[:, None], (1, 32))
    alpha = np.full((32, 32), 255, np.uint8)
    alpha[:, 16:] = 0
    file = tmp_path / "photo.png"
    write_photo(file, Photo(smooth, alpha))
    result = restore_upload(file, Limits(), Restorer(tiny(channels=1)), tmp_path)
    before, after = (np.asarray(Image.open(name), int) for name in (result.before, result.after))
    assert np.abs(before[:, :24] - np.repeat(smooth, 2, 0)[:, :24]).max() < 12
    assert (before[:, 40:] > 250).all() and (after[:, 40:] > 250).all()
    restored = read_photo(result.file).pixels.astype(int)
    assert np.abs(after[:, :24] - restored[:, :24]).mean() < 4
    picture, facts = show_upload(file, Limits(), tmp_path)
    assert np.asarray(Image.open(picture)).shape == (32, 32)
    assert facts == "32 × 32, gray, transparency"


def test_pictures_are_no_larger_than_a_browser_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(photos, "SHOWN", 20)
    file = tmp_path / "photo.jpg"
    write_photo(file, Photo(random(8, 40, 3)))
    result = restore_upload(file, Limits(), Restorer(tiny()), tmp_path)
    assert read_photo(result.file).pixels.shape == (16, 80, 3)
    assert Image.open(result.before).size == Image.open(result.after).size == (20, 4)


@pytest.mark.parametrize("name, alpha", [("photo.gif", False), ("photo.bmp", True)])
def test_formats_that_are_not_written_become_png(tmp_path: Path, name: str, alpha: bool):
    file = tmp_path / name
    Image.fromarray(random(8, 8, 3 + alpha)).save(file)
    result = restore_upload(file, Limits(), Restorer(tiny()), tmp_path)
    kept = name == "photo.bmp" and read_photo(file).alpha is None  # as older Pillow reads it
    assert result.file.name == (name if kept else "photo.png")
    np.testing.assert_array_equal(read_photo(result.file).channels, restore(file, tiny()))


def test_bounds(tmp_path: Path):
    file = tmp_path / "photo.png"
    write_photo(file, Photo(random(20, 30, 3)))
    assert read_upload(file, Limits(pixels=600)).pixels.shape == (20, 30, 3)
    with pytest.raises(UserError, match=r"^photo.png: 30 x 20 are more than 0.000599 million"):
        read_upload(file, Limits(pixels=599))
    os.truncate(file, 2**20)  # what follows the image does no harm
    assert read_upload(file, Limits(megabytes=1)).pixels.shape == (20, 30, 3)
    os.truncate(file, 2**20 + 1)
    with pytest.raises(UserError, match=r"^photo.png: a file of more than 1 MB"):
        read_upload(file, Limits(megabytes=1))


def test_bomb_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def decoded(path: Path) -> Photo:
        raise AssertionError(path)

    monkeypatch.setattr(photos, "read_photo", decoded)
    file = tmp_path / "bomb.png"
    file.write_bytes(png_that_claims(60_000, 60_000))
    with pytest.raises(UserError, match=r"^bomb.png: 60000 x 60000 are more than 24 million"):
        read_upload(file, Limits())


def test_errors_do_not_tell_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "No space left on device", str(path))

    file = tmp_path / "photo.png"
    with pytest.raises(UserError, match=r"^(?!.*/).*photo.png"):
        read_upload(file, Limits())  # swept away
    file.write_text("not a photograph")
    with pytest.raises(UserError, match=r"^photo.png: not an image"):
        read_upload(file, Limits())
    write_photo(file, Photo(random(8, 8, 3)))
    monkeypatch.setattr(photos, "write_file", full)
    with pytest.raises(UserError, match=r"No space left on device: 'photo.png'$"):
        restore_upload(file, Limits(), Restorer(tiny()), tmp_path)


def test_no_memory_is_told(tmp_path: Path):
    class Greedy(Restorer):
        def photo(self, photo: Photo, progress: object = None) -> Photo:
            raise MemoryError

    file = tmp_path / "photo.png"
    write_photo(file, Photo(random(8, 8, 3)))
    with pytest.raises(UserError, match="^out of memory$"):
        restore_upload(file, Limits(), Greedy(tiny()), tmp_path)
