"""Losses and gradients that are not finite: told by name, kept out of the weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.metrics import calculate_metric
from basicsr.utils.registry import METRIC_REGISTRY

from compacter_arch.training.nonfinite import MOST_SKIPPED

from ..conftest import Project
from .conftest import Spy
from .test_exact_resume import assert_same

CHANGES = {"train.ema_decay": 0.5, "train.total_iter": 6}
MODELS = {
    "SRModel": {},
    "clipped": {"model_type": "RestorationModel", "train.grad_clip": 1.0},
    "in parts": {"model_type": "RestorationModel", "train.accum_iter": 2},
}


@pytest.fixture
def poison(project: Project, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the pixels of an image NaN whenever they are read."""
    from basicsr.data.paired_image_dataset import PairedImageDataset

    read = PairedImageDataset.__getitem__
    poisoned: set[str] = set()

    def getitem(self: Any, index: int) -> dict[str, Any]:
        sample = read(self, index)
        if Path(sample["lq_path"]).stem in poisoned:
            sample["lq"][0, 0, 0] = float("nan")
        return sample

    monkeypatch.setattr(PairedImageDataset, "__getitem__", getitem)
    return poisoned


@pytest.mark.parametrize("model", MODELS)
def test_stops_with_iteration_names_and_the_state_before(
    project: Project, spy: Spy, poison: set[str], model: str
):
    file = project.write({**CHANGES, **MODELS[model]})
    spy.at[3] = lambda: poison.update({"0001", "0002", "0003"})
    result = project.run("train", "-opt", file)
    assert result.status == 2
    line = result.err.splitlines()[-1]
    assert "iteration 4: loss or gradient is not finite; pixels that are not finite: " in line
    assert "data/train/LR/0002.png" in line and "train.nonfinite: skip" in line
    assert "0000.png" not in line

    poison.clear()
    spy.at.clear()
    result = project.run("train", "-opt", file, "--auto_resume")
    assert result.status == 0 and "Resuming after iteration 3." in result.err
    whole = project.write({**CHANGES, **MODELS[model], "name": "whole"}, "whole.yml")
    assert project.run("train", "-opt", whole).status == 0
    for key in ("params", "params_ema"):
        assert_same(project.weights(key=key), project.weights(name="whole", key=key))


def test_skipped_steps_are_told_and_leave_no_trace(project: Project, spy: Spy, poison: set[str]):
    """The first step of all is one of them: there is no loss to be logged yet."""
    poison.add("0001")
    file = project.write({**CHANGES, "train.nonfinite": "skip"})
    result = project.run("train", "-opt", file)
    assert result.status == 0
    skipped = [line for line in project.log().splitlines() if "Skipped iteration" in line]
    assert len(skipped) == 3 and all("data/train/LR/0001.png" in line for line in skipped)
    assert all(value.isfinite().all() for value in project.weights(key="params_ema").values())
    rows = Path("experiments/tiny/train_tiny.csv").read_text().splitlines()
    assert len(rows) == 1 + 3 + 2  # the header and two validations


def test_ends_where_every_step_would_be_skipped(project: Project, poison: set[str]):
    poison.update(["0000", "0001", "0002", "0003"])
    file = project.write({"train.total_iter": 100, "train.nonfinite": "skip"})
    result = project.run("train", "-opt", file)
    assert result.status == 2
    assert f"iteration {MOST_SKIPPED}: loss or gradient is not finite" in result.err


def test_metric_that_is_not_a_number_is_an_error(project: Project, monkeypatch: pytest.MonkeyPatch):
    def calculate_nothing(img: Any, img2: Any, **kwargs: Any) -> float:
        return 0.0 if (img == img2).all() else float("nan")

    monkeypatch.setitem(METRIC_REGISTRY._obj_map, "calculate_nothing", calculate_nothing)
    assert (
        calculate_metric(
            {"img": torch.zeros(1), "img2": torch.zeros(1)}, {"type": "calculate_nothing"}
        )
        == 0
    )
    metrics = {"val.metrics": {"nothing": {"type": "calculate_nothing"}}}
    for model, where in (
        ("SRModel", "TinyVal; look for weights"),
        ("RestorationModel", "data/val/LR/0000.png of TinyVal; look for weights"),
    ):
        for command, file in (
            ("train", project.write({**metrics, "model_type": model})),
            ("test", project.write_test({**metrics, "model_type": model})),
        ):
            result = project.run(command, "-opt", file)
            assert result.status == 2, result.err
            line = result.err.splitlines()[-1]
            assert "error: val.metrics.nothing: not a number " in line and where in line
