"""LMDB datasets."""

from __future__ import annotations

import multiprocessing
import os
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from basicsr.data import data_util
from basicsr.utils import file_client, lmdb_util

from .tools import original, png


def make_lmdb(folder: Path, keys: list[str]) -> str:
    path = str(folder)
    environment = lmdb.open(path, map_size=2**20)
    with environment.begin(write=True) as transaction:
        for key in keys:
            transaction.put(key.encode(), png())
    environment.close()
    lines = [f"{key}.png (16,16,3) 1\n" for key in keys]
    (folder / "meta_info.txt").write_text("".join(lines))
    return path


KEYS = ["v1.5", "v1.6", "plain", "a (2)", "with space", "sub/0.1"]


def test_lmdb_keys_keep_their_dots(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path / "a.lmdb", KEYS)
    assert data_util.paths_from_lmdb(path) == KEYS
    pairs = data_util.paired_paths_from_lmdb([path, path], ["lq", "gt"])
    assert pairs == [{"lq_path": key, "gt_path": key} for key in sorted(KEYS)]
    assert original(data_util.paths_from_lmdb)(path)[:2] == ["v1", "v1"]
    released = original(data_util.paired_paths_from_lmdb)([path, path], ["lq", "gt"])
    assert "v1.5" not in {pair["lq_path"] for pair in released}


def test_lmdb_keys_that_differ_after_a_dot(tmp_path: Path) -> None:
    folders = [make_lmdb(tmp_path / "a.lmdb", ["v1.5"]), make_lmdb(tmp_path / "b.lmdb", ["v1.6"])]
    assert original(data_util.paired_paths_from_lmdb)(folders, ["lq", "gt"])
    with pytest.raises(ValueError, match=r"v1\.5 is in one of them only"):
        data_util.paired_paths_from_lmdb(folders, ["lq", "gt"])


def test_lmdb_meta_info_of_other_tools(tmp_path: Path) -> None:
    folder = tmp_path / "a.lmdb"
    folder.mkdir()
    (folder / "meta_info.txt").write_text("v1.5.png\nb.png (16,16)\n\nc.x.jpg (4, 4, 1) 1")
    assert data_util.paths_from_lmdb(str(folder)) == ["v1.5", "b", "c.x"]


def test_lmdb_in_two_datasets(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path / "a.lmdb", ["v1.5"])
    clients = [
        file_client.FileClient("lmdb", db_paths=[path, path], client_keys=["lq", "gt"]),
        file_client.FileClient("lmdb", db_paths=path),
    ]
    assert clients[0].get("v1.5", "gt") == clients[1].get("v1.5") == png()
    assert clients[1].get("v1.5").path == f"v1.5 in {path}"
    with pytest.raises(FileNotFoundError, match=r"There is no v1 in .*a\.lmdb"):
        clients[0].get("v1", "lq")

    backend = file_client.LmdbBackend
    with pytest.raises(lmdb.Error, match="already open"):
        original(backend.__init__)(backend.__new__(backend), path)
    with pytest.raises(AssertionError):
        file_client.FileClient("lmdb", db_paths=[path], client_keys=["lq", "gt"])

    clients[1].client._client["default"].close()
    assert file_client.FileClient("lmdb", db_paths=path).get("v1.5") == png()


@pytest.mark.parametrize("multiprocessing_read", [False, True])
def test_lmdb_has_room_for_all_images(tmp_path: Path, multiprocessing_read: bool) -> None:
    """The first is flat, and so its PNG is small; the others are noise of 16 bits."""
    folder, names = tmp_path / "images", [f"{index}.png" for index in range(4)]
    folder.mkdir()
    cv2.imwrite(str(folder / names[0]), np.zeros((4, 4, 3), np.uint8))
    noise = np.random.default_rng(0).integers(0, 2**16, (90, 90, 4)).astype(np.uint16)
    for name in names[1:]:
        cv2.imwrite(str(folder / name), noise)
    keys = [name.removesuffix(".png") for name in names]
    arguments = str(folder), str(tmp_path / "a.lmdb"), names, keys
    options = {"multiprocessing_read": multiprocessing_read, "n_thread": 1}
    lmdb_util.make_lmdb_from_imgs(*arguments, **options)
    read = file_client.FileClient("lmdb", db_paths=arguments[1]).get("3")
    assert np.array_equal(cv2.imdecode(np.frombuffer(read, np.uint8), -1), noise)

    released = (arguments[0], str(tmp_path / "b.lmdb"), *arguments[2:])
    with pytest.raises(lmdb.MapFullError):
        original(lmdb_util.make_lmdb_from_imgs)(*released)
    with pytest.raises(lmdb.MapFullError):  # a size that is given counts
        lmdb_util.make_lmdb_from_imgs(
            arguments[0], str(tmp_path / "c.lmdb"), *arguments[2:], map_size=2**15
        )


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_lmdb_in_a_forked_worker(tmp_path: Path) -> None:
    path = make_lmdb(tmp_path / "a.lmdb", ["v1.5"])
    client = file_client.FileClient("lmdb", db_paths=path)
    assert client.get("v1.5")
    results = multiprocessing.get_context("fork").SimpleQueue()

    def read() -> None:
        content = file_client.FileClient("lmdb", db_paths=path).get("v1.5")
        results.put(content == client.get("v1.5") == png())

    process = multiprocessing.get_context("fork").Process(target=read)
    process.start()
    process.join(30)
    assert process.exitcode == 0 and results.get()
