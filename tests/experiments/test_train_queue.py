"""The training queue: its list, its records, and that it goes on after any end."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import queue_records
import torch
import train_queue
import yaml
from queue_list import QueueList, Run, force_entries
from queue_records import (
    Before,
    Journal,
    Records,
    Stretch,
    log_times,
    pixels_per_iteration,
    process_times,
    validations,
)

from compacter_arch.cli import main as basicsr
from compacter_arch.errors import UserError
from compacter_arch.training.history import History
from compacter_arch.training.lock import only_run
from compacter_arch.training.options import force_options

from ..conftest import REPOSITORY, Project, reset_basicsr_logger

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]
TRUNK = {
    "name": "trunk",
    "option_file": "tiny.yml",
    "iterations": 8,
    "use": ["often"],
    "options": {"train:scheduler:milestones": [1000]},
}
BRANCH = {
    "name": "decay_{at}",
    "branch_of": "trunk",
    "at": [4, 8],
    "option_file": "tiny.yml",
    "iterations": 4,
    "use": ["often"],
    "options": {
        "datasets:train:gt_size": 20,
        "train:optim_g:lr": 1e-3,
        "train:scheduler": {
            "type": "LinearLR",
            "end_factor": 0,
            "start_factor": 1,
            "total_iters": 4,
        },
    },
}
OFTEN = {"val:val_freq": 2, "logger:save_checkpoint_freq": 2, "model_type": "RestorationModel"}


class Forked:
    """What the queue uses of ``Popen``: a command of ours in a process that imports nothing."""

    def __init__(self, command: Sequence[str], log: Path) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            status = 1
            with suppress(BaseException):
                reset_basicsr_logger()
                signal.signal(signal.SIGINT, signal.default_int_handler)
                output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                os.dup2(output, 1)
                os.dup2(output, 2)
                sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
                sys.stderr = open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
                status = basicsr(list(command[3:]))
                sys.stdout.flush()
            os._exit(status)

    def wait(self, seconds: float | None = None) -> int:
        end = time.monotonic() + (seconds or 1000)
        while self.returncode is None and time.monotonic() < end:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            time.sleep(0.01)
        if self.returncode is None:
            raise subprocess.TimeoutExpired("", seconds or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


@pytest.fixture
def tree(project: Project, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A tiny project whose queue forks its trainings and looks at them often."""

    def start(command: Sequence[str], log: Path, session: train_queue.Session) -> Forked:
        log.parent.mkdir(parents=True, exist_ok=True)
        log.touch()
        return Forked(command, log)

    monkeypatch.setattr(train_queue, "start", start)
    monkeypatch.setattr(train_queue, "EVERY", 0.1)
    project.write()
    return project


def write_list(*entries: dict[str, Any]) -> Path:
    """A list of runs with the group of changes ``often``."""
    file = Path("queue.yml")
    content = {"options": {"often": OFTEN}, "runs": list(entries)}
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    return file


def queue(*arguments: str) -> int:
    """One call of the queue."""
    return train_queue.main(["--queue", "queue.yml", "--threads", "1", *arguments])


def curve(name: str) -> list[dict[str, str]]:
    """The lines of a run's CSV file."""
    with Path(f"experiments/queue/{name}.csv").open() as file:
        return list(csv.DictReader(file))


def test_list_of_the_repository():
    """Every entry fits its option file; what is shipped and what is given by name exists."""
    queue = QueueList(REPOSITORY / "experiments" / "queue.yml")
    for run in queue.runs.values():
        opt = run.read_options(queue.runs)
        assert opt["name"] == run.name and opt["train"]["total_iter"] == run.iterations
        assert pixels_per_iteration(opt) > 0
        assert run.compare is not None or run.name == "SRx2_trunk"
    assert queue.runs["SRx2_decay_15000"].at == 15000
    assert queue.runs["SRx3"].entries(queue.runs)[-3:] == [
        "path:pretrain_network_g=experiments/SRx2_decay_61000/models/net_g_latest.pth",
        "path:param_key_g=params_ema",
        "path:strict_load_g=false",
    ]


def test_changes_arrive_as_they_are():
    changes = {"a:b": 2e-3, "a:c": {"type": "x", "eta": 1e-7}, "a:d": [1, 2], "e": "{}_x.raw"}
    opt: dict[str, Any] = {}
    force_options(opt, force_entries({**changes, "f": None, "g": True}))
    assert opt["a"] == {"b": 2e-3, "c": {"type": "x", "eta": 1e-7}, "d": [1, 2]}
    assert opt["f"] is None and opt["g"] is True and opt["e"] == "{}_x.raw"


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ({"iteratons": 5}, "queue.yml: trunk: unknown key 'iteratons'; use name, "),
        ({"iterations": 0}, "queue.yml: trunk: iterations: 0 must be > 0"),
        ({"iterations": True}, "queue.yml: trunk: iterations: True must be > 0"),
        ({"use": ["seldom"]}, "queue.yml: trunk: use: no group 'seldom' in options, but often"),
        ({"start": "zoo://no"}, "queue.yml: trunk: start: no weights for 'no'; there are sr_x2"),
        ({"start": "other"}, "queue.yml: trunk: start: 'other' is no run of this list, "),
        ({"start": "trunk"}, "queue.yml: trunk: start: trunk starts from itself in the end"),
        ({"at": 4}, "queue.yml: trunk: at: is for branches; "),
        ({"branch_of": "trunk"}, "queue.yml: trunk: at: None must be iterations of the trunk"),
        ({"branch_of": "trunk", "at": 4}, "queue.yml: trunk: name: must hold {at}, "),
        ({"compare": {"weights": "sr_x2"}}, "queue.yml: trunk: compare: needs weights, "),
        ({"option_file": 5}, "queue.yml: trunk: option_file: 5 is no str"),
        ({"options": [5]}, "queue.yml: trunk: options: must be keys of --force_yml"),
        ({"name": "../a"}, "queue.yml: ../a: name: must be the name of a folder below"),
        ({"name": 5}, "queue.yml: runs, entry 1: must be a section with a name"),
    ],
)
def test_wrong_entries(
    entry: dict[str, Any],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.chdir(tmp_path)
    write_list({**TRUNK, **entry})
    assert queue("--list") == 2
    err = capsys.readouterr().err
    assert err.startswith(told) and err.count("\n") == 1


def test_wrong_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.chdir(tmp_path)
    write_list(TRUNK, TRUNK)
    assert queue() == 2
    assert capsys.readouterr().err.startswith("queue.yml: trunk: name: trunk is given twice")
    write_list(BRANCH, TRUNK)
    for arguments, told in (
        (("--only", "no"), "--only no: no such run in queue.yml: decay_4, decay_8, trunk"),
        (("--branch", "no"), "--branch no: no such branch in queue.yml, but decay_{at}"),
        (("--branch", "decay_{at}"), "--branch decay_{at}: trunk has no state yet"),
    ):
        assert queue(*arguments) == 2
        assert capsys.readouterr().err.startswith(told)


def test_pixels():
    journal = Journal()
    journal.sees(0, 10)
    assert journal.pixels_at(0) == 0 and journal.pixels_at(7) == 70
    journal.sees(5, 20)  # larger patches from there on
    assert [journal.pixels_at(i) for i in (4, 5, 6)] == [40, 50, 70]
    journal.sees(8, 20)
    assert journal.pixels == [[0, 10], [5, 20]]
    journal.sees(3, 30)  # resumed from an earlier state with other options
    assert [journal.pixels_at(i) for i in (3, 4)] == [30, 60]
    begun_elsewhere = Journal()
    begun_elsewhere.sees(6, 10)
    assert begun_elsewhere.pixels_at(7) == 70


def test_processor_time():
    journal = Journal()
    journal.read_process("a", 100, 5)
    journal.read_process("a", 100, 9)
    journal.read_process("b", 200, 1)
    assert journal.cpu_seconds == 10
    times = process_times(os.getpid())
    if times is not None:  # this system has /proc
        assert times[2] > 0 and abs(times[1] - time.time()) < 1e5
        assert process_times(os.getpid())[0] == times[0]  # type: ignore[index]
    assert process_times(2**22 + 1) is None


def test_logs_tell_the_time_that_nobody_watched(tmp_path: Path):
    (tmp_path / "train_a_1.log").write_text(
        "2026-12-01 10:00:00,001 INFO: a\n b\n2026-12-01 11:00:00,001 INFO: c\n2026-1"
    )
    (tmp_path / "train_a_2.log").write_text("nothing\n")
    [(first, last)] = log_times(tmp_path)
    assert last - first == 3600
    journal = Journal()
    for _ in range(2):  # counted once
        journal.read_logs([(first, last)])
        assert journal.cpu_seconds == journal.stretches[0].estimated == 3600
    watched = Journal([Stretch("a", first - 5, first + 600, 500)])  # killed after 10 minutes
    for _ in range(2):
        watched.read_logs([(first, last)])
        assert watched.cpu_seconds == 500 + 3000 and watched.stretches[0].estimated == 3000


def test_curve_follows_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    run = Run("a", "tiny.yml", 100)
    history = History(run.history_file)
    records = Records(run, Before(1000, 2.0))
    records.journal.sees(0, 10)
    for iteration in (10, 20):
        history.add(iteration, {"lr": 0.1, "l_pix": 1})
        history.add(iteration, {"set5_psnr": 30 + iteration})
    records.journal.read_process("p", 0, 3600)
    assert [row["cpu_hours"] for row in records.update(20)] == [2.5, 3.0]  # spread evenly
    assert records.update(20) == []
    records.save()
    records = Records(run, Before(1000, 2.0))
    history.cut(20, validated=False)  # resumed; the validation comes again
    assert records.update(20) == [] and list(records.rows) == [10]
    history.add(20, {"set5_psnr": 50.0})
    records.journal.read_process("q", 1, 1800)
    [row] = records.update(20)
    assert row["cpu_hours"] == 3.5 and row["pixels"] == 1200
    records.save()
    text = "iteration,pixels,cpu_hours,set5_psnr\n10,1100,2.5000,40.0\n20,1200,3.5000,50.0\n"
    assert records.curve_file.read_text() == text
    assert list(validations(run.history_file))[1] == {"iteration": 20, "set5_psnr": 50}
    assert train_queue.hours_at(15, records) == 3.0
    records.journal_file.write_text("{")
    with pytest.raises(UserError, match="queue/a.json: cannot be read"):
        Records(run)


def test_trunk_and_branches(tree: Project, capsys: pytest.CaptureFixture[str]):
    """The branch begins when its trunk is there; it takes weights, averages and optimizer."""
    write_list(BRANCH, TRUNK)
    assert queue("--list") == 0
    out = capsys.readouterr().out
    assert "waits for trunk after 4 iterations" in out and "next, to be trained" in out
    assert queue() == 0
    out = capsys.readouterr().out
    assert "decay_8: begins with weights, averages and optimizer of trunk after 8 iterations" in out
    assert out.endswith("Nothing else can be trained now.\n")

    trunk = tree.weights(8, "trunk")
    begun = tree.weights(0, "decay_8")
    assert all(torch.equal(begun[key], trunk[key]) for key in trunk)
    states = [
        torch.load(f"experiments/{name}.state", weights_only=True)["optimizers"][0]
        for name in ("trunk/training_states/8", "decay_8/training_states/0")
    ]
    moments = [state["state"][0]["exp_avg"] for state in states]
    assert torch.equal(*moments) and moments[0].abs().sum() > 0
    with Path("experiments/decay_8/train_decay_8.csv").open() as file:
        rates = [float(row["lr"]) for row in csv.DictReader(file) if row["lr"]]
    assert rates == pytest.approx([1e-3, 7.5e-4, 5e-4, 2.5e-4])
    pixels = [int(row["pixels"]) for row in curve("decay_8")]
    of_trunk, each = 8 * 2 * 8 * 8, 2 * 10 * 10
    assert pixels == [of_trunk, of_trunk + 2 * each, of_trunk + 4 * each]
    first, *_, last = curve("decay_8")
    assert first["tinyval_psnr"] == curve("trunk")[-1]["tinyval_psnr"]
    assert float(last["cpu_hours"]) >= float(first["cpu_hours"]) > 0
    assert queue("--list") == 0 and capsys.readouterr().out.count(" done ") == 3


def test_trunk_is_extended_and_branches_anywhere(tree: Project, capsys: pytest.CaptureFixture[str]):
    write_list({**BRANCH, "at": 100}, TRUNK)
    assert queue("--only", "trunk") == 0
    write_list({**BRANCH, "at": 100}, {**TRUNK, "iterations": 10})
    assert queue() == 0
    assert [row["iteration"] for row in curve("trunk")] == ["2", "4", "6", "8", "10"]
    assert queue("--branch", "decay_{at}") == 0
    assert [row["iteration"] for row in curve("decay_10")] == ["0", "2", "4"]
    capsys.readouterr()
    assert queue("--list") == 0
    assert "decay_10" in capsys.readouterr().out


def test_comparison(tree: Project, capsys: pytest.CaptureFixture[str]):
    """A finished run is tested beside the shipped weights, which are tested once."""
    shipped = yaml.safe_load((REPOSITORY / "options/test_Compacter_SRx2.yml").read_text())
    tree.write_test({"network_g": shipped["network_g"]})
    compare = {"weights": "sr_x2", "option_file": "test.yml", "datasets": ["TinyVal"]}
    network = {f"network_g:{k}": v for k, v in shipped["network_g"].items() if k != "type"}
    short = {**TRUNK, "iterations": 1, "start": "zoo://sr_x2", "compare": compare}
    write_list({**short, "options": {"train:optim_g:lr": 1e-9, **network}})
    assert queue() == 0
    with Path("experiments/queue/trunk_comparison.csv").open() as file:
        [row] = list(csv.DictReader(file))
    assert row["dataset"] == "TinyVal" and row["metric"] == "psnr" and row["iteration"] == "1"
    assert abs(float(row["difference"])) < 0.01 and float(row["run"]) > 20
    assert f"TinyVal psnr {float(row['run']):.4f}, sr_x2 " in capsys.readouterr().out
    [kept] = Path("experiments/queue").glob("shipped_sr_x2_*.csv")
    kept.write_text(kept.read_text().replace(row["shipped"], "1.0"))
    Path("experiments/queue/trunk_comparison.csv").unlink()
    assert queue() == 0
    assert "sr_x2 1.0000 (+" in capsys.readouterr().out


def test_failing_run_does_not_stop_the_others(tree: Project, capsys: pytest.CaptureFixture[str]):
    wrong = {**TRUNK, "name": "wrong", "options": {"datasets:train:dataroot_gt": "data/no"}}
    write_list(wrong, {**TRUNK, "iterations": 1})
    assert queue() == 1
    out, err = capsys.readouterr()
    told = "wrong: basicsr train: error: tiny.yml: datasets.train.dataroot_gt: data/no does not"
    assert err.startswith(told) and err.count("\n") == 1
    assert "trunk: 1 of 1 iterations are done and saved" in out


def test_time_limit(tree: Project, capsys: pytest.CaptureFixture[str]):
    write_list({**TRUNK, "iterations": 10**6})
    train_queue.LEAST, least = 0.001, train_queue.LEAST
    try:
        assert queue("--minutes", "0.05") == 0
    finally:
        train_queue.LEAST = least
    assert capsys.readouterr().out.endswith("trunk: is next; the time is over\n")
    assert 0 < int(max(Path("experiments/trunk/training_states").iterdir()).stem) < 10**6


def in_a_process(work: Callable[[], object]) -> int:
    """Start a process in a group of its own."""
    pid = os.fork()
    if pid == 0:
        with suppress(BaseException):
            os.setpgid(0, 0)
            output = os.open("output.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(output, 1)
            os.dup2(output, 2)
            sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
            work()
        os._exit(0)
    return pid


def until(condition: Callable[[], bool]) -> None:
    """Wait for something."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, Path("output.txt").read_text()
        time.sleep(0.01)


def has_iteration(name: str, iteration: int) -> bool:
    return Path(f"experiments/{name}/training_states/{iteration}.state").exists()


def test_killed_again_and_again(tree: Project):
    """Queue and training are killed together, as when a machine is lost; then the queue alone."""
    write_list({**TRUNK, "iterations": 24})
    for number, iteration in enumerate((4, 8, 12)):
        pid = in_a_process(queue)
        until(lambda i=iteration: has_iteration("trunk", i))  # type: ignore[misc]
        time.sleep(0.02 * number)
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    pid = in_a_process(queue)
    until(lambda: has_iteration("trunk", 16))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert queue() == 0  # watches the training that was left over, if it still lives

    rows = curve("trunk")
    assert [int(row["iteration"]) for row in rows] == list(range(2, 25, 2))
    assert [int(row["pixels"]) for row in rows] == [128 * i for i in range(2, 25, 2)]
    hours = [float(row["cpu_hours"]) for row in rows]
    assert hours == sorted(hours) and hours[-1] > 0
    with Path("experiments/trunk/train_trunk.csv").open() as file:
        assert [r["tinyval_psnr"] for r in csv.DictReader(file) if r["tinyval_psnr"]] == [
            row["tinyval_psnr"] for row in rows
        ]
    Path("experiments/trunk").rename("experiments/parts")
    write_list({**TRUNK, "name": "whole", "iterations": 24})
    assert queue() == 0
    whole, parts = tree.weights(name="whole"), torch.load("experiments/parts/models/net_g_24.pth")
    assert all(torch.equal(whole[key], parts["params"][key]) for key in whole)


def test_process_of_a_training(tmp_path: Path):
    """It has the threads and the niceness that it is given; the log keeps what it says."""
    code = "import os; print(os.environ['OMP_NUM_THREADS'], os.nice(0))"
    session = train_queue.Session(QueueList(REPOSITORY / "experiments" / "queue.yml"), 3, nice=17)
    log = tmp_path / "queue" / "a.log"
    for _ in range(2):
        process = train_queue.start([sys.executable, "-c", code], log, session)
        assert train_queue.wait(process, 20) and process.returncode == 0
    assert log.read_text().count("$ ") == 2 and train_queue.last_line(log).startswith("3 ")


def test_stopped_by_a_signal(tree: Project):
    write_list({**TRUNK, "iterations": 10**6})
    pid = in_a_process(lambda: os._exit(queue()))
    until(lambda: has_iteration("trunk", 2))
    os.kill(pid, signal.SIGTERM)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 143
    assert train_queue.holder_of(Path("experiments/trunk")) == ""
    assert "Stopped by SIGTERM" in Path("experiments/queue/trunk.log").read_text()


def test_run_above_goes_first(tree: Project, capsys: pytest.CaptureFixture[str]):
    """The training of a trunk is stopped as soon as its branch can begin, and goes on after it."""
    write_list({**BRANCH, "at": 4}, {**TRUNK, "iterations": 300})
    session = train_queue.Session(QueueList(Path("queue.yml")), 1)
    trunk = session.queue.runs["trunk"]
    train_queue.train(trunk, session)
    assert "trunk: stops, as decay_4 can begin" in capsys.readouterr().out
    assert session.next_run().name == "decay_4" and "trunk" not in session.left_out  # type: ignore[union-attr]


def test_two_queues(tree: Project, capsys: pytest.CaptureFixture[str]):
    """A queue leaves alone what another one works on; a training of somebody else is watched."""
    write_list({**TRUNK, "iterations": 10**6}, {**TRUNK, "name": "other", "iterations": 1})
    pid = in_a_process(queue)
    until(lambda: has_iteration("trunk", 2))
    assert queue() == 0
    out = capsys.readouterr().out
    assert "trunk: another queue works on it" in out and "other: 1 of 1 iterations are done" in out
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)

    def train_by_hand() -> None:
        with only_run(Path("experiments/trunk")):
            Path("held").touch()
            time.sleep(1.5)

    pid = in_a_process(train_by_hand)
    until(Path("held").exists)
    session = train_queue.Session(QueueList(Path("queue.yml")), 1)
    trunk = session.queue.runs["trunk"]
    assert train_queue.status(trunk, session.queue.runs).detail.startswith(f"process {pid} on ")
    train_queue.work_on(trunk, session)
    os.waitpid(pid, 0)
    assert f"is being trained by process {pid} on " in capsys.readouterr().out
    stretches = Records(trunk).journal.stretches
    if queue_records.process_times(os.getpid()) is not None:
        assert any(f" {pid} " in stretch.process for stretch in stretches)
