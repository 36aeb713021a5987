"""An ablation trains each variant once, resumes what was interrupted, and measures all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from compacter_arch.archs import CompacterArch
from compacter_arch.training.options import package_options, read_options

from ..conftest import Project

SHIPPED = "ablation_Compacter_SRx2_demo.yml"


@pytest.fixture(autouse=True)
def environment(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Trainings are processes of their own."""
    for key, value in project.environment().items():
        monkeypatch.setenv(key, value)


def write(project: Project, variants: object, **section: object) -> str:
    changes = {"ablation": {"variants": variants, **section}, "train.total_iter": 2}
    return project.write({**changes, "val.val_freq": 2, "train.ema_decay": 0.5})


def test_trains_measures_and_reads(project: Project):
    file = write(project, {"full": {}, "no shift": {"shift": False}}, seeds=[0, 1])
    result = project.run("table", "ablation", file, "-o", "ablation.csv")
    assert result.status == 0, result.err
    runs = sorted(path.name for path in Path("experiments").iterdir())
    assert runs == [f"tiny_{v}_seed{s}" for v in ("full", "no_shift") for s in (0, 1)]
    flags = project.weights(name="tiny_no_shift_seed0")["flags"].tolist()
    assert flags[1] == 0 and project.weights(name="tiny_full_seed1")["flags"].tolist()[1] == 1
    lines = Path("ablation.csv").read_text().splitlines()
    assert len(lines) == 3 and "full" in lines[1] and "no shift" in lines[2]
    assert "2 iterations each, seed 0, 1 (the mean" in result.out

    stamps = {path: path.stat().st_mtime_ns for path in Path("experiments").rglob("*.pth")}
    assert project.run("table", "ablation", file, "-o", "again.csv").status == 0
    assert Path("again.csv").read_text() == Path("ablation.csv").read_text()
    assert stamps == {path: path.stat().st_mtime_ns for path in Path("experiments").rglob("*.pth")}


def test_a_training_that_fails(project: Project):
    file = write(project, {"full": {}, "wrong": {"ffn": "conv"}})
    result = project.run("table", "ablation", file)
    assert result.status == 2
    assert "the training of tiny_wrong_seed0 failed" in result.err


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({}, "missing section 'ablation'"),
        ({"ablation": {"variants": {"full": 1}}}, "ablation.variants.full: expected keys"),
        ({"ablation": {"variants": {"full": {}}}, "datasets.val": ...}, "missing section 'val'"),
    ],
)
def test_one_line_for_what_is_wrong(project: Project, changes: dict, message: str):
    result = project.run("table", "ablation", project.write(changes))
    assert result.status == 2
    assert message in result.err and "Traceback" not in result.err


def test_shipped_file_has_every_design():
    """All switches of the network are in it, each differs from the full one, and it is a demo."""
    opt = read_options(package_options() / SHIPPED)
    demo = read_options(package_options() / "train_Compacter_SRx2_demo.yml")
    variants = opt["ablation"]["variants"]
    switched = {key for changes in variants.values() for key in changes}
    assert switched == {"interaction", "channel", "spatial", "local", "shared_projection",
                        "position_bias", "shift", "ffn"}  # fmt: skip
    keys = {"type"}
    for changes in variants.values():
        options = {k: v for k, v in opt["network_g"].items() if k not in keys} | changes
        assert CompacterArch(**options)(torch.rand(1, 3, 8, 8)).shape == (1, 3, 16, 16)
    for section in ("network_g", "datasets", "path"):
        assert opt[section] == demo[section]
    # Its table is of a lower rate, and the kernels would train the full design alone.
    own = {"total_iter": 200, "warmup_iter": -1}
    own["optim_g"] = demo["train"]["optim_g"] | {"lr": 1e-3}
    assert opt["train"] == {k: v for k, v in demo["train"].items() if k != "compile"} | own
