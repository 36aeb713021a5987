"""Trains the runs of a list one after the other, and goes on where it was stopped or killed.

    python experiments/train_queue.py --list           # what is done, under way and next
    python experiments/train_queue.py --minutes 170    # train for so long, whatever is next

The list is ``experiments/queue.yml``; its head explains its keys. Every run is trained by
``basicsr train --auto_resume``, validated, and compared with the shipped weights when it is done.
``experiments/queue/NAME.csv`` holds its metrics against iterations, LR pixels and CPU hours,
``NAME.log`` what the training said, ``NAME_comparison.csv`` the comparison.

A run is taken up when what it starts from is there; the first one of the list has precedence. A
training that is stopped for a run above it saves its state first. One that another process has
started is watched, not disturbed. Two queues side by side train different runs.
"""

from __future__ import annotations

import argparse
import csv
import fcntl
import io
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from queue_list import AT, Comparison, QueueList, Run, force_entries
from queue_records import (
    RECORDS,
    Before,
    Records,
    log_times,
    metrics_of,
    pixels_per_iteration,
    process_times,
    reached,
    saved,
    validations,
)

from compacter_arch.atomic import write_file
from compacter_arch.compat.checkpoints import load_safely
from compacter_arch.errors import UserError
from compacter_arch.training.lock import lock_file, only_run
from compacter_arch.zoo import weights_file

EVERY = 10.0  # seconds between two looks at a training
LEAST = 1.0  # minutes; with less left, nothing is begun
DONE, TRAINING, READY, WAITING = "done", "training", "ready", "waiting"
STOPPED = (130, 143, -signal.SIGINT, -signal.SIGTERM)  # statuses of a training that was stopped
COMPARED = ("iteration", "dataset", "metric", "run", "shipped", "difference")
Scores = dict[tuple[str, str], float]  # by data set and metric


@dataclass(frozen=True)
class Status:
    """How far a run is.

    Attributes:
        state: ``done``, ``training``, ``ready`` or ``waiting``.
        iteration: that it has reached.
        detail: of a training, who trains; of a run that waits, for what; of one that is ready, what
            comes next.
    """

    state: str
    iteration: int
    detail: str = ""


@dataclass
class Session:
    """One call of the queue.

    Attributes:
        queue: the list.
        threads: of a training.
        nice: added to the niceness of a training.
        deadline: ``time.monotonic()`` at which all must have ended, or None.
        only: the runs that may be trained; None for all.
        left_out: runs that failed, or that another queue works on.
        failed: those that failed.
        stopped: the signal that asked the queue to stop, or 0.
        process: the training or test under way.
    """

    queue: QueueList
    threads: int
    nice: int = 10
    deadline: float | None = None
    only: frozenset[str] | None = None
    left_out: set[str] = field(default_factory=set)
    failed: set[str] = field(default_factory=set)
    stopped: int = 0
    process: subprocess.Popen[bytes] | None = None

    @property
    def minutes_left(self) -> float:
        """Until the deadline; infinite without one."""
        if self.deadline is None:
            return float("inf")
        return (self.deadline - time.monotonic()) / 60

    @contextmanager
    def signals(self) -> Iterator[None]:
        """Within it, Ctrl-C and SIGTERM let the training save its state, and end the queue."""

        def stop(number: int, frame: FrameType | None) -> None:
            self.stopped = number
            self.end_process()

        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, stop) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def end_process(self) -> None:
        """Ask the training under way to save its state and end."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGTERM)

    def next_run(self) -> Run | None:
        """The first run of the list that can be worked on."""
        for run in self.queue.runs.values():
            allowed = self.only is None or run.name in self.only
            if not allowed or run.name in self.left_out:
                continue
            if status(run, self.queue.runs).state in (TRAINING, READY):
                return run
        return None

    def can_begin_above(self, run: Run) -> Run | None:
        """A run that comes before ``run`` in the list and is ready."""
        other = self.next_run()
        names = list(self.queue.runs)
        if other is None or names.index(other.name) >= names.index(run.name):
            return None
        return other if status(other, self.queue.runs).state == READY else None


def say(run: Run | None, text: str) -> None:
    """Print a line at once."""
    print(f"{run.name}: {text}" if run else text, flush=True)


def status(run: Run, runs: Mapping[str, Run]) -> Status:
    """How far a run is, by its files alone."""
    iteration = reached(run)
    holder = holder_of(run.folder)
    if holder:
        return Status(TRAINING, iteration, holder)
    if is_trained(run):
        compared = run.compare is None or compared_at(run) == iteration
        return Status(DONE, iteration) if compared else Status(READY, iteration, "to be compared")
    missing = missing_start(run, runs) if saved(run) is None else ""
    if missing:
        return Status(WAITING, iteration, missing)
    return Status(READY, iteration, "to be trained")


def is_trained(run: Run) -> bool:
    """Whether all iterations are done, and their weights saved and validated."""
    iteration = saved(run) or 0
    if iteration < run.iterations or not run.weights("latest").exists():
        return False
    return any(row["iteration"] >= iteration for row in validations(run.history_file))


def missing_start(run: Run, runs: Mapping[str, Run]) -> str:
    """What a run that is not begun waits for; empty if it waits for nothing."""
    if run.branch_of is not None and run.at is not None:
        trunk = runs[run.branch_of]
        if not trunk.state(run.at).exists() or not trunk.weights(run.at).exists():
            return f"{trunk.name} after {run.at:,} iterations"
    if run.start is not None and run.start in runs and not is_trained(runs[run.start]):
        return run.start
    return ""


def holder_of(folder: Path) -> str:
    """Who trains the run of a folder, as ``process 12 on host``; empty if nobody does."""
    try:
        with lock_file(folder).open("r+", encoding="utf-8") as lock:
            try:
                fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return lock.read(500) or "another process"
            except OSError:  # a file system without locks
                return ""
    except FileNotFoundError:
        pass
    return ""


def pid_of(holder: str) -> int | None:
    """The process of a lock's text, if it is one of this machine."""
    match = re.fullmatch(r"process (\d+) on (.+)", holder)
    here = match is not None and match[2] == os.uname().nodename
    return int(match[1]) if match and here else None


def open_records(run: Run, runs: Mapping[str, Run]) -> Records:
    """The records of a run; those of a branch begin with what its trunk had spent."""
    if run.branch_of is None or run.at is None:
        return Records(run)
    trunk = open_records(runs[run.branch_of], runs)
    hours = hours_at(run.at, trunk)
    return Records(run, Before(trunk.pixels_at(run.at), hours))


def hours_at(iteration: int, records: Records) -> float:
    """The CPU hours of a run after an iteration, between the lines of its curve."""
    last, hours = 0, records.before.cpu_hours
    ends = [(key, row["cpu_hours"]) for key, row in records.rows.items()]
    for key, until in [*ends, (max(reached(records.run), iteration), records.cpu_hours)]:
        if key >= iteration:
            return hours + (until - hours) * (iteration - last) / max(key - last, 1)
        last, hours = key, until
    return hours


def begin_branch(run: Run, trunk: Run, rate: float) -> None:
    """Lay out the folder of a branch: its iteration 0 is an iteration of the trunk.

    Weights and averages are the trunk's, and so is the state of the optimizer. The scheduler begins
    afresh: from an empty state it keeps what the option file of the branch has set up.

    Args:
        run: the branch.
        trunk: the run that it leaves.
        rate: the learning rate that the schedule of the branch begins with.

    Raises:
        UserError: the trunk's files cannot be read.
    """
    at = run.at or 0
    try:
        state = load_safely(trunk.state(at), map_location="cpu")
        for optimizer in state["optimizers"]:
            for group in optimizer["param_groups"]:
                group["lr"] = group["initial_lr"] = rate
        schedulers: list[dict[str, Any]] = [{} for _ in state["schedulers"]]
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(f"{trunk.state(at)}: cannot be read: {error}; give another `at`") from error
    begun = {
        "epoch": 0,
        "iter": 0,
        "validated": -1,
        "optimizers": state["optimizers"],
        "schedulers": schedulers,
    }
    (run.folder / "visualization").mkdir(parents=True, exist_ok=True)
    write_file(run.weights(0), trunk.weights(at).read_bytes())
    content = io.BytesIO()
    torch.save(begun, content)
    write_file(run.state(0), content.getvalue())
    say(run, f"begins with weights, averages and optimizer of {trunk.name} after {at:,} iterations")


def command_of(*arguments: str) -> list[str]:
    """``basicsr`` of the package that this process uses."""
    return [sys.executable, "-m", "compacter_arch", *arguments]


def train_command(run: Run, session: Session) -> list[str]:
    """How a run is trained."""
    limit: list[str] = []
    if session.minutes_left < float("inf"):
        limit = ["--time_limit", f"{max(session.minutes_left, 0.1):.2f}"]
    forced = ["--force_yml", *run.entries(session.queue.runs)]
    return command_of("train", "-opt", run.option_file, "--auto_resume", *limit, *forced)


def start(command: Sequence[str], log: Path, session: Session) -> subprocess.Popen[bytes]:
    """Start a command whose output is added to a log."""
    threads = str(session.threads)
    environment = os.environ | {"OMP_NUM_THREADS": threads, "PYTHONSAFEPATH": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"\n$ {shlex.join(command)}\n".encode())
        output.flush()
        process = subprocess.Popen(
            command, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    with suppress(OSError):  # it may have ended, or the system have other priorities
        os.setpriority(os.PRIO_PROCESS, process.pid, min(session.nice, 19))
    return process


def wait(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Wait for a process; whether it has ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def children_seconds() -> float:
    """Processor time of all processes that this one has started and that have ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def note_progress(run: Run, records: Records) -> None:
    """Bring the curve of a run up to date, and print what is new."""
    for row in records.update(reached(run)):
        done = f"{int(row['iteration']):,} of {run.iterations:,} iterations"
        seen = f"{row['pixels'] / 1e6:,.1f} million LR pixels, {row['cpu_hours']:.2f} CPU hours"
        say(run, f"{done}, {seen}: {metrics_of(row)}")
    records.save()


def take_up(
    run: Run, runs: Mapping[str, Run], process: tuple[str, float, float] | None = None
) -> Records:
    """Bring the records of a run up to date with what was trained while no queue looked.

    Args:
        run: the run.
        runs: all of the list.
        process: what the system tells of the process that trains the run now.
    """
    records = open_records(run, runs)
    if not run.history_file.exists():
        return records
    if process is not None:
        records.journal.read_process(*process)
    records.journal.read_logs(log_times(run.folder))
    if not records.journal.pixels:
        records.journal.sees(0, pixels_per_iteration(run.read_options(runs)))
    note_progress(run, records)
    return records


def train(run: Run, session: Session) -> None:
    """Train a run until it is done, the time is over, or a run above it can begin.

    Raises:
        UserError: the training ended with an error; says which.
    """
    runs = session.queue.runs
    opt = run.read_options(runs)
    if run.branch_of is not None and saved(run) is None:
        begin_branch(run, runs[run.branch_of], float(opt["train"]["optim_g"]["lr"]))
    records = take_up(run, runs)
    begin = saved(run) or 0
    records.journal.sees(begin, pixels_per_iteration(opt))
    note_progress(run, records)
    command = train_command(run, session)
    say(
        run,
        f"{begin:,} of {run.iterations:,} iterations are done; basicsr {shlex.join(command[3:])}",
    )
    log, before, told = RECORDS / f"{run.name}.log", children_seconds(), False
    process = session.process = start(command, log, session)
    times = process_times(process.pid) or (f"{os.getpid()} {process.pid}", time.time(), 0.0)
    if session.stopped:  # between the look at it and the start
        session.end_process()
    while not wait(process, EVERY):
        now = process_times(process.pid)
        if now is not None:
            times = now
            records.journal.read_process(*times)
        note_progress(run, records)
        other = None if told else session.can_begin_above(run)
        if other is not None:
            say(run, f"stops, as {other.name} can begin")
            session.end_process()
            told = True
    session.process = None
    records.journal.read_process(*times[:2], max(children_seconds() - before, times[2]))
    note_progress(run, records)
    if process.returncode in STOPPED and not told and not session.stopped:
        session.left_out.add(run.name)
        say(run, "was stopped from outside; it goes on in the next session")
    elif process.returncode not in (0, *STOPPED) and not session.stopped:
        raise UserError(f"{run.name}: {last_line(log)} (all of it: {log})")
    say(run, f"{saved(run) or 0:,} of {run.iterations:,} iterations are done and saved")


def last_line(log: Path) -> str:
    """What a command said last."""
    text = log.read_text(encoding="utf-8", errors="replace").strip()
    return text.rpartition("\n")[2]


def watch(run: Run, session: Session, holder: str) -> None:
    """Keep the records of a training that another process has started, until it ends."""
    pid = pid_of(holder)
    say(run, f"is being trained by {holder}; its records are kept, it is not disturbed")
    while holder_of(run.folder) == holder and not session.stopped and session.minutes_left > 0:
        take_up(run, session.queue.runs, None if pid is None else process_times(pid))
        time.sleep(EVERY)
    if not holder_of(run.folder):
        take_up(run, session.queue.runs)


def compare(run: Run, session: Session) -> None:
    """Test a run and the shipped weights alike, and write what comes out.

    Raises:
        UserError: a test ended with an error; says which.
    """
    if run.compare is None:
        return
    iteration = reached(run)
    ours = scores_of(run.weights("latest"), run, run.compare, session)
    shipped = test_shipped(run, run.compare, session)
    if ours is None or shipped is None:
        return
    rows = []
    for (dataset, metric), value in ours.items():
        other = shipped[dataset, metric]
        rows.append([iteration, dataset, metric, value, other, round(value - other, 4)])
        text = f"{dataset} {metric} {value:.4f}, {run.compare.weights} {other:.4f}"
        say(run, f"{text} ({value - other:+.4f})")
    write_table(comparison_file(run), rows)


def comparison_file(run: Run) -> Path:
    """Where the comparison of a run lies."""
    return RECORDS / f"{run.name}_comparison.csv"


def compared_at(run: Run) -> int:
    """The iteration after which a run was compared; 0 if it was not."""
    file = comparison_file(run)
    if not file.exists():
        return 0
    with file.open(encoding="utf-8", newline="") as lines, suppress(ValueError, KeyError):
        return max((int(row["iteration"]) for row in csv.DictReader(lines)), default=0)
    return 0


def write_table(file: Path, rows: Sequence[Sequence[object]]) -> None:
    """Write a comparison."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COMPARED)
    writer.writerows(rows)
    write_file(file, text.getvalue().encode())


def test_shipped(run: Run, comparison: Comparison, session: Session) -> Scores | None:
    """The scores of the shipped weights, which are tested once."""
    weights = weights_file(comparison.weights)
    asked = [comparison.option_file, *comparison.datasets, *force_entries(comparison.options)]
    key = zlib.crc32("\n".join(asked).encode() + weights.read_bytes())
    file = RECORDS / f"shipped_{comparison.weights}_{key:08x}.csv"
    if file.exists():
        with file.open(encoding="utf-8", newline="") as lines:
            rows = csv.DictReader(lines)
            return {(row["dataset"], row["metric"]): float(row["shipped"]) for row in rows}
    scores = scores_of(weights, run, comparison, session)
    if scores is not None:
        write_table(file, [["", *key, "", value, ""] for key, value in scores.items()])
    return scores


def scores_of(weights: Path, run: Run, comparison: Comparison, session: Session) -> Scores | None:
    """The scores of weights by ``basicsr test``; None if the queue has to end meanwhile."""
    changes = {
        "name": f"{run.name}_queue_{weights.stem}",
        "val:save_img": False,
        "path:pretrain_network_g": str(weights),
        "path:param_key_g": "params_ema",
        **comparison.options,
    }
    names = ["--datasets", *comparison.datasets]
    forced = ["--force_yml", *force_entries(changes)]
    log = RECORDS / f"{run.name}_test.log"
    log.unlink(missing_ok=True)
    command = command_of("test", "-opt", comparison.option_file, *names, *forced)
    process = session.process = start(command, log, session)
    while not (ended := wait(process, EVERY)) and not session.stopped and session.minutes_left > 0:
        pass
    if not ended:
        process.kill()
        process.wait()
    session.process = None
    if not ended or session.stopped:
        return None
    if process.returncode:
        raise UserError(f"{run.name}: {last_line(log)} (all of it: {log})")
    scores: Scores = {}
    for line in log.read_text(encoding="utf-8", errors="replace").splitlines():
        name, *parts = line.split("  ")
        if name in comparison.datasets and all(re.fullmatch(r"\w+ -?[\d.]+", x) for x in parts):
            scores |= {(name, metric): float(value) for metric, value in map(str.split, parts)}
    return scores


def work_on(run: Run, session: Session) -> None:
    """Do the next thing of a run.

    Raises:
        UserError: it cannot be done.
    """
    now = status(run, session.queue.runs)
    if now.state == TRAINING:
        watch(run, session, now.detail)
    elif now.state == READY and is_trained(run):
        compare(run, session)
    elif now.state == READY:
        train(run, session)


def work(session: Session) -> int:
    """Work on one run after the other.

    Returns:
        The exit status: 0, 1 if a run failed, or that of a signal.
    """
    with session.signals():
        for known in session.queue.runs.values():
            if not holder_of(RECORDS / known.name) and not holder_of(known.folder):
                take_up(known, session.queue.runs)
        while not session.stopped:
            run = session.next_run()
            if run is None:
                say(None, "Nothing else can be trained now.")
                break
            if session.minutes_left < LEAST and session.deadline is not None:
                say(run, "is next; the time is over")
                break
            try:
                with only_run(RECORDS / run.name):
                    work_on(run, session)
            except UserError as error:
                held = str(error).startswith(f"{RECORDS / run.name}: is being")
                if not held:
                    session.failed.add(run.name)
                session.left_out.add(run.name)
                say(run, "another queue works on it") if held else print(error, file=sys.stderr)
    if session.stopped:
        return 128 + session.stopped
    return 1 if session.failed else 0


def list_runs(queue: QueueList) -> None:
    """Print a line for each run: how far it is, and which one is next."""
    following = True
    for run in queue.runs.values():
        now = status(run, queue.runs)
        text = now.detail if now.state != WAITING else f"waits for {now.detail}"
        if now.state == READY and following:
            text, following = f"next, {text}", False
        done = f"{now.iteration:>7,} of {run.iterations:>7,}"
        parts = [f"{run.name:<24}", f"{now.state:<8}", done]
        rows = list(open_records(run, queue.runs).rows.values())
        if rows:
            last = rows[-1]
            parts += [
                f"{last['pixels'] / 1e6:>7,.1f} MP",
                f"{last['cpu_hours']:>6.2f} h",
                metrics_of(last),
            ]
        print("  ".join([*parts, text]).rstrip())


def select(queue: QueueList, only: str | None, branch: str | None) -> frozenset[str] | None:
    """The runs that the arguments allow; None for all.

    Args:
        queue: a branch at a new iteration is taken up into it.
        only: the name of a run, or of a branch with ``{at}``: at any iteration.
        branch: the name of a branch with ``{at}``: at the newest state of its trunk.

    Raises:
        UserError: there is no such run, or a trunk has no state.
    """
    names: set[str] = set()
    if branch is not None:
        if branch not in queue.branches:
            known = ", ".join(queue.branches) or "none"
            raise UserError(f"--branch {branch}: no such branch in {queue.file}, but {known}")
        trunk = queue.runs[queue.branches[branch]["branch_of"]]
        at = saved(trunk)
        if not at:
            raise UserError(f"--branch {branch}: {trunk.name} has no state yet; train it first")
        names.add(queue.branch(branch, at).name)
    if only is not None:
        pattern = re.escape(only).replace(re.escape(AT), r"\d+")
        found = {name for name in queue.runs if re.fullmatch(pattern, name)}
        if not found:
            raise UserError(f"--only {only}: no such run in {queue.file}: {', '.join(queue.runs)}")
        names |= found
    return frozenset(names) if names else None


def take_up_branches(queue: QueueList) -> None:
    """Take up branches that were begun by ``--branch``, so that they are ended."""
    for name in queue.branches:
        pattern = re.escape(name).replace(re.escape(AT), r"(\d+)")
        for file in sorted(RECORDS.glob("*.json")):
            match = re.fullmatch(pattern, file.stem)
            if match and int(match[1]) > 0:
                queue.branch(name, int(match[1]))


def main(argv: Sequence[str] | None = None) -> int:
    """Read the list, then work or tell."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(__file__).with_name("queue.yml")
    parser.add_argument("--queue", type=Path, default=default, metavar="FILE", help="the list")
    parser.add_argument("--list", action="store_true", help="tell how far the runs are, and end")
    parser.add_argument("--only", metavar="NAME", help="work on this run alone")
    parser.add_argument(
        "--branch", metavar="NAME", help="begin this branch at the newest state of its trunk"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1, help="of a training")
    parser.add_argument("--nice", type=int, default=10, help="niceness of a training (default: 10)")
    parser.add_argument("--minutes", type=float, help="end before so many minutes are over")
    args = parser.parse_args(argv)
    if args.threads < 1 or (args.minutes is not None and args.minutes <= 0):
        parser.error("--threads and --minutes must be above 0")
    try:
        queue = QueueList(args.queue)
        take_up_branches(queue)
        only = select(queue, args.only, args.branch)
        if args.list:
            list_runs(queue)
            return 0
        deadline = None if args.minutes is None else time.monotonic() + 60 * args.minutes
        return work(Session(queue, args.threads, args.nice, deadline, only))
    except UserError as error:
        print(error, file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
