"""The CSV file of a run."""

from __future__ import annotations

from pathlib import Path

import pytest

from compacter_arch.training.history import History


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Two iterations, a validation, and what a kill left of a third line."""
    file = tmp_path / "logs" / "train_my.csv"
    history = History(file)
    history.add(1, {"lr": 1e-3, "l_pix": 0.1})
    history.add(2, {"lr": 1e-3, "l_pix": 0.25})
    history.add(2, {"set5_psnr": 33.5})
    with file.open("a") as cut:
        cut.write("3,0.001,0.")
    return file


def test_lines_are_added(file: Path):
    head = "iteration,lr,l_pix,set5_psnr\n1,0.001,0.1,\n2,0.001,0.25,\n"
    assert file.read_text() == head + "2,,,33.5\n3,0.001,0."
    history = History(file)
    assert history.row(2) == {"lr": 1e-3, "l_pix": 0.25, "set5_psnr": 33.5}
    assert history.row(1) == {"lr": 1e-3, "l_pix": 0.1} and history.row(3) == {}
    history.cut(2, validated=True)
    assert file.read_text() == head + "2,,,33.5\n"
    history.cut(2, validated=False)
    assert file.read_text() == head
    history.add(3, {"lr": 1e-3, "l_pix": 1 / 3})
    history.cut(3, validated=False)
    assert file.read_text() == head + "3,0.001,0.3333333333333333,\n"
    history.cut(0, validated=False)
    assert file.read_text() == head.partition("\n")[0] + "\n"


def test_nothing_to_cut(tmp_path: Path):
    History(tmp_path / "none.csv").cut(5, validated=True)
    assert not list(tmp_path.iterdir())
