"""A run that is interrupted anywhere ends as one that was left alone, to the bit."""

from __future__ import annotations

import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from ..conftest import Project
from .conftest import Spy
from .test_resume import interrupt

ALL = {  # 4 images x 3 in batches of 2: 6 iterations per epoch
    "datasets.train.dataset_enlarge_ratio": 3,
    "train.total_iter": 14,
    "train.ema_decay": 0.5,
    "train.scheduler.milestones": [3, 8],
    "train.warmup_iter": 4,
    "val.val_freq": 4,
    "logger.save_checkpoint_freq": 4,
    "logger.use_tb_logger": True,
}
BY_LMDB = {
    "datasets.train.dataroot_gt": "data/GT.lmdb",
    "datasets.train.dataroot_lq": "data/LR.lmdb",
    "datasets.train.io_backend": {"type": "lmdb"},
}
WAYS: dict[str, dict[str, Any]] = {
    "folder": {},
    "workers": {"datasets.train.num_worker_per_gpu": 2},
    "prefetch": {"datasets.train.prefetch_mode": "cpu"},
    "lmdb, workers, prefetch": {
        **BY_LMDB,
        "datasets.train.num_worker_per_gpu": 2,
        "datasets.train.prefetch_mode": "cpu",
    },
    "stochastic depth": {
        "network_g": {
            "type": "SwinIR",
            "upscale": 2,
            "embed_dim": 12,
            "depths": [2],
            "num_heads": [3],
            "window_size": 4,
            "img_size": 8,
            "upsampler": "pixelshuffledirect",
            "drop_path_rate": 0.5,
        }
    },
    "new noise": {
        "scale": 1,
        "datasets.train": {
            "name": "Noisy",
            "type": "GaussianNoiseDataset",
            "dataroot_gt": "data/train/GT",
            "sigma": [0, 50],
            "io_backend": {"type": "disk"},
            "gt_size": 16,
            "use_hflip": True,
            "use_rot": True,
            "num_worker_per_gpu": 2,
            "batch_size_per_gpu": 2,
            "dataset_enlarge_ratio": 3,
            "prefetch_mode": None,
        },
        "datasets.val": {
            "name": "TinyVal",
            "type": "GaussianNoiseDataset",
            "dataroot_gt": "data/val/GT",
            "sigma": 25,
            "io_backend": {"type": "disk"},
        },
        "network_g.upscale": 1,
        "model_type": "RestorationModel",
        "train.optim_g": {"type": "AdamW", "lr": 1e-3},
        "train.grad_clip": 0.1,
        "train.amp": "bf16",
    },
}


def scalars(name: str) -> dict[str, list[tuple[int, float]]]:
    """What TensorBoard shows of a run, every point of it."""
    events = EventAccumulator(f"tb_logger/{name}", size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_same(one: Any, two: Any) -> None:
    """Equal to the bit, whatever holds the numbers."""
    if isinstance(one, torch.Tensor):
        torch.testing.assert_close(two, one, rtol=0, atol=0)
    elif isinstance(one, dict):
        assert one.keys() == two.keys()
        for key in one:
            assert_same(one[key], two[key])
    elif isinstance(one, (list, tuple)):
        assert len(one) == len(two)
        for a, b in zip(one, two, strict=True):
            assert_same(a, b)
    else:
        assert one == two


def assert_same_runs(one: str, two: str) -> None:
    """Weights and states of every iteration, the CSV file, TensorBoard."""
    files = [
        sorted(file.relative_to(root) for file in root.rglob("*") if file.suffix in KINDS)
        for root in (Path("experiments", one), Path("experiments", two))
    ]
    assert [str(file).replace(one, two) for file in files[0]] == [str(file) for file in files[1]]
    for ours, theirs in zip(*files, strict=True):
        ours, theirs = Path("experiments", one, ours), Path("experiments", two, theirs)
        if ours.suffix == ".csv":
            assert ours.read_text() == theirs.read_text()
        else:
            assert_same(*(torch.load(file, weights_only=True) for file in (ours, theirs)))
    assert_same(scalars(one), scalars(two))


KINDS = {".pth", ".state", ".csv"}


@pytest.mark.parametrize("way", WAYS)
def test_interrupted_three_times(project: Project, spy: Spy, way: str):
    """Within an epoch, between two, where a state is due and where it is not."""
    if "lmdb" in way:
        for half in ("GT", "LR"):
            project.make_lmdb(f"data/train/{half}", f"data/{half}.lmdb")
    changes = {**ALL, **WAYS[way]}
    whole = project.write({**changes, "name": "whole"}, "whole.yml")
    result = project.run("train", "-opt", whole)
    assert result.status == 0, result.err
    parts = project.write({**changes, "name": "parts"}, "parts.yml")
    for iteration in (3, 6, 8):
        spy.at = {iteration: interrupt}
        assert project.run("train", "-opt", parts, "--auto_resume").status == 130
    spy.at.clear()
    assert project.run("train", "-opt", parts, "--auto_resume").status == 0
    for number in (3, 6):  # saved by the interruption alone
        Path(f"experiments/parts/training_states/{number}.state").unlink()
        Path(f"experiments/parts/models/net_g_{number}.pth").unlink()
    assert_same_runs("whole", "parts")


class Killed(BaseException):
    """Ends a run at once, as SIGKILL does; nothing of ours catches it."""


def kill() -> None:
    """Raise it."""
    raise Killed


@pytest.mark.parametrize("moment", ["before", "while saving", "in validation", "after"])
def test_killed_around_a_validation_that_is_due_with_a_state(
    project: Project, spy: Spy, monkeypatch: pytest.MonkeyPatch, moment: str
):
    """Neither is lost, and the logs tell of it once."""
    from compacter_arch.training import run

    whole = project.write({**ALL, "name": "whole"}, "whole.yml")
    assert project.run("train", "-opt", whole).status == 0
    parts = project.write({**ALL, "name": "parts"}, "parts.yml")
    with monkeypatch.context() as patch:
        if moment == "before":
            spy.at[8] = kill
        elif moment == "in validation":
            validated: list[int] = []

            def kill_in_second_validation() -> None:
                validated.append(1)
                if len(validated) == 4:  # of two images each
                    kill()

            spy.in_validation = kill_in_second_validation
        else:
            save = run.Run.save

            def kill_at_save(self: run.Run) -> None:
                second = self.iteration == 8 and self.validated == 8
                if second and moment == "while saving":  # logged, but no state knows it
                    kill()
                save(self)
                if second:
                    kill()

            patch.setattr(run.Run, "save", kill_at_save)
        with pytest.raises(Killed):
            project.run("train", "-opt", parts)
    spy.at.clear()
    spy.in_validation = None
    assert project.run("train", "-opt", parts, "--auto_resume").status == 0
    assert_same_runs("whole", "parts")


def test_seed_of_the_run_stays(project: Project, spy: Spy):
    """Also where the option file gives none, and a new one is drawn each time."""
    file = project.write({**ALL, "manual_seed": None})
    spy.at[3] = interrupt
    assert project.run("train", "-opt", file).status == 130
    seed = torch.load("experiments/tiny/training_states/3.state", weights_only=True)["manual_seed"]
    spy.at.clear()
    forced = ["--auto_resume", "--force_yml", f"manual_seed={seed + 1}"]
    assert project.run("train", "-opt", file, *forced).status == 0
    again = project.write({**ALL, "name": "again", "manual_seed": seed}, "again.yml")
    assert project.run("train", "-opt", again).status == 0
    assert_same(project.weights(), project.weights(name="again"))


def flip_bit(file: Path) -> None:
    """Change one bit in the middle of the largest tensor."""
    data = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        largest = max(archive.infolist(), key=lambda part: part.file_size)
    names = struct.unpack_from("<HH", data, largest.header_offset + 26)
    data[largest.header_offset + 30 + sum(names) + largest.file_size // 2] ^= 4
    file.write_bytes(data)


@pytest.mark.parametrize("damaged", ["training_states/12.state", "models/net_g_12.pth"])
@pytest.mark.parametrize("harm", [flip_bit, Path.unlink])
def test_damaged_checkpoint_is_named_and_the_one_before_it_used(
    project: Project, caplog: pytest.LogCaptureFixture, damaged: str, harm: Any
):
    whole = project.write({**ALL, "name": "whole"}, "whole.yml")
    assert project.run("train", "-opt", whole).status == 0
    parts = project.write({**ALL, "name": "parts", "train.total_iter": 12}, "parts.yml")
    assert project.run("train", "-opt", parts).status == 0
    harm(Path("experiments/parts", damaged))
    longer = ["--auto_resume", "--force_yml", "train:total_iter=14"]
    result = project.run("train", "-opt", parts, *longer)
    assert result.status == 0 and "Resuming after iteration 8." in result.err
    if harm is flip_bit or "models" in damaged:
        assert f"{damaged} cannot be read (" in caplog.text
    assert_same(project.weights(name="whole"), project.weights(name="parts"))


def test_only_so_many_checkpoints_are_kept(project: Project, spy: Spy):
    changes = {"train.total_iter": 7, "logger.save_checkpoint_freq": 1}
    file = project.write({**changes, "logger.keep_checkpoints": 2})
    assert project.run("train", "-opt", file).status == 0
    left = sorted(f.name for f in Path("experiments/tiny").rglob("*") if f.suffix in KINDS)
    names = ["6.state", "7.state", "net_g_6.pth", "net_g_7.pth", "net_g_latest.pth"]
    assert left == [*names, "train_tiny.csv"]


def test_state_of_basicsr_itself_is_taken_up(project: Project):
    """Without the seed, the best metrics and what was validated."""
    whole = project.write({**ALL, "name": "whole"}, "whole.yml")
    assert project.run("train", "-opt", whole).status == 0
    parts = project.write({**ALL, "name": "parts", "train.total_iter": 8}, "parts.yml")
    assert project.run("train", "-opt", parts).status == 0
    file = Path("experiments/parts/training_states/8.state")
    state = torch.load(file, weights_only=True)
    kept = {key: state[key] for key in ("epoch", "iter", "optimizers", "schedulers")}
    torch.save(kept, file)
    longer = ["--auto_resume", "--force_yml", "train:total_iter=14"]
    assert project.run("train", "-opt", parts, *longer).status == 0
    assert_same(project.weights(name="whole"), project.weights(name="parts"))


def test_what_a_kill_left_while_saving_is_taken_away(project: Project, spy: Spy):
    file = project.write(ALL)
    spy.at[3] = interrupt
    assert project.run("train", "-opt", file).status == 130
    part = Path("experiments/tiny/models/net_g_4.pth.1234.tmp")
    part.write_bytes(b"half")
    spy.at.clear()
    assert project.run("train", "-opt", file, "--auto_resume").status == 0
    assert not part.exists()
