"""What happens to checkpoints and disks: found by checksums, told in one line, survived."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.train import load_resume_state

from ..conftest import REMOVE, Project, reset_basicsr_logger
from ..training.test_exact_resume import ALL, assert_same

DAMAGES = int(os.environ.get("DAMAGES", "200"))


def damage(data: bytes, generator: random.Random) -> bytes:
    """Flip bits, cut, overwrite a part, insert, or leave nothing."""
    where, content = generator.randrange(len(data)), bytearray(data)
    kind = generator.choice(["bit", "bits", "cut", "zeros", "insert", "nothing"])
    if kind == "bit":
        content[where] ^= 1 << generator.randrange(8)
    elif kind == "bits":
        for _ in range(8):
            content[generator.randrange(len(content))] ^= 1 << generator.randrange(8)
    elif kind == "cut":
        del content[where:]
    elif kind == "zeros":
        content[where : where + 512] = bytes(len(content[where : where + 512]))
    elif kind == "insert":
        content[where:where] = generator.randbytes(16)
    else:
        content.clear()
    return bytes(content)


def test_damaged_files_never_pass_for_whole_ones(project: Project):
    """Each is refused, or the damage is where it means nothing (between the records)."""
    file = project.write({**ALL, "train.total_iter": 8, "logger.use_tb_logger": False})
    assert project.run("train", "-opt", file).status == 0
    run = project.root / "experiments/tiny"
    paths = {"models": str(run / "models"), "training_states": str(run / "training_states")}
    opt = {"auto_resume": True, "network_g": {"type": "CompacterArch"}, "rank": 0}
    states = {n: torch.load(run / f"training_states/{n}.state", weights_only=True) for n in (4, 8)}
    weights = torch.load(run / "models/net_g_8.pth", weights_only=True)
    generator, counts = random.Random(0), {4: 0, 8: 0}
    for name in ("training_states/8.state", "models/net_g_8.pth"):
        whole = (run / name).read_bytes()
        for _ in range(DAMAGES // 2):
            (run / name).write_bytes(damage(whole, generator))
            resumed: dict[str, Any] = load_resume_state({**opt, "path": dict(paths)})
            counts[resumed["iter"]] += 1
            assert_same(states[resumed["iter"]], resumed)
            if resumed["iter"] == 8:
                assert_same(weights, torch.load(run / "models/net_g_8.pth", weights_only=True))
        (run / name).write_bytes(whole)
    print(f"{DAMAGES} damages: {counts[4]} found, {counts[8]} without any effect")
    assert counts[4] > 0.8 * DAMAGES


@pytest.fixture
def small_disk(project: Project) -> Iterator[Path]:
    """``experiments`` on a disk of its own, of 800 KiB."""
    if os.name != "posix" or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a disk needs root")
    disk = project.root / "experiments"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=800k", "tmpfs", str(disk)]
    made = subprocess.run(mount, check=False, capture_output=True, text=True)
    if made.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {made.stderr.strip()}")
    yield disk
    reset_basicsr_logger()  # its file is there
    subprocess.run(["umount", str(disk)], check=True)


def test_full_disk_ends_the_run_which_goes_on_when_there_is_room(
    project: Project, small_disk: Path
):
    """Nothing half-written; the last whole state is the one that is taken up."""
    file = project.write({**ALL, "logger.save_checkpoint_freq": 1, "logger.use_tb_logger": False})
    result = project.run("train", "-opt", file)
    assert result.status == 2
    last = result.err.splitlines()[-1]
    assert last.startswith("basicsr train: error: ") and "No space left on device" in last
    assert "experiments/tiny/" in last and "Traceback" not in result.err
    assert not list(small_disk.rglob("*.tmp"))
    states = sorted(int(path.stem) for path in small_disk.rglob("*.state"))
    for state in states:
        torch.load(small_disk / f"tiny/training_states/{state}.state", weights_only=True)
        torch.load(small_disk / f"tiny/models/net_g_{state}.pth", weights_only=True)
    for state in states[:-1]:  # make room
        (small_disk / f"tiny/training_states/{state}.state").unlink()
        (small_disk / f"tiny/models/net_g_{state}.pth").unlink()
    more = ["--auto_resume", "--force_yml", "logger:keep_checkpoints=1"]
    result = project.run("train", "-opt", file, *more)
    assert result.status == 0 and f"Resuming after iteration {states[-1]}." in result.err
    subprocess.run(["cp", "-r", str(small_disk / "tiny"), str(project.root / "parts")], check=True)
    whole = project.write({**ALL, "name": "whole", "logger.use_tb_logger": False}, "whole.yml")
    shutil.rmtree(small_disk / "tiny")
    assert project.run("train", "-opt", whole).status == 0
    for key in ("params", "params_ema"):
        one = project.weights(name="whole", key=key)
        two = torch.load(project.root / "parts/models/net_g_latest.pth", weights_only=True)[key]
        assert_same(one, two)


def test_disk_that_turns_read_only_ends_the_run_which_goes_on_later(
    project: Project, small_disk: Path
):
    """As a disk with errors does; what is there stays as it is."""
    changes = {"train.total_iter": 8, "logger.save_checkpoint_freq": 4, "val": REMOVE}
    file = project.write({**ALL, **changes, "logger.use_tb_logger": False})
    assert project.run("train", "-opt", file, "--force_yml", "train:total_iter=4").status == 0
    reset_basicsr_logger()  # else its open file keeps the disk as it is
    before = {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()}
    remount = ["mount", "-o", "remount,{}", str(small_disk)]
    subprocess.run([word.format("ro") for word in remount], check=True)
    result = project.run("train", "-opt", file, "--auto_resume")
    reset_basicsr_logger()
    subprocess.run([word.format("rw") for word in remount], check=True)
    assert result.status == 2 and "Traceback" not in result.err
    assert "Read-only file system" in result.err.splitlines()[-1]
    assert {p: p.read_bytes() for p in small_disk.rglob("*") if p.is_file()} == before
    result = project.run("train", "-opt", file, "--auto_resume")
    assert result.status == 0 and "Resuming after iteration 4." in result.err
