"""Jobs: the disk is looked at first, and an error or Ctrl-C ends what waits."""

from __future__ import annotations

import os
import shutil
import signal
import threading
import time
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

from compacter_arch.errors import UserError
from compacter_arch.prepare.files import image_size
from compacter_arch.prepare.jobs import Job, existing, in_parallel, run_jobs

from .tools import noise_png, tree


def copies(folder: Path, out: Path) -> list[Job]:
    """Jobs that write each image twice."""
    jobs = []
    for path in sorted(folder.iterdir()):
        size = image_size(path)
        outputs = {out / half / path.name: size for half in "ab"}
        jobs.append(Job(path, size, outputs, lambda img: [img, 255 - img]))
    return jobs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(30):
        noise_png(tmp_path / "in" / f"{number:02d}.png", 60 + 2 * number, 70, number)
    return tmp_path / "in"


def test_only_what_is_missing_is_done(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run_jobs(copies(folder, out), "out") == 30
    whole = tree(out)
    assert len(whole) == 60
    kept = {path: path.stat().st_mtime_ns for path in out.rglob("*.png")}
    for name in ("a/03.png", "b/03.png", "b/17.png"):
        (out / name).unlink()
        del kept[out / name]
    (out / "a" / f".03.png.{2**22 + 1}.tmp").write_bytes(b"half an im")
    assert run_jobs(copies(folder, out), "out") == 2
    assert tree(out) == whole
    assert kept == {path: path.stat().st_mtime_ns for path in kept}
    assert run_jobs(copies(folder, out), "out") == 0


def test_workers_make_no_difference(folder: Path, tmp_path: Path) -> None:
    for workers in (1, 5):
        run_jobs(copies(folder, tmp_path / str(workers)), "out", workers)
    assert tree(tmp_path / "1") == tree(tmp_path / "5")


def test_the_estimate_is_told_and_close(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = []
    monkeypatch.setattr("compacter_arch.prepare.jobs._text", lambda size: told.append(size) or "X")
    run_jobs(copies(folder, tmp_path / "out"), "out")
    err = capsys.readouterr().err
    assert err == f"{tmp_path / 'out' / 'a'}: about X to write, X free\n"
    taken = sum(-(-len(data) // 4096) * 4096 for data in tree(tmp_path / "out").values())
    assert 0.9 < told[0] / taken < 1.1


def test_a_full_disk_is_noticed_before(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**9, 10**9 - 50_000, 50_000))
    with pytest.raises(UserError, match=r"out/a: about 1 MB to write and 50 KB free; make room"):
        run_jobs(copies(folder, tmp_path / "out"), "out")
    assert not (tmp_path / "out").exists() and capsys.readouterr().err == ""


def test_an_output_of_another_size_stops_it_before(folder: Path, tmp_path: Path) -> None:
    noise_png(tmp_path / "out" / "b" / "29.png", 9, 8)
    with pytest.raises(UserError, match=r"b/29\.png: exists with 8 x 9 pixels, .*gives 70 x 118"):
        run_jobs(copies(folder, tmp_path / "out"), "out")
    assert list(tree(tmp_path / "out")) == ["b/29.png"]


def test_a_damaged_image_ends_it(folder: Path, tmp_path: Path) -> None:
    jobs = copies(folder, tmp_path / "out")
    data = (folder / "07.png").read_bytes()
    (folder / "07.png").write_bytes(data[:300] + bytes(50) + data[350:])
    with pytest.raises(UserError, match=r"07\.png is damaged"):
        run_jobs(jobs, "out", workers=1)
    assert not [name for name in tree(tmp_path) if name.endswith(".tmp")]
    assert len(tree(tmp_path / "out")) < 60


@pytest.mark.parametrize("cause", ["error", "interrupt"])
def test_what_waits_is_not_begun(cause: str) -> None:
    begun = []
    lock = threading.Lock()

    def work(number: int) -> None:
        with lock:
            begun.append(number)
        if number == 5 and cause == "error":
            raise UserError("five")
        if number == 5:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)

    earlier = signal.signal(signal.SIGINT, signal.default_int_handler)  # pytest may be deaf to it
    try:
        with pytest.raises(UserError if cause == "error" else KeyboardInterrupt):
            in_parallel(work, range(2000), "label", workers=2)
    finally:
        signal.signal(signal.SIGINT, earlier)
    assert len(begun) < 200
    seen = len(begun)
    time.sleep(0.1)
    assert len(begun) == seen


def test_results_keep_their_order() -> None:
    def work(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number * number

    assert in_parallel(work, range(50), None, workers=4) == [n * n for n in range(50)]
    assert in_parallel(work, [], None) == []


def test_nearest_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert existing(Path("a/b/c")) == tmp_path
    Path("a").mkdir()
    assert existing(Path("a/b/c")) == tmp_path / "a"


def test_space_of_several_disks_is_told_apart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders of one disk are one sum; another disk has a line of its own."""
    from compacter_arch.prepare import jobs

    disks = {"one": 1, "two": 1, "three": 2}
    disk = namedtuple("disk", "st_dev")

    class Folder(type(tmp_path)):
        def stat(self, **_: object) -> disk:
            return disk(disks[self.name])

    monkeypatch.setattr(jobs, "existing", lambda folder: Folder(folder))
    usage = namedtuple("usage", "free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(2 * 10**9))
    jobs.check_space({Path("one"): 1e9, Path("three"): 5e5, Path("two"): 5e8})
    assert capsys.readouterr().err.splitlines() == [
        "one: about 1.5 GB to write, 2.0 GB free",
        "three: about 500 KB to write, 2.0 GB free",
    ]
    with pytest.raises(UserError, match="one: about 2.5 GB to write and 2.0 GB free"):
        jobs.check_space({Path("one"): 1e9, Path("two"): 1.5e9})


def test_images_are_encoded_from_what_is_read(folder: Path, tmp_path: Path) -> None:
    job = Job(
        folder / "00.png",
        (60, 70),
        {tmp_path / "a.png": (2, 2)},
        lambda img: [img[:2, :2]],
        read=lambda path: np.full((60, 70), 7, np.uint8),
    )
    assert run_jobs([job], "out") == 1
    assert image_size(tmp_path / "a.png") == (2, 2)
