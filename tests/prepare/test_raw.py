"""Raw stores hold what BasicSR reads, and do not depend on how they came about."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from compacter_arch.data.raw_store import RawStore
from compacter_arch.errors import UserError
from compacter_arch.prepare import lmdb_files, make_lmdb, make_raw, raw, verify
from compacter_arch.prepare.files import write_png

from .tools import noise_png, random_image, smooth_image, tree


def many(folder: Path, count: int = 20) -> None:
    for number in range(count):
        noise_png(folder / f"{number:03d}.png", 5 + number, 9, number)


def test_images_are_those_that_basicsr_reads(tmp_path: Path) -> None:
    """Colour, gray in one channel and in three, alpha, a palette of suffixes."""
    folder, out = tmp_path / "in", tmp_path / "new" / "a.raw"
    colour = random_image(0, (7, 9, 3))
    write_png(folder / "a.png", colour)
    write_png(folder / "b gray.v2.png", colour[..., 0])
    write_png(folder / "c.png", np.repeat(colour[..., :1], 3, axis=2))
    write_png(folder / "d.png", random_image(1, (7, 9, 4)))
    cv2.imwrite(str(folder / "e.jpg"), colour)
    cv2.imwrite(str(folder / "f.bmp"), colour)
    assert make_raw(folder, out) == 6
    assert sorted(path.name for path in out.iterdir()) == ["images.bin", "meta_info.txt"]
    assert [path.name for path in out.parent.iterdir()] == ["a.raw"]
    store = RawStore(out)
    assert store.names() == ["a", "b gray.v2", "c", "d", "e", "f"]
    assert [entry.shape[2] for entry in store.entries.values()] == [3, 1, 1, 3, 3, 3]
    for path in folder.iterdir():
        wanted = cv2.imread(str(path), cv2.IMREAD_COLOR)
        found = np.broadcast_to(store[path.stem], wanted.shape)
        np.testing.assert_array_equal(found, wanted)


def test_from_an_lmdb_or_a_store_the_same(tmp_path: Path) -> None:
    many(tmp_path / "in", 5)
    write_png(tmp_path / "in" / "gray.png", random_image(0, (7, 9)))
    make_lmdb(tmp_path / "in", tmp_path / "a.lmdb")
    assert make_raw(tmp_path / "in", tmp_path / "a.raw") == 6
    for name in ("a.lmdb", "a.raw"):
        assert make_raw(tmp_path / name, tmp_path / f"of_{name}.raw") == 6
        assert tree(tmp_path / f"of_{name}.raw") == tree(tmp_path / "a.raw")


@pytest.mark.parametrize(
    ("left", "stops"), [("whole batches", 3), ("half a line", 5), ("pixels without a line", 3)]
)
def test_an_interrupted_run_is_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str, stops: int
) -> None:
    """Each run stops in its third batch; what is there is not decoded again."""
    monkeypatch.setattr(lmdb_files, "_BATCH", (3, 2**28))
    folder, out = tmp_path / "in", tmp_path / "a.raw"
    many(folder)
    make_raw(folder, tmp_path / "whole.raw")
    decode, part, numbers, runs = raw.in_parallel, tmp_path / ".a.raw.part", [], 0
    while not out.exists() and runs < 9:
        batches: list[int] = []

        def stop_at_third(function, items, label, workers, batches=batches):
            if label is None:  # a batch, not the headers nor the reading back
                batches.append(len(items))
                if len(batches) == 3:
                    raise KeyboardInterrupt
            return decode(function, items, label, workers)

        monkeypatch.setattr(raw, "in_parallel", stop_at_third)
        try:
            numbers.append(make_raw(folder, out))
        except KeyboardInterrupt:
            runs += 1
            index = part / "meta_info.txt"
            if left == "half a line":
                index.write_bytes(index.read_bytes()[:-4])
            elif left == "pixels without a line":
                with (part / "images.bin").open("ab") as file:
                    file.write(b"x" * 50)
    assert runs == stops and numbers[0] < 6
    assert tree(out) == tree(tmp_path / "whole.raw") and not part.exists()


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "newer", "cut", "garbage"])
def test_a_part_of_other_images_is_not_used(tmp_path: Path, change: str) -> None:
    folder, part = tmp_path / "in", tmp_path / ".a.raw.part"
    many(folder)
    make_raw(folder, part.with_suffix(".raw"))
    part.with_suffix(".raw").rename(part)
    if change == "added":
        noise_png(folder / "0000.png", 30, 30)
    elif change == "removed":
        (folder / "010.png").unlink()
    elif change == "replaced":
        noise_png(folder / "010.png", 4, 9)
    elif change == "newer":
        noise_png(folder / "010.png", 15, 9, seed=99)
        later = (part / "meta_info.txt").stat().st_mtime + 5
        os.utime(folder / "010.png", (later, later))
    elif change == "cut":
        with (part / "images.bin").open("r+b") as file:
            file.truncate(100)
    else:
        (part / "meta_info.txt").write_bytes(b"garbage\n" * 50)
    count = len(list(folder.iterdir()))
    assert make_raw(folder, tmp_path / "a.raw") == count
    make_raw(folder, tmp_path / "second.raw")
    assert tree(tmp_path / "a.raw") == tree(tmp_path / "second.raw")
    assert not part.exists()


def test_what_exists_is_kept(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "a.raw"
    many(folder, 3)
    make_raw(folder, out)
    stamp = (out / "images.bin").stat().st_mtime_ns
    assert make_raw(folder, out) == 0
    assert (out / "images.bin").stat().st_mtime_ns == stamp
    noise_png(folder / "new.png", 9, 9)
    with pytest.raises(UserError, match=r"a\.raw: exists with other images; remove it"):
        make_raw(folder, out)
    (folder / "new.png").unlink()
    (out / "images.bin").write_bytes(b"")
    with pytest.raises(UserError, match=r"a\.raw: exists with other images; remove it"):
        make_raw(folder, out)


def test_wrong_inputs(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    with pytest.raises(UserError, match=r"a\.lmdb: give a name that ends with \.raw"):
        make_raw(folder, tmp_path / "a.lmdb")
    with pytest.raises(UserError, match=r"in: no such folder; give a folder of images"):
        make_raw(folder, tmp_path / "a.raw")
    noise_png(folder / "a\nb.png", 9, 9)
    with pytest.raises(UserError, match=r"a\\nb\.png': a name is one line of text; rename it"):
        make_raw(folder, tmp_path / "a.raw")
    (folder / "a\nb.png").unlink()
    data = cv2.imencode(".png", random_image(0, (64, 64, 3)))[1].tobytes()
    (folder / "b.png").write_bytes(data[:300] + bytes(50) + data[350:])
    with pytest.raises(UserError, match=r"b\.png is damaged; replace or remove it"):
        make_raw(folder, tmp_path / "a.raw")
    assert not (tmp_path / "a.raw").exists()
    noise_png(folder / "b.png", 9, 9)
    assert make_raw(folder, tmp_path / "a.raw") == 1


def test_a_full_disk_is_noticed_before_and_while_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path / "in", 5)

    class Usage:
        free = 100

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: Usage)
        with pytest.raises(UserError, match=r"945 bytes to write and 100 bytes free; make room"):
            make_raw(tmp_path / "in", tmp_path / "a.raw")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"\.a\.raw\.part: No space left on device; make room"):
        make_raw(tmp_path / "in", tmp_path / "a.raw")
    assert not (tmp_path / "a.raw").exists()


def test_what_the_disk_gives_back_is_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    many(tmp_path / "in", 3)
    decode = raw._decode

    def lose(source, sizes, part, workers) -> int:
        count = decode(source, sizes, part, workers)
        with (part / "images.bin").open("r+b") as file:
            file.seek(200)
            file.write(bytes(3))
        return count

    monkeypatch.setattr(raw, "_decode", lose)
    with pytest.raises(UserError, match=r"'001' of .*\.a\.raw\.part is damaged; remove .*part and"):
        make_raw(tmp_path / "in", tmp_path / "a.raw")
    assert not (tmp_path / "a.raw").exists()


def test_verify_compares_sums_and_pairs(tmp_path: Path) -> None:
    for number in range(3):
        image = smooth_image(number, 24, 20)
        write_png(tmp_path / "GT" / f"{number}.png", image)
        write_png(tmp_path / "LQ" / f"{number}.png", cv2.resize(image, (10, 12)))
    for half in ("GT", "LQ"):
        make_raw(tmp_path / half, tmp_path / f"{half}.raw")
    gt, lq = tmp_path / "GT.raw", tmp_path / "LQ.raw"
    report = verify(gt, lq=lq, scale=2, count=3)
    assert not report.problems and "3 images, 3 of them in pairs" in report.summary
    with (gt / "images.bin").open("r+b") as file:
        file.seek(24 * 20 * 3 + 5)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes([byte[0] ^ 1]))
    (problem,) = verify(gt, lq=lq, scale=2).problems
    remedy = f"remove {gt} and make it anew with basicsr prepare raw"
    assert problem == f"'1' of {gt} is damaged; {remedy}"
    (lq / "images.bin").unlink()
    with pytest.raises(UserError, match=r"images\.bin: missing; remove"):
        verify(gt, lq=lq, scale=2)
