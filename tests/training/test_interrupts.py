"""Stopping a run from outside: what is saved, what is said, the exit status."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch.distributed as dist
from torch.utils.data import DataLoader, Dataset

from compacter_arch.training.interrupts import TIME_LIMIT, StopRequest
from compacter_arch.training.sampling import Batches

from ..conftest import Project
from .conftest import Spy
from .test_resume import STATES, interrupt

ENDLESS = {
    "train.total_iter": 1_000_000,
    "val.val_freq": 1_000_000,
    "logger.save_checkpoint_freq": 1_000_000,
}
AS_MODULE = ("-m", "compacter_arch")
WITH_SPAWN = (  # workers as on Windows and macOS
    "-c",
    "import multiprocessing as m, sys; m.set_start_method('spawn');"
    "from compacter_arch.cli import main; sys.exit(main())",
)


def states(project: Project) -> list[str]:
    """Names of the saved states."""
    return sorted(path.name for path in (project.root / STATES).iterdir())


@pytest.mark.skipif(os.name == "nt", reason="Windows has no process groups to signal")
@pytest.mark.parametrize(
    ("number", "status", "workers", "python"),
    [
        (signal.SIGINT, 130, 2, AS_MODULE),
        (signal.SIGTERM, 143, 1, AS_MODULE),
        (signal.SIGINT, 130, 1, WITH_SPAWN),
    ],
)
def test_signal_to_a_real_run_saves_and_tells_how_to_resume(
    project: Project,
    number: signal.Signals,
    status: int,
    workers: int,
    python: tuple[str, ...],
):
    """Ctrl-C in a terminal, or a batch system, reaches the workers as well."""
    changes = {**ENDLESS, "datasets.train.num_worker_per_gpu": workers}
    changes["datasets.train.dataset_enlarge_ratio"] = 10_000
    process = project.start("train", "-opt", project.write(changes), python=python)
    for line in process.stderr:
        if "iter:       2" in line:
            break
    os.killpg(process.pid, number)
    _, err = process.communicate(timeout=300)
    assert process.returncode == status, err
    assert "Traceback" not in err
    assert err.splitlines()[-1].endswith("Go on with: basicsr train -opt tiny.yml --auto_resume")
    assert f"Stopped by {number.name} after iteration " in err
    assert len(states(project)) == 1

    done = states(project)[0].removesuffix(".state")
    assert f"after iteration {int(done):,} of 1,000,000; state saved" in err
    assert project.weights(done)
    more = ["--auto_resume", "--force_yml", f"train:total_iter={int(done) + 2}"]
    more += ["datasets:train:num_worker_per_gpu=0"]
    result = project.run("train", "-opt", "tiny.yml", *more)
    assert result.status == 0 and f"Resuming after iteration {int(done):,}." in result.err


def test_second_ctrl_c_stops_at_once(project: Project, spy: Spy):
    def twice() -> None:
        interrupt()
        interrupt()

    spy.at[2] = twice
    result = project.run("train", "-opt", project.write())
    assert result.status == 130
    assert result.err.splitlines()[-1] == "basicsr train: interrupted"
    assert states(project) == []


def test_ctrl_c_after_a_gentler_stop_stops_at_once(project: Project, spy: Spy):
    def both() -> None:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        interrupt()

    spy.at[2] = both
    assert project.run("train", "-opt", project.write()).status == 130
    assert states(project) == []


def test_validation_is_cut_short_and_the_state_saved(project: Project, spy: Spy):
    spy.in_validation = interrupt
    result = project.run("train", "-opt", project.write({"val.val_freq": 2}))
    assert result.status == 130
    assert "after iteration 2 of 4" in result.err and states(project) == ["2.state"]
    assert "Validation TinyVal" not in result.err


def test_interrupted_last_validation_is_not_success(project: Project, spy: Spy):
    spy.in_validation = interrupt
    result = project.run("train", "-opt", project.write())
    assert result.status == 130
    assert project.weights("latest")
    assert "Traceback" not in result.err


def test_handlers_are_given_back(project: Project, spy: Spy):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    spy.at[1] = interrupt
    project.run("train", "-opt", project.write())
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_time_limit_saves_and_is_success_in_time(project: Project, spy: Spy):
    started = time.monotonic()
    result = project.run("train", "-opt", project.write(ENDLESS), "--time_limit", "0.05")
    assert time.monotonic() - started < 3
    assert result.status == 0
    assert f"Stopped by time limit after iteration {len(spy.images):,} of 1,000,000" in result.err
    assert states(project) == [f"{len(spy.images)}.state"]


def test_time_limit_cuts_a_validation_short(project: Project, spy: Spy):
    """A validation that would never end."""

    def for_ever() -> None:
        while True:
            pass

    spy.in_validation = for_ever
    file = project.write({"val.val_freq": 1})
    assert project.run("train", "-opt", file, "--time_limit", "0.03").status == 0
    assert states(project) == ["1.state"]


def test_time_limit_that_is_over_keeps_the_start(project: Project, spy: Spy):
    result = project.run("train", "-opt", project.write(ENDLESS), "--time_limit", "0")
    assert result.status == 0 and states(project) == ["0.state"] and not spy.images


def test_time_limit_after_ctrl_c_lets_the_save_finish():
    """The timer must not count as the second Ctrl-C."""
    with StopRequest(3600) as stop:
        interrupt()
        stop._timer.function()
    assert stop.reason == "SIGINT"


def test_ctrl_c_after_the_time_limit_stops_at_once():
    with StopRequest(3600) as stop:
        stop._timer.function()
        assert stop.reason == TIME_LIMIT
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def test_nothing_is_worked_on_after_a_stop():
    done: list[int] = []
    with StopRequest() as stop:
        assert stop.unless_stopped(lambda: done.append(1)) and done == [1]
        interrupt()
        assert not stop.unless_stopped(lambda: done.append(2)) and done == [1]


@pytest.mark.skipif(not dist.is_available(), reason="torch without distributed")
def test_work_of_several_processes_is_not_cut_off(tmp_path: Path):
    """The others would wait for the one that has left."""
    dist.init_process_group("gloo", f"file://{tmp_path}/meeting", rank=0, world_size=1)
    done: list[int] = []

    def work() -> None:
        interrupt()
        done.append(1)

    try:
        with StopRequest() as stop:
            assert stop.unless_stopped(work) and done == [1] and stop.reason == "SIGINT"
            assert not stop.unless_stopped(work) and stop.agreed() and done == [1]
            assert not stop.agreed(1)  # they vote in every tenth iteration
    finally:
        dist.destroy_process_group()


class Signalled(Dataset[int]):
    """Numbers, for each of which the process that loads it gets a signal first."""

    def __init__(self, number: signal.Signals) -> None:
        self.number = number

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        os.kill(os.getpid(), self.number)
        return index


@pytest.mark.skipif(os.name == "nt", reason="Windows has no signals between processes")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_workers_leave_signals_to_the_main_process(number: signal.Signals):
    dataset = Signalled(number)
    loader = DataLoader(dataset, batch_size=2, num_workers=1)
    opt = {"manual_seed": 0, "rank": 0, "world_size": 1, "datasets": {"train": {}}}
    with Batches(loader, opt) as batches:
        numbers = [number for batch in batches.epoch(0) for number in batch.tolist()]
    assert sorted(numbers) == [0, 1, 2, 3]


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="reads /proc")
def test_worker_of_a_run_that_was_killed_before_it_started_ends(tmp_path: Path):
    """Else it would wait for ever."""
    told = tmp_path / "pid"

    def slow(number: int) -> None:
        told.write_text(str(os.getpid()))
        while os.getppid() == run:
            time.sleep(0.01)

    run = os.fork()
    if run == 0:
        run = os.getpid()
        loader = DataLoader(Signalled(signal.SIGCHLD), batch_size=2, num_workers=1)
        loader.worker_init_fn = slow
        opt = {"manual_seed": 0, "rank": 0, "world_size": 1, "datasets": {"train": {}}}
        with Batches(loader, opt) as batches:
            list(batches.epoch(0))
        os._exit(1)
    end = time.monotonic() + 60
    while not (told.exists() and told.read_text()) and time.monotonic() < end:
        time.sleep(0.01)
    os.kill(run, signal.SIGKILL)
    os.waitpid(run, 0)
    worker = Path("/proc", told.read_text(), "stat")
    end, alive = time.monotonic() + 60, True
    while alive and time.monotonic() < end:
        time.sleep(0.05)
        alive = worker.exists() and ") Z " not in worker.read_text()
    if alive:
        os.kill(int(told.read_text()), signal.SIGKILL)
    assert not alive
