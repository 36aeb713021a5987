"""LMDBs are BasicSR's, hold the files as they are, and do not depend on how they came about."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import build_dataset
from basicsr.utils import FileClient
from PIL import Image

from compacter_arch.errors import UserError
from compacter_arch.prepare import lmdb_files, make_lmdb
from compacter_arch.prepare.files import write_png

from .tools import noise_png, random_image, tree


def content(path: Path) -> dict[str, bytes]:
    with lmdb.open(str(path), readonly=True, lock=False) as env, env.begin() as transaction:
        return {key.decode(): value for key, value in transaction.cursor()}


def many(folder: Path, count: int = 40) -> None:
    """Files of all sizes: in a page, of a page, of many pages."""
    for number in range(count):
        side = (4, 20, 30, 37, 60)[number % 5]
        noise_png(folder / f"{number:03d}.png", side, side + 1, number)


def test_files_are_packed_as_they_are(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "new" / "a.lmdb"
    many(folder, 10)
    write_png(folder / "gray.png", random_image(0, (7, 9)))
    write_png(folder / "alpha.v1.5 (2).png", random_image(0, (7, 9, 4)))
    cv2.imwrite(str(folder / "photo.jpg"), random_image(1, (30, 20, 3)))
    cv2.imwrite(str(folder / "other.bmp"), random_image(2, (8, 12, 3)))
    assert make_lmdb(folder, out) == 14
    assert sorted(path.name for path in out.iterdir()) == ["data.mdb", "meta_info.txt"]
    assert [path.name for path in out.parent.iterdir()] == ["a.lmdb"]
    packed = content(out)
    for path in folder.iterdir():
        if path.suffix != ".bmp":
            assert packed[path.stem] == path.read_bytes()
    other = np.frombuffer(packed["other"], np.uint8)
    assert bytes(other[1:4]) == b"PNG"
    np.testing.assert_array_equal(cv2.imdecode(other, -1), random_image(2, (8, 12, 3)))
    lines = (out / "meta_info.txt").read_text().splitlines()
    assert lines[0] == "000.png (4,5,3) 1"
    assert lines[-4:] == [
        "alpha.v1.5 (2).png (7,9,4) 1",
        "gray.png (7,9,1) 1",
        "other.png (8,12,3) 1",
        "photo.png (30,20,3) 1",
    ]
    assert len(lines) == len(packed) == 14


def test_basicsr_reads_it(tmp_path: Path) -> None:
    for half, side in (("GT", 32), ("LQ", 16)):
        for number in range(3):
            noise_png(tmp_path / half / f"{number}.png", side, side, number)
        make_lmdb(tmp_path / half, tmp_path / f"{half}.lmdb")
    client = FileClient("lmdb", db_paths=str(tmp_path / "GT.lmdb"), client_keys="gt")
    assert client.get("1", "gt") == (tmp_path / "GT" / "1.png").read_bytes()
    dataset = build_dataset(
        {
            "name": "pairs",
            "type": "PairedImageDataset",
            "dataroot_gt": str(tmp_path / "GT.lmdb"),
            "dataroot_lq": str(tmp_path / "LQ.lmdb"),
            "io_backend": {"type": "lmdb"},
            "phase": "val",
            "scale": 2,
        }
    )
    assert [sample["lq_path"] for sample in dataset] == ["0", "1", "2"]
    assert dataset[2]["gt"].shape == (3, 32, 32) and dataset[2]["lq"].shape == (3, 16, 16)
    ours = (dataset[2]["gt"].numpy() * 255).round().astype(np.uint8)[::-1].transpose(1, 2, 0)
    np.testing.assert_array_equal(ours, random_image(2, (32, 32, 3)))


@pytest.mark.parametrize("batch", [(1, 2**28), (7, 2**28), (256, 5000), (256, 2**28)])
def test_bytes_are_always_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: tuple[int, int]
) -> None:
    """Built twice, and stopped after every batch."""
    monkeypatch.setattr(lmdb_files, "_BATCH", batch)
    many(tmp_path / "in")
    make_lmdb(tmp_path / "in", tmp_path / "whole.lmdb")
    make_lmdb(tmp_path / "in", tmp_path / "again.lmdb")
    assert tree(tmp_path / "again.lmdb") == tree(tmp_path / "whole.lmdb")

    stopping = tmp_path / "stopping.lmdb"
    open_now = lmdb_files._open
    total, runs = 0, 0
    while not stopping.exists():
        opened = []

        def stop_at_third(part: Path, size: int, opened: list[Path] = opened):
            opened.append(part)
            if len(opened) == 3 and part.exists():  # the first may look at what is there
                raise KeyboardInterrupt
            return open_now(part, size)

        monkeypatch.setattr(lmdb_files, "_open", stop_at_third)
        try:
            total = make_lmdb(tmp_path / "in", stopping)
        except KeyboardInterrupt:
            runs += 1
            assert not stopping.exists()
    assert (total < 40) == (runs > 0)
    assert runs > 1 or batch == (256, 2**28)
    assert tree(stopping) == tree(tmp_path / "whole.lmdb")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("change", ["added", "removed", "replaced", "other", "cut", "garbage"])
def test_a_part_of_other_images_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    monkeypatch.setattr(lmdb_files, "_BATCH", (8, 2**28))
    folder = tmp_path / "in"
    many(folder)
    make_lmdb(folder, tmp_path / "first.lmdb")
    part = tmp_path / ".a.lmdb.part"
    shutil.copytree(tmp_path / "first.lmdb", part)
    if change == "added":
        noise_png(folder / "0000.png", 30, 30)
    elif change == "removed":
        (folder / "020.png").unlink()
    elif change == "replaced":
        noise_png(folder / "020.png", 4, 9)
    elif change == "other":
        for path in list(folder.iterdir()):
            path.rename(folder / f"x{path.name}")
    elif change == "cut":
        with (part / "data.mdb").open("r+b") as file:
            file.truncate(100)
    else:
        (part / "data.mdb").write_bytes(b"garbage" * 5000)
    count = len(list(folder.iterdir()))
    assert make_lmdb(folder, tmp_path / "a.lmdb") == count
    make_lmdb(folder, tmp_path / "second.lmdb")
    assert tree(tmp_path / "a.lmdb") == tree(tmp_path / "second.lmdb")
    assert not part.exists()


def test_noise_fits_the_map(tmp_path: Path) -> None:
    """The first image is tiny, and the others do not compress: BasicSR's guess is too small."""
    write_png(tmp_path / "in" / "0.png", np.zeros((4, 4), np.uint8))
    for number in range(1, 30):
        cv2.imwrite(str(tmp_path / "in" / f"{number}.bmp"), random_image(number, (200, 200, 3)))
    assert make_lmdb(tmp_path / "in", tmp_path / "a.lmdb") == 30
    assert len(content(tmp_path / "a.lmdb")) == 30


def test_what_exists_is_kept(tmp_path: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "a.lmdb"
    many(folder, 3)
    make_lmdb(folder, out)
    stamp = (out / "data.mdb").stat().st_mtime_ns
    assert make_lmdb(folder, out) == 0
    assert (out / "data.mdb").stat().st_mtime_ns == stamp
    noise_png(folder / "new.png", 9, 9)
    with pytest.raises(UserError, match=r"a\.lmdb: exists with other images; remove it"):
        make_lmdb(folder, out)
    (out / "meta_info.txt").unlink()
    with pytest.raises(UserError, match=r"a\.lmdb: exists with other images; remove it"):
        make_lmdb(folder, out)


def test_wrong_inputs(tmp_path: Path) -> None:
    folder = tmp_path / "in"
    noise_png(folder / "a.png", 9, 9)
    with pytest.raises(UserError, match=r"a\.mdb: BasicSR wants a name that ends with \.lmdb"):
        make_lmdb(folder, tmp_path / "a.mdb")
    noise_png(folder / "größe.png", 9, 9)
    with pytest.raises(UserError, match=r"größe\.png: an LMDB key is its name in ASCII; rename"):
        make_lmdb(folder, tmp_path / "a.lmdb")
    (folder / "größe.png").unlink()
    data = cv2.imencode(".png", random_image(0, (64, 64, 3)))[1].tobytes()
    (folder / "b.png").write_bytes(data[:300] + bytes(50) + data[350:])
    with pytest.raises(UserError, match=r"b\.png is damaged; replace or remove it"):
        make_lmdb(folder, tmp_path / "a.lmdb")
    assert not (tmp_path / "a.lmdb").exists()
    noise_png(folder / "b.png", 9, 9)
    assert make_lmdb(folder, tmp_path / "a.lmdb") == 2


def test_keys_of_at_most_511_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File systems end names at 255; the limit is lowered to reach it."""
    noise_png(tmp_path / "in" / f"{'k' * 200}.png", 9, 9)
    make_lmdb(tmp_path / "in", tmp_path / "a.lmdb")
    assert list(content(tmp_path / "a.lmdb")) == ["k" * 200]
    monkeypatch.setattr(lmdb_files, "_LONGEST_KEY", 199)
    with pytest.raises(UserError, match="an LMDB key has at most 199 bytes; rename it"):
        make_lmdb(tmp_path / "in", tmp_path / "b.lmdb")


def test_a_full_disk_is_noticed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    many(tmp_path / "in", 5)

    class Usage:
        free = 1000

    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage)
    with pytest.raises(UserError, match=r"to write and 1 KB free; make room"):
        make_lmdb(tmp_path / "in", tmp_path / "a.lmdb")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_turned_photographs_have_the_size_that_basicsr_reads(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "in").mkdir()
    Image.fromarray(random_image(0, (16, 40, 3))).save(tmp_path / "in" / "a.jpg", exif=exif)
    make_lmdb(tmp_path / "in", tmp_path / "a.lmdb")
    assert (tmp_path / "a.lmdb" / "meta_info.txt").read_text() == "a.png (40,16,3) 1\n"
    data = np.frombuffer(content(tmp_path / "a.lmdb")["a"], np.uint8)
    assert cv2.imdecode(data, cv2.IMREAD_COLOR).shape == (40, 16, 3)
