"""Training curves from TensorBoard and CSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from compacter_arch.errors import UserError
from compacter_arch.tables.curves import choose_panels, draw_curves, read_run, smooth

from ..conftest import REPOSITORY


@pytest.fixture(autouse=True)
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def write_events(folder: Path, start: int = 0, loss: float = 1.0) -> None:
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(folder)) as writer:
        for step in range(start + 10, start + 1510, 10):  # more than TensorBoard keeps of itself
            writer.add_scalar("losses/l_pix", loss, step)
            writer.add_scalar("time", 0.1, step)
        writer.add_scalar("metrics/Set5/psnr", 30 + start / 1000, start + 1000)
        writer.add_scalar("metrics/Set14/ssim", 0.9, start + 1000)


def test_tensorboard_run_by_name_and_by_folder():
    write_events(Path("tb_logger/mine"))
    name, run = read_run("mine")
    assert name == "mine" and read_run("tb_logger/mine") == (name, run)
    assert set(run) == {"losses/l_pix", "metrics/Set5/psnr", "metrics/Set14/ssim"}
    assert list(run["losses/l_pix"]) == list(range(10, 1510, 10))
    assert run["metrics/Set5/psnr"] == pytest.approx({1000: 30})


def test_a_resumed_run_is_one_curve_of_the_later_values():
    write_events(Path("tb_logger/mine"))
    write_events(Path("tb_logger/mine"), start=1000, loss=0.5)
    curve = read_run("mine")[1]["losses/l_pix"]
    assert list(curve) == list(range(10, 2510, 10))
    assert curve[1000] == 1 and curve[1010] == 0.5 and curve[2500] == 0.5


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_logs_of_the_shipped_weights(scale: int):
    file = REPOSITORY / f"experiments/pretrained_models/Compacter_SRx{scale}.csv"
    name, run = read_run(str(file))
    assert name == file.stem
    assert set(run) == {"losses/l_pix", "lr", "metrics/Set5/psnr", "metrics/Set5/ssim"}
    assert 28 < max(run["metrics/Set5/psnr"].values()) < 39
    assert len(run["metrics/Set5/psnr"]) < len(run["lr"])


def test_panels_are_losses_learning_rate_and_the_wanted_metrics():
    runs = [
        {"metrics/Set5/psnr": {1: 1.0}, "metrics/Set5/ssim": {1: 1.0}, "losses/l_pix": {1: 1.0}},
        {"lr": {1: 1.0}, "metrics/Set14/psnr": {1: 1.0}, "losses/l_freq": {1: 1.0}},
    ]
    losses = ["losses/l_pix", "losses/l_freq", "lr"]
    assert choose_panels(runs) == [*losses, "metrics/Set5/psnr", "metrics/Set14/psnr"]
    assert choose_panels(runs, ["ssim"]) == [*losses, "metrics/Set5/ssim"]


def test_smooth_is_the_mean_around_each_point():
    np.testing.assert_allclose(smooth([0, 3, 6, 0], 3), [1.5, 3, 3, 3])
    np.testing.assert_allclose(smooth([1, 2, 3], 1), [1, 2, 3])


@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_draws_runs_with_different_curves(suffix: str):
    runs = [
        ("a", {"losses/l_pix": {1: 1.0, 2: 0.01, 3: 0.001}, "metrics/Set5/psnr": {2: 30.0}}),
        ("b", {"lr": {1: 1e-3, 20000: 1e-7}, "metrics/Set5/psnr": {1: 29.0, 2: 31.0}}),
    ]
    draw_curves(runs, Path(f"c{suffix}"), width=4)
    assert Path(f"c{suffix}").stat().st_size > 1000
    if suffix == ".png":
        assert Image.open("c.png").width == 1200


def test_what_cannot_be_read_is_named():
    Path("empty").mkdir()
    Path("a.csv").write_text("step,lr\n1,2\n")
    Path("b.csv").write_text("iteration,lr\n1,fast\n")
    Path("c.csv").write_text("iteration,lr\n1,\n")
    Path("d.csv").write_bytes(b"\xff\xfe\x00")
    for name, message in {
        "absent": "absent: no such file or folder, nor tb_logger/absent",
        "empty": "empty: no TensorBoard files",
        "a.csv": "a.csv: no column `iteration`",
        "b.csv": "b.csv: line 2, lr: not a number",
        "c.csv": "c.csv: no curves",
        "d.csv": "d.csv: not a CSV file",
    }.items():
        with pytest.raises(UserError, match=message):
            read_run(name)
    with pytest.raises(UserError, match="neither losses nor learning rate nor psnrb"):
        draw_curves([("a", {"metrics/Set5/psnr": {1: 1.0}})], Path("c.png"), metrics=["psnrb"])
