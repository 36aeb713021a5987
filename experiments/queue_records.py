"""What the training queue knows of a run: its progress, its processor time, its curve as CSV.

Each run has two files below ``experiments/queue``, which a fresh start of the run does not rename:

- ``NAME.json``: the stretches in which it was trained, each with the processor time of its process,
  and how many LR pixels an iteration sees.
- ``NAME.csv``: a line for each validation: ``iteration,pixels,cpu_hours`` and the metrics; pixels
  are those of the LR (or degraded) images that were seen.

The processor time of a process is read every few seconds, so a kill of everything loses no more
than these. Where a training ran on unwatched, its log tells how long.
"""

from __future__ import annotations

import csv
import io
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from queue_list import EXPERIMENTS, Run

from compacter_arch.atomic import write_file
from compacter_arch.errors import UserError
from compacter_arch.training.history import KEY, History
from compacter_arch.training.options import Options

RECORDS = EXPERIMENTS / "queue"
COLUMNS = (KEY, "pixels", "cpu_hours")
Row = dict[str, float]


@dataclass
class Stretch:
    """A training process of a run.

    Attributes:
        process: tells the process from all others; empty if none was watched.
        started, seen: when it was started and when its time was read last, seconds since 1970.
        cpu_seconds: processor time of the process when it was read last.
        estimated: how much of ``cpu_seconds`` was not read, but taken from the times of the log.
    """

    process: str
    started: float
    seen: float
    cpu_seconds: float = 0.0
    estimated: float = 0.0


@dataclass
class Journal:
    """Everything about a run that its own files do not tell.

    Attributes:
        stretches: in their order.
        pixels: ``[iteration, LR pixels of each iteration after it]``, in their order.
    """

    stretches: list[Stretch] = field(default_factory=list)
    pixels: list[list[int]] = field(default_factory=list)

    @property
    def cpu_seconds(self) -> float:
        """Of all stretches."""
        return sum(stretch.cpu_seconds for stretch in self.stretches)

    def read_process(self, process: str, started: float, cpu_seconds: float) -> None:
        """Note the processor time of a process that trains the run."""
        found = next((s for s in self.stretches if s.process == process), None)
        if found is None:
            found = Stretch(process, started, started)
            self.stretches.append(found)
        found.cpu_seconds = max(found.cpu_seconds, cpu_seconds)
        found.seen = time.time()

    def read_logs(self, logs: Sequence[tuple[float, float]]) -> None:
        """Add the time in which the run was trained and nobody watched, as one thread.

        Args:
            logs: first and last time in each log of the run, seconds since 1970.
        """
        for first, last in logs:
            known = [s for s in self.stretches if s.started <= first + 1 <= s.seen + 2]
            stretch = known[0] if known else Stretch("", first, first)
            if not known:
                self.stretches.append(stretch)
            unseen = max(last - stretch.seen, 0)
            stretch.cpu_seconds += unseen
            stretch.estimated += unseen
            stretch.seen = max(stretch.seen, last)

    def sees(self, iteration: int, pixels: int) -> None:
        """Note how many LR pixels each iteration after ``iteration`` sees."""
        self.pixels = [entry for entry in self.pixels if entry[0] < iteration]
        if not self.pixels or self.pixels[-1][1] != pixels:
            self.pixels.append([iteration if self.pixels else 0, pixels])

    def pixels_at(self, iteration: int) -> int:
        """LR pixels seen in the first ``iteration`` iterations."""
        ends = [entry[0] for entry in self.pixels[1:]] + [iteration]
        parts = zip(self.pixels, ends, strict=True) if self.pixels else ()
        return sum(max(min(end, iteration) - start, 0) * each for (start, each), end in parts)


@dataclass(frozen=True)
class Before:
    """What a branch takes over from its trunk: LR pixels and processor time until then."""

    pixels: float = 0
    cpu_hours: float = 0.0


class Records:
    """The two files of a run.

    Args:
        run: the run.
        before: of a branch, what its trunk had spent.

    Raises:
        UserError: a file cannot be read.
    """

    def __init__(self, run: Run, before: Before | None = None) -> None:
        self.run, self.before = run, before or Before()
        self.journal_file = RECORDS / f"{run.name}.json"
        self.curve_file = RECORDS / f"{run.name}.csv"
        self.journal = self.read_journal()
        self.rows = {int(row[KEY]): row for row in self.read_rows()}

    def read_journal(self) -> Journal:
        """The stretches that are known."""
        if not self.journal_file.exists():
            return Journal()
        try:
            content = json.loads(self.journal_file.read_text(encoding="utf-8"))
            stretches = [Stretch(**stretch) for stretch in content["stretches"]]
            return Journal(stretches, content["pixels"])
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.journal_file}: cannot be read ({error}); remove it, and the processor time "
                "of the run is taken from its logs"
            ) from error

    def read_rows(self) -> list[Row]:
        """The lines of the curve."""
        if not self.curve_file.exists():
            return []
        with self.curve_file.open(encoding="utf-8", newline="") as file:
            try:
                lines = list(csv.DictReader(file))
                return [{k: float(v) for k, v in line.items() if v} for line in lines]
            except (ValueError, TypeError, AttributeError) as error:
                raise UserError(
                    f"{self.curve_file}: cannot be read ({error}); remove it, and it is made anew"
                ) from error

    @property
    def cpu_hours(self) -> float:
        """Of the run, and of its trunk before it."""
        return self.before.cpu_hours + self.journal.cpu_seconds / 3600

    def pixels_at(self, iteration: int) -> float:
        """LR pixels after an iteration, those of the trunk included."""
        return self.before.pixels + self.journal.pixels_at(iteration)

    def update(self, iteration: int) -> list[Row]:
        """Take up what the training has written by now.

        Lines that the training has dropped, since it was resumed from an earlier state, are dropped
        here, too, and come again.

        Args:
            iteration: that the training has reached.

        Returns:
            The lines that are new.
        """
        found = {int(row[KEY]): row for row in validations(self.run.history_file)}
        rows = {key: row for key, row in self.rows.items() if key in found}
        new = []
        last, hours = 0, self.before.cpu_hours
        for key, metrics in sorted(found.items()):
            if key not in rows:
                # Between two readings of the time, it is spread evenly over the iterations.
                part = (key - last) / max(iteration - last, key - last, 1)
                spent = hours + max(self.cpu_hours - hours, 0) * part
                head = {KEY: key, "pixels": self.pixels_at(key), "cpu_hours": spent}
                rows[key] = {**head, **metrics}
                new.append(rows[key])
            last, hours = key, rows[key]["cpu_hours"]
        self.rows = dict(sorted(rows.items()))
        return new

    def save(self) -> None:
        """Write both files, each whole or not at all."""
        journal = asdict(self.journal)
        write_file(self.journal_file, (json.dumps(journal, indent=1) + "\n").encode())
        columns = list(dict.fromkeys([*COLUMNS, *(k for row in self.rows.values() for k in row)]))
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows({k: as_text(k, v) for k, v in row.items()} for row in self.rows.values())
        if self.rows or self.curve_file.exists():
            write_file(self.curve_file, text.getvalue().encode())


def as_text(column: str, value: float) -> str:
    """A number of the curve: whole ones without a point, hours to the second."""
    if column in COLUMNS[:2]:
        return str(int(value))
    return f"{value:.4f}" if column == "cpu_hours" else repr(value)


def validations(history_file: Path) -> Iterator[Row]:
    """The validations that a training has logged: iteration and metrics."""
    merged: dict[int, Row] = {}
    for row in History(history_file).read():
        texts = {k: v for k, v in row.items() if v and k not in (KEY, "lr")}
        metrics = {k: float(v) for k, v in texts.items() if not k.startswith("l_")}
        if metrics:
            iteration = int(row[KEY])
            merged.setdefault(iteration, {KEY: iteration}).update(metrics)
    yield from merged.values()


def reached(run: Run) -> int:
    """The iteration that a run has reached as far as its files tell; 0 for a run not begun."""
    logged = [int(row[KEY]) for row in History(run.history_file).read()]
    return max([saved(run) or 0, *logged])


def saved(run: Run) -> int | None:
    """The iteration of the newest state that has its weights; None if there is none."""
    states = (run.folder / "training_states").glob("*.state")
    numbers = [int(path.stem) for path in states if path.stem.isdigit()]
    return max((number for number in numbers if run.weights(number).exists()), default=None)


def log_times(folder: Path) -> list[tuple[float, float]]:
    """The first and the last time in each training log of a folder, seconds since 1970."""
    found = []
    for file in sorted(folder.glob("train_*.log")):
        text = file.read_text(encoding="utf-8", errors="replace")
        times = re.findall(r"^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d),\d+ ", text, re.MULTILINE)
        with suppress(ValueError):
            found += [(seconds_of(times[0]), seconds_of(times[-1]))] if times else []
    return found


def seconds_of(text: str) -> float:
    """A time of a log, in seconds since 1970."""
    return time.mktime(time.strptime(text, "%Y-%m-%d %H:%M:%S"))


def pixels_per_iteration(opt: Options) -> int:
    """LR pixels of the batches of an iteration.

    Args:
        opt: as read; on one GPU, or on a CPU.
    """
    data: dict[str, Any] = opt["datasets"]["train"]
    return int(data["batch_size_per_gpu"]) * (int(data["gt_size"]) // int(opt["scale"])) ** 2


def process_times(pid: int) -> tuple[str, float, float] | None:
    """What the system tells of a process.

    Returns:
        What tells it from all others, when it was started (seconds since 1970) and its processor
        time (seconds); None if there is no such process, or the system has no ``/proc``.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        uptime = float(Path("/proc/uptime").read_text(encoding="utf-8").split()[0])
    except OSError:
        return None
    fields = stat.rpartition(")")[2].split()  # the name before it may hold anything
    if fields[0] == "Z":
        return None
    tick = os.sysconf("SC_CLK_TCK")
    user, system, started = int(fields[11]), int(fields[12]), int(fields[19])
    began = time.time() - uptime + started / tick
    return f"{boot} {pid} {started}", began, (user + system) / tick


def metrics_of(row: Mapping[str, float]) -> str:
    """The metrics of a line of the curve, to read: ``set5_psnr 37.5100``."""
    return "  ".join(f"{k} {v:.4f}" for k, v in row.items() if k not in COLUMNS)
