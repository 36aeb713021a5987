"""The tile that the free memory allows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compacter_arch.inference import memory
from compacter_arch.inference.memory import BYTES, SAFETY, UNKNOWN, choose_tile, free_memory


def set_free(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Let so many bytes be free."""
    monkeypatch.setattr(memory, "free_memory", lambda device: size)


def test_the_whole_image_where_it_fits(monkeypatch: pytest.MonkeyPatch):
    set_free(monkeypatch, BYTES * SAFETY * 300 * 200)
    assert choose_tile(300, 200) == choose_tile(200, 300) == 0
    assert choose_tile(301, 200) == 192  # the square root of 300 x 200 is 244


def test_tiles_are_multiples_of_64(monkeypatch: pytest.MonkeyPatch):
    for side, tile in ((0, 64), (63, 64), (64, 64), (127, 64), (128, 128), (383, 320)):
        set_free(monkeypatch, BYTES * SAFETY * side**2)
        assert choose_tile(5000, 5000) == tile


def test_largest_tiles(monkeypatch: pytest.MonkeyPatch):
    set_free(monkeypatch, 2**40)
    assert choose_tile(1024, 1024) == choose_tile(512, 2048) == 0
    assert choose_tile(1024, 1025) == 1024
    assert choose_tile(2048, 2048, device="cuda") == 0
    assert choose_tile(2048, 2049, device="cuda") == 2048
    assert [choose_tile(3000, 3000, scale) for scale in (1, 2, 3, 4)] == [1024, 768, 576, 512]


def test_free_memory_of_this_machine():
    free = free_memory(torch.device("cpu"))
    assert 2**26 < free < 2**46


def test_limit_of_a_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    without = free_memory(torch.device("cpu"))
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("3000000\n")
    (tmp_path / "memory.stat").write_text("anon 7\ninactive_file 500000\nfile 9\n")
    assert free_memory(torch.device("cpu")) == pytest.approx(without, rel=0.2)
    (tmp_path / "memory.max").write_text("4000000\n")
    assert free_memory(torch.device("cpu")) == 1_500_000


def test_where_linux_tells_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "GROUP", tmp_path)
    monkeypatch.setattr(memory, "MEMINFO", tmp_path / "absent")
    monkeypatch.setattr(memory.os, "sysconf", {"SC_AVPHYS_PAGES": 10, "SC_PAGE_SIZE": 7}.get)
    assert free_memory(torch.device("cpu")) == 70
    monkeypatch.delattr(memory.os, "sysconf")
    assert free_memory(torch.device("cpu")) == UNKNOWN
