"""Image files are listed, measured and read as OpenCV sees them, and written whole."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from compacter_arch.errors import UserError
from compacter_arch.prepare import files
from compacter_arch.prepare.files import (
    image_shape,
    image_size,
    link_or_copy,
    list_images,
    read_image,
    remove_leftovers,
    write_file,
)

from .tools import noise_png, random_image, tree


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        noise_png(tmp_path / "a.png", 8, 8)
    assert list(tmp_path.iterdir()) == []


def test_images_are_listed_by_suffix_and_name(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "sub/c.png"):
        write_file(tmp_path / name, b"")
    assert [path.name for path in list_images(tmp_path)] == ["a.jpg", "b.PNG"]


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm"])
def test_header_tells_what_is_read(tmp_path: Path, mode: str, suffix: str) -> None:
    """For all modes that a format can hold: (H, W, C) are those of the pixels, or it is refused."""
    path = tmp_path / f"a{suffix}"
    try:
        Image.fromarray(random_image(0, (9, 13, 3))).convert(mode).save(path)
    except OSError:
        return  # a format without this mode
    assert image_size(path) == (9, 13)
    if (mode, suffix) in (("LA", ".tif"), ("CMYK", ".tif")):  # no one else has such
        return
    shape = image_shape(path)
    img = read_image(path)
    assert (*img.shape, 1)[:3] == shape and shape[:2] == (9, 13)
    assert (shape[2] == 1) == (mode in ("1", "L") and suffix != ".webp")
    assert read_image(path, color=True).shape == (9, 13, 3)


def test_alpha_and_gray_are_kept(tmp_path: Path) -> None:
    for shape in ((8, 9), (8, 9, 3), (8, 9, 4)):
        img = random_image(3, shape)
        cv2.imwrite(str(tmp_path / "a.png"), img)
        np.testing.assert_array_equal(read_image(tmp_path / "a.png"), img)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_are_turned_upright(tmp_path: Path, orientation: int) -> None:
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(random_image(0, (16, 40, 3))).save(path, exif=exif)
    assert image_size(path) == ((16, 40) if orientation < 5 else (40, 16))
    assert read_image(path).shape == (*image_size(path), 3)
    Image.fromarray(random_image(0, (16, 40, 3))).save(path, exif=b"Exif\0\0damaged")
    assert image_size(path) == (16, 40)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_images_are_refused(tmp_path: Path) -> None:
    for suffix in (".png", ".jpg", ".bmp", ".webp", ".tif"):
        whole = cv2.imencode(suffix, random_image(0, (64, 64, 3)))[1].tobytes()
        path = tmp_path / f"a{suffix}"
        for share in (0, 0.01, 0.5, 0.99):
            path.write_bytes(whole[: int(len(whole) * share)])
            with pytest.raises(UserError, match=rf"a\{suffix}.*; replace or remove it"):
                read_image(path)
    path = tmp_path / "a.png"
    whole = cv2.imencode(".png", random_image(0, (64, 64, 3)))[1].tobytes()
    path.write_bytes(whole[:500] + bytes(100) + whole[600:])
    with pytest.raises(UserError, match=r"a\.png is damaged; replace or remove it"):
        read_image(path)


def test_sixteen_bits_are_refused(tmp_path: Path) -> None:
    gray, colour = tmp_path / "gray.png", tmp_path / "colour.png"
    cv2.imwrite(str(gray), random_image(0, (8, 8), np.uint16))
    cv2.imwrite(str(colour), random_image(0, (8, 8, 3), np.uint16))
    with pytest.raises(UserError, match=r"gray\.png: .* save it as an 8-bit PNG"):
        image_shape(gray)
    with pytest.raises(UserError, match=r"colour\.png: 16 bits .* save it as an 8-bit PNG"):
        read_image(colour)
    assert read_image(gray, color=True).dtype == np.uint8  # as BasicSR reads it


def test_links_and_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tmp_path / "a"
    source.write_bytes(b"content")
    link_or_copy(source, tmp_path / "sub" / "link")
    assert os.path.samefile(source, tmp_path / "sub" / "link")

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr("os.link", refuse)
    link_or_copy(source, tmp_path / "sub" / "copy")
    assert not os.path.samefile(source, tmp_path / "sub" / "copy")
    assert tree(tmp_path / "sub") == {"link": b"content", "copy": b"content"}


def test_only_our_leftovers_are_removed(tmp_path: Path) -> None:
    dead = 2**22 + 1  # larger than any process number of Linux
    ours = {f".a.png.{dead}.tmp", f".a.png.{os.getpid()}.tmp"}
    others = {
        f".b.png.{dead}.tmp",  # not among the files that are to be written
        f".a.png.{os.getppid()}.tmp",  # of another process that runs
        ".a.png.x.tmp",
        f"a.png.{dead}.tmp",
        "a.png",
    }
    for name in ours | others:
        (tmp_path / name).touch()
    remove_leftovers(tmp_path, {"a.png"})
    assert {path.name for path in tmp_path.iterdir()} == others
    remove_leftovers(tmp_path / "absent", {"a.png"})


def test_elsewhere_no_process_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows ``os.kill(pid, 0)`` ends the process."""
    monkeypatch.setattr(files.os, "kill", lambda *_: pytest.fail("killed"))
    monkeypatch.setattr(files.os, "name", "nt")
    assert not files._is_running(os.getppid())
