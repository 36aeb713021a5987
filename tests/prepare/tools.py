"""Images for the tests, what has become of them, and commands that are killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

import compacter_arch
from compacter_arch.prepare.files import write_png


def random_image(seed: int, shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """Noise of the full range, with a flat and a saturated part."""
    img = np.random.default_rng(seed).integers(0, 256, shape)
    img[: shape[0] // 3] = 255 * (img[: shape[0] // 3] > 127)
    return img.astype(dtype)


def smooth_image(seed: int, height: int, width: int) -> np.ndarray:
    """Something of a photograph: its LR image resembles it."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def noise_png(path: Path, height: int, width: int, seed: int = 0) -> None:
    write_png(path, random_image(seed, (height, width, 3)))


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def start(*argv: str, setup: str = "") -> subprocess.Popen[str]:
    """``basicsr ARGV`` in a process of its own, after the Python statement ``setup``."""
    # A parent that runs in the background of a shell leaves its children deaf to Ctrl-C.
    hear = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
    code = f"{hear}; {setup or None}; from compacter_arch.cli import main; sys.exit(main())"
    return run_python(code, *argv)


def run_python(code: str, *argv: str) -> subprocess.Popen[str]:
    """Python in a process of its own, on one thread, that finds this package."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *argv],
        env={
            **os.environ,
            "PYTHONPATH": str(Path(compacter_arch.__file__).parents[1]),
            "PYTHONWARNINGS": "ignore",
            "OMP_NUM_THREADS": "1",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for_work(process: subprocess.Popen[str], folder: Path) -> None:
    """Until ``process`` has changed something in ``folder``, or has ended."""
    before = stamps(folder)
    while process.poll() is None and stamps(folder) == before:
        time.sleep(0.01)


def stamps(folder: Path) -> dict[str, tuple[int, int]]:
    """Size and time of every file; of files that vanish meanwhile, nothing."""

    def all_files(path: str) -> Iterator[tuple[str, tuple[int, int]]]:
        for where, _, names in os.walk(path):
            for name in names:
                try:
                    stat = os.stat(os.path.join(where, name))
                except FileNotFoundError:
                    continue
                yield os.path.join(where, name), (stat.st_size, stat.st_mtime_ns)

    return dict(all_files(str(folder)))


# Writing a file takes this much longer, so that no machine is too fast to be killed at its work.
SLOW = (
    "import time; from compacter_arch.prepare import jobs; write = jobs.write_file; "
    "jobs.write_file = lambda path, data: (time.sleep(0.02), write(path, data))"
)


def kill_and_repeat(
    out: Path, argv: list[str], kills: int, seed: int, *, setup: str = "", within: float = 0.25
) -> int:
    """Kill a command some times, ``within`` seconds after it begins to write, then let it end.

    Returns:
        How often it was killed while some of its files were missing.
    """
    generator = random.Random(seed)
    found = []
    for _ in range(kills):
        process = start(*argv, setup=setup)
        wait_for_work(process, out)
        time.sleep(generator.uniform(0, within))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode in (0, -signal.SIGKILL)
        found.append(tree(out))
    process = start(*argv, setup=setup)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    end = tree(out)
    return sum(files.keys() != end.keys() for files in found)
