"""Commands that are killed and repeated leave what they leave undisturbed, byte for byte."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from compacter_arch.prepare import (
    lmdb_files,
    make_benchmark,
    make_lmdb,
    make_lr,
    make_subimages,
)

from .tools import SLOW, kill_and_repeat, noise_png, stamps, start, tree, wait_for_work

KILLS = 3


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("images")
    for number in range(40):
        noise_png(folder / f"{number:04d}.png", 250 + number, 300, number)
    return folder


def test_lr(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ["prepare", "lr", str(images), "-o", f"{out}/LR", "--gt", f"{out}/GT", "--scale", "2"]
    assert kill_and_repeat(out, argv, KILLS, seed=1, setup=SLOW)
    make_lr(images, tmp_path / "whole" / "LR", 2, gt=tmp_path / "whole" / "GT")
    assert tree(out) == tree(tmp_path / "whole")


def test_subimages(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    sizes = {"crop_size": 96, "step": 64}
    flags = [word for name, size in sizes.items() for word in (f"--{name}", str(size))]
    argv = ["prepare", "subimages", str(images), "-o", str(out), *flags]
    assert kill_and_repeat(out, argv, KILLS, seed=2, setup=SLOW)
    make_subimages(images, tmp_path / "whole", **sizes)
    assert tree(out) == tree(tmp_path / "whole")


def test_benchmarks(images: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    argv = ["prepare", "benchmarks", str(images), "--name", "Set", "-o", str(out)]
    assert kill_and_repeat(out, argv, KILLS, seed=3, setup=SLOW)
    make_benchmark(images, "Set", tmp_path / "whole")
    assert tree(out) == tree(tmp_path / "whole")


def test_lmdb(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With batches of three images, so that most runs find some of the earlier one's."""
    batch = (3, 2**28)
    out = tmp_path / "out"
    out.mkdir()
    argv = ["prepare", "lmdb", str(images), "-o", f"{out}/a.lmdb"]
    setup = f"from compacter_arch.prepare import lmdb_files; lmdb_files._BATCH = {batch}"
    assert kill_and_repeat(out, argv, KILLS, seed=4, setup=setup, within=0.1)
    monkeypatch.setattr(lmdb_files, "_BATCH", batch)
    make_lmdb(images, tmp_path / "whole" / "a.lmdb")
    assert sorted(tree(out)) == ["a.lmdb/data.mdb", "a.lmdb/meta_info.txt"]
    assert tree(out) == tree(tmp_path / "whole")


def test_ctrl_c_stops_at_once(images: Path, tmp_path: Path) -> None:
    """What waits is not begun, what runs is completed, and one line says what happened."""
    argv = ["prepare", "subimages", str(images), "-o", str(tmp_path / "out"), "--crop_size", "64"]
    process = start(*argv, "--step", "16", setup=SLOW)
    wait_for_work(process, tmp_path)
    process.send_signal(signal.SIGINT)
    begin = time.monotonic()
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130
    assert errors.splitlines()[-1] == "basicsr prepare: interrupted"
    assert time.monotonic() - begin < 30
    left = stamps(tmp_path / "out")
    assert left and len(left) < 40 * 13 * 15
    assert not [name for name in left if name.endswith(".tmp")]
