"""Files that no image should be: each command names them in one line, and writes nothing."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from compacter_arch.cli import main

from .images import CLAIMS
from .tools import smooth_image

COMMANDS = {
    "verify": ("verify", "in"),
    "lmdb": ("lmdb", "in", "-o", "out.lmdb"),
    "raw": ("raw", "in", "-o", "out.raw"),
    "meta_info": ("meta_info", "in", "-o", "out.txt"),
    "lr": ("lr", "in", "-o", "out", "--scale", "2", "--gt", "out_gt"),
    "subimages": ("subimages", "in", "-o", "out", "--crop_size", "16", "--step", "16"),
    "benchmarks": ("benchmarks", "in", "--name", "out"),
    "pairs": ("pairs", "in", "in", "-o", "out"),
}


def pipe(path: Path) -> None:
    os.mkfifo(path)


def open_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind(path.name)  # below the current directory: such a path is short
    os.rename(path.name, path)


def float_tiff(path: Path) -> None:
    image = np.full((32, 32), np.nan, np.float32)
    Image.fromarray(image).save(path, "TIFF")


WRONG: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (pipe, "is a pipe or a device"),
    "socket": (open_socket, "is a pipe or a device"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "is a pipe or a device"),
    "folder": (lambda path: path.mkdir(), "is a folder"),
    "link to nothing": (lambda path: path.symlink_to("absent.png"), "No such file"),
    "link to itself": (lambda path: path.symlink_to(path.name), "symbolic links"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "NaN": (float_tiff, "F is not 8 bits per channel"),
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``in`` below the current directory, with two images."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "in").mkdir()
    for name in ("a", "c"):
        cv2.imwrite(str(tmp_path / "in" / f"{name}.png"), smooth_image(0, 32, 32))
    return tmp_path / "in"


def refusals(capsys: pytest.CaptureFixture[str], name: str) -> str:
    """What all commands say of the image ``name``, in one line each; none leaves a file."""
    found = set()
    for argv in COMMANDS.values():
        assert main(["prepare", *argv]) in (1, 2), argv
        lines = capsys.readouterr().err.splitlines()
        assert len(lines) == 1 and f"in/{name}" in lines[0], (argv, lines)
        assert [path.name for path in Path().iterdir()] == ["in"], argv
        found.add(lines[0].removeprefix("basicsr prepare: error: "))
    assert len(found) == 1
    return found.pop()


@pytest.mark.skipif(os.name != "posix", reason="pipes, sockets and devices")
@pytest.mark.parametrize("kind", WRONG)
def test_no_file_of_an_image(folder: Path, capsys: pytest.CaptureFixture[str], kind: str) -> None:
    make, reason = WRONG[kind]
    make(folder / "b.png")
    line = refusals(capsys, "b.png")
    assert reason in line and "; " in line


@pytest.mark.parametrize("side", [60_000, 2**31 - 1])
@pytest.mark.parametrize("suffix", CLAIMS)
def test_claims_of_gigabytes(
    folder: Path, capsys: pytest.CaptureFixture[str], suffix: str, side: int
) -> None:
    (folder / f"b{suffix}").write_bytes(CLAIMS[suffix](side, side))
    line = refusals(capsys, f"b{suffix}")
    # Of 2**31 - 1, Pillow takes some for no size at all.
    assert "exceeds limit of" in line or side > 60_000
    assert line.endswith("; replace or remove it")


@pytest.mark.skipif(os.name != "posix", reason="such names")
@pytest.mark.parametrize(
    ("name", "told"), [(b"b\nc.png", r"b\nc.png'"), (b"b\xff.png", r"b\udcff.png'")]
)
def test_names_that_are_no_text(
    folder: Path, capsys: pytest.CaptureFixture[str], name: bytes, told: str
) -> None:
    cv2.imwrite(str(folder / "b.png"), smooth_image(1, 32, 32))
    os.rename(folder / "b.png", os.fsencode(folder) + b"/" + name)
    assert refusals(capsys, told).endswith(": a name is one line of text; rename it")


def test_names_that_a_disk_may_not_tell_apart(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(folder / "a.png", folder / "C.png")
    if len(list(folder.iterdir())) == 2:
        pytest.skip("this disk does not tell them apart")
    assert refusals(capsys, "c.png").endswith("c.png and C.png give the same PNG; rename one")


def test_folders_that_lead_to_themselves(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder.parent / "loop").symlink_to("loop")
    for argv in (("lr", "in", "-o", "loop", "--scale", "2"), ("subimages", "loop", "-o", "out")):
        assert main(["prepare", *argv]) == 2
        lines = capsys.readouterr().err.splitlines()
        assert lines[-1].startswith("basicsr prepare: error: ") and "loop" in lines[-1]


def test_losses_are_told_once(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two images of 16 bits, one with alpha, one of a palette: a line for each kind."""
    for name in ("d", "e"):
        deep = smooth_image(2, 32, 32).astype(np.uint16) * 257
        cv2.imwrite(str(folder / f"{name}.png"), deep)
    Image.new("RGBA", (32, 32)).save(folder / "f.png")
    Image.new("P", (32, 32)).save(folder / "g.png")
    expected = [
        "warning: in/d.png (and 1 more): has 16 bits per channel, of which 8 are read",
        "warning: in/f.png: has alpha, which is dropped",
        "warning: in/g.png: has a palette of at most 256 colors, which training images should "
        "not have",
    ]
    for command in ("verify", "raw", "lr"):
        assert main(["prepare", *COMMANDS[command]]) == 0
        lines = capsys.readouterr().err.splitlines()
        assert [line for line in lines if ": about " not in line] == expected, command
