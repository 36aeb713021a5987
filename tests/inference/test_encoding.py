"""Photographs written: everything comes back, files are complete or not there."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from compacter_arch.errors import UserError
from compacter_arch.inference.encoding import encode, write_photo
from compacter_arch.inference.images import Photo, read_photo

from .test_images import KINDS, SRGB, XMP, assert_tells_the_same, exif, random_array

UPRIGHT_XMP = XMP.replace(b'"6"', b'"1"')


def photo_of(mode: str, dtype: str = "uint8", size: tuple[int, int] = (9, 7)) -> Photo:
    """With all that can belong to a photograph."""
    array = random_array(mode, dtype, size)
    pixels, alpha = array, None
    if mode.endswith("A"):
        pixels, alpha = array[..., 0] if mode == "LA" else array[..., :3], array[..., -1]
    icc = SRGB if mode.startswith("RGB") else b""
    return Photo(pixels, alpha, icc, exif().tobytes(), UPRIGHT_XMP, (300, 150))


@pytest.mark.parametrize("size", [(9, 7), (1, 1), (5, 300)])
@pytest.mark.parametrize("mode", KINDS)
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_all_of_it_comes_back(
    tmp_path: Path, suffix: str, dtype: str, mode: str, size: tuple[int, int]
):
    photo, file = photo_of(mode, dtype, size), tmp_path / f"a{suffix}"
    write_photo(file, photo)
    if (suffix, dtype, mode) == (".tif", "uint16", "LA"):  # tifffile alone reads it
        import tifffile

        assert np.array_equal(tifffile.imread(file), photo.channels)
        return
    back = read_photo(file)
    assert back.channels.dtype == dtype and np.array_equal(back.channels, photo.channels)
    assert (back.icc, back.xmp) == (photo.icc, photo.xmp)
    assert back.dpi == pytest.approx((300, 150), abs=0.1)
    if (suffix, dtype) == (".tif", "uint16"):
        assert Image.open(file).getexif()[271] == "Acme"
    else:
        assert_tells_the_same(back.exif)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_16_bits_are_read_by_others(tmp_path: Path, mode: str):
    photo = photo_of(mode, "uint16")
    for suffix in (".png", ".tif"):
        write_photo(tmp_path / f"a{suffix}", photo)
        seen = cv2.imread(str(tmp_path / f"a{suffix}"), cv2.IMREAD_UNCHANGED)
        assert np.array_equal(seen[..., [2, 1, 0, 3][: len(mode)]], photo.channels)


@pytest.mark.parametrize("mode", ["L", "RGB"])
@pytest.mark.parametrize("suffix", [".jpg", ".jpeg", ".JPG", ".webp", ".bmp"])
def test_lossy_and_plain_formats(tmp_path: Path, suffix: str, mode: str):
    smooth = cv2.resize(random_array(mode, size=(3, 3)), (32, 24), interpolation=cv2.INTER_LINEAR)
    photo = Photo(smooth, None, SRGB if mode == "RGB" else b"", exif().tobytes(), UPRIGHT_XMP)
    write_photo(tmp_path / f"a{suffix}", photo, quality=98)
    back = read_photo(tmp_path / f"a{suffix}")
    expected = np.dstack([smooth] * 3) if (suffix, mode) == (".webp", "L") else smooth
    assert back.pixels.shape == expected.shape
    assert abs(back.pixels.astype(int) - expected).mean() < 3
    if suffix != ".bmp":
        assert (back.icc, back.xmp) == (photo.icc, photo.xmp)
        assert_tells_the_same(back.exif)


def test_alpha_in_webp(tmp_path: Path):
    photo = photo_of("RGBA")
    write_photo(tmp_path / "a.webp", photo)
    assert np.array_equal(read_photo(tmp_path / "a.webp").alpha, photo.alpha)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize("suffix", [".jpg", ".bmp"])
def test_alpha_is_never_dropped(tmp_path: Path, suffix: str, mode: str):
    with pytest.raises(UserError, match=f"a{suffix}: .* has no transparency, .*choose png"):
        write_photo(tmp_path / f"a{suffix}", photo_of(mode))
    assert list(tmp_path.iterdir()) == []


def test_16_bits_become_8_where_there_are_no_more(tmp_path: Path):
    values = np.array([[0, 128, 129, 257, 65535, 65406]], np.uint16)
    write_photo(tmp_path / "a.bmp", Photo(values))
    assert read_photo(tmp_path / "a.bmp").pixels.tolist() == [[0, 0, 1, 1, 255, 254]]


def test_profile_of_other_colors_is_left_out():
    gray = SRGB[:16] + b"GRAY" + SRGB[20:]
    assert b"iCCP" in encode(Photo(random_array("L"), icc=gray), ".png")
    assert b"iCCP" not in encode(Photo(random_array("RGB"), icc=gray), ".png")
    assert b"ICCP" not in encode(Photo(random_array("L"), icc=gray), ".webp")
    assert b"iCCP" in encode(Photo(random_array("RGB", "uint16"), icc=SRGB), ".png")


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiff_of_a_photograph_with_a_width_of_its_own(tmp_path: Path, dtype: str):
    """EXIF has the same tags; those of the camera are not those of this file."""
    told = exif()
    told[256], told[257], told[262], told[531] = 9999, 1, 6, 1
    photo = Photo(random_array("RGB", dtype), exif=told.tobytes())
    write_photo(tmp_path / "a.tif", photo)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, photo.pixels)
    assert Image.open(tmp_path / "a.tif").getexif()[271] == "Acme"


def test_quality_counts():
    photo = Photo(random_array("RGB", size=(64, 64)))
    for suffix in (".jpg", ".webp"):
        assert len(encode(photo, suffix, 30)) < len(encode(photo, suffix, 95))


def test_unknown_suffix(tmp_path: Path):
    for name in ("a.gif", "a"):
        with pytest.raises(UserError, match="give one of .png .jpg"):
            write_photo(tmp_path / name, photo_of("RGB"))


def test_too_large_for_the_format(tmp_path: Path):
    with pytest.raises(UserError, match="a.webp: cannot be written"):
        write_photo(tmp_path / "a.webp", Photo(np.zeros((1, 16384, 3), np.uint8)))
    assert list(tmp_path.iterdir()) == []


def test_no_place_to_write(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="a.png: cannot be written"):
        write_photo(tmp_path / "file" / "a.png", photo_of("RGB"))


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = tmp_path / "a.png"
    write_photo(file, photo_of("L"))
    before = file.read_bytes()

    def full(source: object, target: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_photo(file, photo_of("RGB"))
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"] and file.read_bytes() == before
