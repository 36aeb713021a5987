"""A run that goes on from a saved state: on a CPU, from the right place, to the same end."""

from __future__ import annotations

import signal
from collections.abc import Callable

import pytest
import torch

from ..conftest import Project
from .conftest import Spy

STATES = "experiments/tiny/training_states"


def interrupt() -> None:
    """Ctrl-C."""
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_between_epochs_ends_with_the_same_weights(
    project: Project, spy: Spy, workers: int
):
    """2 iterations per epoch; stopped after 4 of 8. Adam, EMA, schedule and crops all go on."""
    changes = {
        "train.total_iter": 8,
        "train.ema_decay": 0.5,
        "train.scheduler.milestones": [3, 6],
        "datasets.train.num_worker_per_gpu": workers,
    }
    whole = project.write({**changes, "name": "whole"}, "whole.yml")
    assert project.run("train", "-opt", whole).status == 0
    spy.at[4] = interrupt
    parts = project.write(changes)
    assert project.run("train", "-opt", parts).status == 130
    spy.at.clear()
    result = project.run("train", "-opt", parts, "--auto_resume")
    assert result.status == 0 and "Resuming after iteration 4" in result.err
    for key in ("params", "params_ema"):
        one, two = project.weights(name="whole", key=key), project.weights(key=key)
        torch.testing.assert_close(two, one, rtol=0, atol=0)


@pytest.mark.parametrize("workers", [0, 2])
def test_resumed_within_an_epoch_shows_the_rest_of_it(project: Project, spy: Spy, workers: int):
    """4 images x 3 in batches of 2: 6 iterations per epoch, stopped after 8 of 12."""
    changes = {
        "train.total_iter": 12,
        "datasets.train.dataset_enlarge_ratio": 3,
        "datasets.train.num_worker_per_gpu": workers,
    }
    file = project.write(changes)
    spy.at[8] = interrupt
    assert project.run("train", "-opt", file).status == 130
    assert project.run("train", "-opt", file, "--auto_resume").status == 0
    assert [iteration for iteration, _ in spy.images] == list(range(1, 13))
    names = [name for _, batch in spy.images for name in batch]
    first, second = names[:12], names[12:]
    every = sorted(["0000", "0001", "0002", "0003"] * 3)
    assert sorted(first) == sorted(second) == every
    assert first != second  # each epoch has an order of its own


def test_state_named_by_the_option_file(project: Project, spy: Spy):
    file = project.write({"logger.save_checkpoint_freq": 2})
    assert project.run("train", "-opt", file).status == 0
    spy.images.clear()
    forced = f"path:resume_state={STATES}/2.state"
    assert project.run("train", "-opt", file, "--force_yml", forced).status == 0
    assert [iteration for iteration, _ in spy.images] == [3, 4]


def test_larger_total_iter_goes_on_after_the_end(project: Project, spy: Spy):
    file = project.write({"logger.save_checkpoint_freq": 4})
    assert project.run("train", "-opt", file).status == 0
    longer = ["--force_yml", "train:total_iter=6", "--auto_resume"]
    assert project.run("train", "-opt", file, *longer).status == 0
    assert [iteration for iteration, _ in spy.images] == [1, 2, 3, 4, 5, 6]


def test_finished_run_has_nothing_left_to_do(project: Project, spy: Spy):
    file = project.write({"logger.save_checkpoint_freq": 4})
    assert project.run("train", "-opt", file).status == 0
    before = project.weights()
    assert project.run("train", "-opt", file, "--auto_resume").status == 0
    assert len(spy.images) == 4
    torch.testing.assert_close(project.weights(), before, rtol=0, atol=0)


def test_auto_resume_without_a_state_starts(project: Project, spy: Spy):
    assert project.run("train", "-opt", project.write(), "--auto_resume").status == 0
    assert len(spy.images) == 4


def cut(project: Project) -> None:
    """Leave half of the newest state, as a full disk does."""
    file = project.root / STATES / "4.state"
    file.write_bytes(file.read_bytes()[:500])


def add_stranger(project: Project) -> None:
    """Somebody copied a good state beside the others."""
    (project.root / STATES / "best.state").write_bytes(b"")


@pytest.mark.parametrize(("harm", "first"), [(cut, 3), (add_stranger, 5)])
def test_auto_resume_survives_bad_states(
    project: Project, spy: Spy, harm: Callable[[Project], None], first: int
):
    file = project.write({"logger.save_checkpoint_freq": 2})
    assert project.run("train", "-opt", file).status == 0
    harm(project)
    spy.images.clear()
    longer = ["--force_yml", "train:total_iter=6", "--auto_resume"]
    assert project.run("train", "-opt", file, *longer).status == 0
    assert [iteration for iteration, _ in spy.images] == list(range(first, 7))


@pytest.mark.parametrize("lost", ["models/net_g_4.pth", "training_states/*"])
def test_run_that_cannot_go_on_is_left_alone(project: Project, lost: str):
    """Half of what a resume needs is gone or damaged: one line, and the run is not archived."""
    file = project.write({"logger.save_checkpoint_freq": 4})
    assert project.run("train", "-opt", file).status == 0
    for path in (project.root / "experiments/tiny").glob(lost):
        path.write_bytes(b"damaged")
    result = project.run("train", "-opt", file, "--auto_resume")
    assert result.status == 2
    assert result.err.splitlines()[-1].startswith("basicsr train: error: ")
    assert "experiments/tiny/" in result.err.splitlines()[-1]
    assert [path.name for path in (project.root / "experiments").iterdir()] == ["tiny"]
