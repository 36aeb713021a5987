"""The comparison of short trainings: the same recipe for all, resumed, read from the logs."""

from __future__ import annotations

import argparse
import logging
import os
from dataclasses import replace
from pathlib import Path

import pytest
from basicsr.archs.edsr_arch import EDSR

from benchmarks import budget
from benchmarks.budget import NETWORKS
from benchmarks.choices import CHOICES
from benchmarks.networks import Peer
from compacter_arch.errors import UserError
from compacter_arch.prepare import make_raw
from compacter_arch.tables.complexity import count_parameters

from ..conftest import Project

SAFMN = replace(NETWORKS["SAFMN"], options={"dim": 8, "n_blocks": 1})
SWINIR = {**NETWORKS["SwinIR-400K"].options, "embed_dim": 4, "depths": [2], "num_heads": [2]}
SCHEDULE = {"rate": 5e-4, "batch": 8, "warmup": -1, "validations": 10}
TINY = {
    "Compacter": replace(NETWORKS["Compacter"], options={"dim": 12, "num_blocks": 1}),
    "SwinIR-400K": replace(NETWORKS["SwinIR-400K"], options=SWINIR),
    "SAFMN": SAFMN,
}


@pytest.fixture
def command(project: Project, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The arguments of a comparison of tiny networks; the images are no multiples of a window."""
    tiny = {name: peer for name, peer in TINY.items() if peer.installed}
    monkeypatch.setattr(budget, "NETWORKS", tiny)
    project.make_pairs("data/photographs", count=2, size=64)
    for half in ("GT", "LR"):
        make_raw(Path("data/photographs", half), Path(f"{half}.raw"))
    data = ["--gt", "GT.raw", "--lq", "LR.raw", "--set5-gt", "data/val/GT", "--set5-lq"]
    return [*data, "data/val/LR", "--iterations", "2", "--output", "runs"]


def row(text: str, name: str) -> list[str]:
    """The cells of a network."""
    return next(line for line in text.splitlines() if line.startswith(f"| {name} |")).split(" | ")


@pytest.mark.parametrize("name", [*NETWORKS, *CHOICES])
def test_about_400_k_parameters(name: str):
    peer = budget.find(name)
    if not peer.installed:
        pytest.skip("its package is not installed")
    parameters = count_parameters(peer.build(2))
    assert parameters == peer.parameters
    assert name == "SAFMN" or abs(parameters - 400_000) < 20_000


def test_no_edsr_is_nearer():
    def distance(features: int, blocks: int) -> int:
        network = EDSR(3, 3, num_feat=features, num_block=blocks, upscale=2)
        return abs(count_parameters(network) - 400_000)

    options = NETWORKS["EDSR-400K"].options
    own = distance(options["num_feat"], options["num_block"])
    near = {28: (25, 26), 32: (18, 20), 36: (14, 15), 40: (11, 12), 44: (8, 9), 48: (7, 8)}
    assert all(own < distance(features, n) for features, counts in near.items() for n in counts)


def test_the_same_recipe_for_all():
    paths = {name: Path(name) for name in ("gt", "lq", "set5_gt", "set5_lq")}
    args = argparse.Namespace(**paths, iterations=1000, seed=3, **SCHEDULE)
    recipes = [budget.options(name, args) for name in NETWORKS]
    assert len({recipe.pop("name") for recipe in recipes}) == len(NETWORKS)
    models = [(recipe.pop("model_type"), recipe.pop("network_g")["type"]) for recipe in recipes]
    assert all((model == "SwinIRModel") == (network == "SwinIR") for model, network in models)
    assert all(recipe == recipes[0] for recipe in recipes)
    train, data = recipes[0]["train"], recipes[0]["datasets"]["train"]
    assert train["pixel_opt"]["type"] == "L1Loss" and train["ema_decay"] == 0.99
    assert train["optim_g"]["lr"] == 5e-4 and train["optim_g"]["betas"] == [0.9, 0.99]
    assert train["total_iter"] == 1000 and train["scheduler"]["periods"] == [1000]
    assert (data["gt_size"], data["batch_size_per_gpu"]) == (64, 8)
    assert data["use_hflip"] and data["use_rot"] and data["type"] == "PairedImageDataset"
    assert recipes[0]["val"]["val_freq"] == 100 and recipes[0]["manual_seed"] == 3


def test_trains_goes_on_and_reports(
    project: Project, command: list[str], capsys: pytest.CaptureFixture[str]
):
    pytest.importorskip("matplotlib")
    assert budget.main(command) == 0
    printed = capsys.readouterr().out
    assert Path("budget.png").read_bytes().startswith(b"\x89PNG")  # in the folder of the runs
    assert not logging.getLogger("basicsr").filters
    for name in budget.NETWORKS:
        _, _, iterations, minutes, psnr, _ = row(printed, name)
        assert iterations == "2" and float(minutes) >= 0 and 0 < float(psnr) < 60
        assert len(list(Path("experiments", budget.run_name(name)).glob("train_*.log"))) == 1

    # What is finished stays as it is; what was cut off before its end goes on.
    Path("experiments/Compacter/models/net_g_latest.pth").unlink()
    os.chdir(project.root)
    assert budget.main(command) == 0
    table = printed.splitlines()
    assert capsys.readouterr().out.splitlines()[-len(table) :] == table
    logs = sorted(Path("experiments/Compacter").glob("train_*.log"))
    assert "Resuming after iteration 2" in logs[-1].read_text()
    assert len(list(Path("experiments/SwinIR_400K").glob("train_*.log"))) == 1

    assert budget.main(["--report", "--output", "."]) == 0
    assert capsys.readouterr().out == printed


def test_time_is_the_median_of_the_log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A validation between two lines, and a new process whose clock begins anew, do not count."""
    monkeypatch.chdir(tmp_path)
    line = "INFO: [Compa..][epoch:  0, iter: {}, lr:(1.0e-04,)] l_pix: 1.0e-02  [{:.3f} s]\n"
    run = Path("experiments/Compacter")
    run.mkdir(parents=True)
    for number, clocks in enumerate(({980: 10, 990: 15, "1,000": 99}, {"1,010": 3, "1,020": 8})):
        lines = [line.format(iteration, clock) for iteration, clock in clocks.items()]
        (run / f"train_Compacter_{number}.log").write_text("".join(lines))
    monkeypatch.setattr(budget, "read_run", lambda _: ("", {"metrics/Set5/psnr": {1000: 30.0}}))
    assert budget.read_trained("Compacter") == (0.5, {1000: 30.0}, {})


def test_stops_at_a_training_that_fails(command: list[str], capsys: pytest.CaptureFixture[str]):
    assert budget.main([*command, "--lq", "data/val/LR"]) == 2
    assert "Compacter.yml: datasets.train" in capsys.readouterr().err
    with pytest.raises(UserError, match="no network was validated below"):
        budget.main(["--report", "--output", "."])


def test_a_missing_package_is_told_before_any_training(
    command: list[str], monkeypatch: pytest.MonkeyPatch
):
    missing = Peer("no_such_package.network", "Network", {}, 0, "")
    monkeypatch.setitem(budget.NETWORKS, "SAFMN", missing)
    with pytest.raises(UserError, match="^SAFMN: not installed, pip install "):
        budget.main(command)
    assert not Path("runs").exists()


def test_data_is_asked_for_unless_to_report(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit):
        budget.main(["--output", "runs"])
    assert "required: --gt, --lq, --set5-gt, --set5-lq" in capsys.readouterr().err


def test_choices_are_trained_and_compared(
    command: list[str], monkeypatch: pytest.MonkeyPatch, capsys
):
    small = {
        name: replace(peer, options={**peer.options, "dim": 12, "num_blocks": 1})
        for name, peer in CHOICES.items()
        if name in ("as shipped", "DSGM as drawn", "channel attention of 3 heads")
    }
    monkeypatch.setattr(budget, "CHOICES", small)
    assert budget.main([*command, "--choices"]) == 0
    printed = capsys.readouterr().out
    values = {name: row(printed, name)[-2:] for name in small}
    assert len({tuple(value) for value in values.values()}) > 1, values
