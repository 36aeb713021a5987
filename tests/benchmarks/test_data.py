"""The measurement of data loading runs, and tells of every way."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import data

from ..prepare.tools import noise_png


def test_every_way_is_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number in range(2):
        noise_png(tmp_path / "in" / f"{number}.png", 24, 32, number)
    sizes = ["--gt_size", "8", "--batch", "2", "--batches", "1", "--rounds", "1"]
    assert data.main([str(tmp_path / "in"), *sizes]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[2:6]] == [f"| {row}" for row in data.ROWS]
    assert lines[2].endswith(" 1.0 |") and "2 sub-images, x2, patches of 8" in lines[-1]


def test_generated_pictures_are_always_the_same(tmp_path: Path) -> None:
    first, second = (data.generate(tmp_path / name, 1, 64) / "0.png" for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
