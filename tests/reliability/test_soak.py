"""A long training: its memory does not grow."""

from __future__ import annotations

import os
import statistics
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..conftest import Project

MINUTES = float(os.environ.get("SOAK_MINUTES", "0"))
EVERY = 5.0  # seconds between two looks
FLAT = 0.02
OWN = ("Pss_Anon:", "Pss_Shmem:", "SwapPss:")


def family(process: subprocess.Popen[str]) -> Iterator[int]:
    """A process and its descendants."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            number, _, rest = stat.read_text().rpartition(")")
        except OSError:  # it has ended meanwhile
            continue
        children.setdefault(int(rest.split()[1]), []).append(int(number.split(" ", 1)[0]))
    left = [process.pid]
    while left:
        yield (pid := left.pop())
        left += children.get(pid, [])


def memory(pid: int) -> int:
    """Bytes of a process that are its own, with its share of what several have.

    Without the files that it maps: its share of PyTorch depends on who else uses that.
    """
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(OWN))


@pytest.mark.slow
@pytest.mark.skipif(not MINUTES, reason="set SOAK_MINUTES=60")
@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux's /proc")
def test_memory_is_flat(project: Project):
    """With a worker, validation, checkpoints, logs; the first fifth of the time does not count."""
    file = project.write(
        {
            "train.total_iter": 10_000_000,
            "train.ema_decay": 0.9,
            "datasets.train.dataset_enlarge_ratio": 100,  # an epoch, and new workers, every 200
            "datasets.train.num_worker_per_gpu": 1,
            "val.val_freq": 100,
            "val.save_img": True,
            "logger.save_checkpoint_freq": 100,
            "logger.keep_checkpoints": 3,
            "logger.use_tb_logger": True,
        }
    )
    process = project.start("train", "-opt", file, "--time_limit", str(MINUTES))
    with Path("messages.txt").open("w") as messages:
        reader = subprocess.Popen(["cat"], stdin=process.stderr, stdout=messages)
    main, whole = [], []
    while process.poll() is None:
        main.append(memory(process.pid))
        whole.append(sum(memory(pid) for pid in family(process)))
        time.sleep(EVERY)
    reader.wait()
    assert process.returncode == 0, Path("messages.txt").read_text()[-2000:]
    last = Path("experiments/tiny/train_tiny.csv").read_text().splitlines()[-1]
    iterations = int(last.split(",")[0])
    growths = []
    for values in (main, whole):
        values = values[len(values) // 5 : -1]
        half = len(values) // 2
        first, second = statistics.median(values[:half]), statistics.median(values[half:])
        growths.append(second / first - 1)
    print(
        f"{MINUTES:.0f} minutes, {iterations:,} iterations, {iterations // 100:,} validations and "
        f"checkpoints: {statistics.median(main) / 2**20:.0f} MiB; from the first to the second "
        f"half {growths[0]:+.2%}, with its worker {growths[1]:+.2%}"
    )
    assert growths[0] < FLAT and growths[1] < FLAT
