"""Several processes, on one machine and on two: equal to one, and none waits for a dead one."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import Project

RUN = {
    "train.total_iter": 12,
    "train.ema_decay": 0.5,
    "datasets.train.dataset_enlarge_ratio": 5,  # 20 samples: 5 iterations per epoch
    "val.val_freq": 6,
    "logger.save_checkpoint_freq": 4,
}
TORCHRUN = ("-m", "torch.distributed.run")
ALONE = ("--standalone",)
MINUTE = 60.0


def torchrun(
    project: Project, file: str, processes: int, *more: str, at: tuple[str, ...] = ALONE
) -> subprocess.Popen[str]:
    """A training by torchrun that goes on if it can."""
    command = ("-m", "compacter_arch", "train", "-opt", file, "--launcher", "pytorch")
    return project.start(
        *at, f"--nproc_per_node={processes}", *more, *command, "--auto_resume", python=TORCHRUN
    )


def finish(process: subprocess.Popen[str], seconds: float = 300) -> tuple[int, str]:
    """Status and messages."""
    _, err = process.communicate(timeout=seconds)
    return process.returncode, err


def rows(name: str) -> list[list[float]]:
    """The numbers of the CSV file of a run."""
    lines = Path(f"experiments/{name}/train_{name}.csv").read_text().splitlines()[1:]
    return [[float(text or 0) for text in line.split(",")] for line in lines]


def assert_near(project: Project, one: str, two: str) -> None:
    """The same weights and logs but for the order in which numbers were added up."""
    for key in ("params", "params_ema"):
        first, second = (project.weights(name=name, key=key) for name in (one, two))
        for weight in first:
            torch.testing.assert_close(second[weight], first[weight], rtol=1e-3, atol=1e-4)
    assert [len(row) for row in rows(one)] == [len(row) for row in rows(two)]
    for ours, theirs in zip(rows(one), rows(two), strict=True):
        assert theirs == pytest.approx(ours, rel=1e-3)


def alone(project: Project) -> None:
    """The run that all others are compared with."""
    file = project.write({**RUN, "name": "one", "datasets.train.batch_size_per_gpu": 4}, "one.yml")
    assert project.run("train", "-opt", file).status == 0


@pytest.mark.parametrize("processes", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_equal_one_at_the_same_global_batch(project: Project, processes: int):
    alone(project)
    several = {**RUN, "name": "several", "datasets.train.batch_size_per_gpu": 4 // processes}
    status, err = finish(torchrun(project, project.write(several), processes))
    assert status == 0, err
    assert_near(project, "one", "several")


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_processes_that_are_trained_by_kernels_equal_one_that_is_not(project: Project):
    common = {
        **RUN,
        "model_type": "RestorationModel",
        "network_g.dim": 16,
        "network_g.num_heads": 1,
    }
    file = project.write(
        {**common, "name": "one", "datasets.train.batch_size_per_gpu": 4}, "one.yml"
    )
    assert project.run("train", "-opt", file).status == 0
    several = {**common, "name": "several", "datasets.train.batch_size_per_gpu": 2}
    file = project.write({**several, "train.compile": True})
    status, err = finish(torchrun(project, file, 2))
    assert status == 0 and "trained by compiled kernels" in err, err
    assert_near(project, "one", "several")


def workers_of(process: subprocess.Popen[str]) -> dict[int, int]:
    """The processes of a torchrun by their local rank."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            environ = (folder / "environ").read_bytes().split(b"\0")
        except (OSError, IndexError):  # it has ended meanwhile
            continue
        if parent == process.pid:
            ranks = [int(line[11:]) for line in environ if line.startswith(b"LOCAL_RANK=")]
            found.update(dict.fromkeys(ranks, int(folder.name)))
    return found


def wait_for_state(name: str, process: subprocess.Popen[str]) -> None:
    """Until a run has saved something."""
    deadline = time.monotonic() + 2 * MINUTE
    while not list(Path("experiments", name).glob("training_states/*.state")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)


LONG = {  # slow enough to be killed, short enough to be waited for
    **RUN,
    "train.total_iter": 300,
    "val.val_freq": 100,
    "logger.save_checkpoint_freq": 20,
    "datasets.train.batch_size_per_gpu": 2,
}
needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize("rank", [0, 1])
def test_dead_process_ends_the_job_which_resumes(project: Project, rank: int):
    file = project.write({**LONG, "name": "several"})
    process = torchrun(project, file, 2)
    wait_for_state("several", process)
    os.kill(workers_of(process)[rank], signal.SIGKILL)
    begun = time.monotonic()
    status, err = finish(process, MINUTE)
    print(f"the job ended {time.monotonic() - begun:.1f} s after its process {rank} was killed")
    assert status != 0 and "Signal 9 (SIGKILL)" in err
    ours = [line for line in err.splitlines() if "basicsr train: error: " in line]
    assert all("another process of this run" in line for line in ours)
    assert "gloo/transport" not in err.partition("torch/distributed/elastic")[0] or ours

    status, err = finish(torchrun(project, file, 2))
    assert status == 0 and "Resuming after iteration " in err
    whole = project.write({**LONG, "name": "whole"}, "whole.yml")
    assert finish(torchrun(project, whole, 2))[0] == 0
    assert_near(project, "whole", "several")


@pytest.mark.slow
@needs_proc
def test_torchrun_restarts_it(project: Project):
    """``--max_restarts`` with ``--auto_resume``: nobody has to look after it."""
    file = project.write({**LONG, "name": "several"})
    process = torchrun(project, file, 2, "--max_restarts=1")
    wait_for_state("several", process)
    os.kill(workers_of(process)[1], signal.SIGKILL)
    status, err = finish(process)
    assert status == 0, err
    assert "Resuming after iteration " in err
    assert int(rows("several")[-1][0]) == 300


def ip(*arguments: str) -> None:
    """Set up a network."""
    subprocess.run(["ip", *arguments], check=True, capture_output=True)


@pytest.fixture
def nodes() -> Iterator[list[tuple[str, str]]]:
    """Two network namespaces, joined by a cable: name and address of each."""
    if shutil.which("ip") is None or os.geteuid() != 0:
        pytest.skip("network namespaces need root and iproute2")
    names = [f"node{number}-{os.getpid()}" for number in (0, 1)]
    try:
        for name in names:
            ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"no network namespaces here: {error.stderr.decode().strip()}")
    try:
        cable = [f"v{number}-{os.getpid()}" for number in (0, 1)]
        ip("link", "add", cable[0], "type", "veth", "peer", "name", cable[1])
        for number, name in enumerate(names):
            ip("link", "set", cable[number], "netns", name, "name", "veth")
            ip("-n", name, "addr", "add", f"10.99.0.{number + 1}/24", "dev", "veth")
            ip("-n", name, "link", "set", "veth", "up")
            ip("-n", name, "link", "set", "lo", "up")
        yield [(name, f"10.99.0.{number + 1}") for number, name in enumerate(names)]
    finally:
        for name in names:
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@pytest.mark.slow
def test_two_nodes_train_and_resume_after_one_is_killed(
    project: Project, nodes: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "veth")
    start: Any = subprocess.Popen

    def both(file: str) -> list[subprocess.Popen[str]]:
        processes = []
        for number, (name, address) in enumerate(nodes):

            def inside(command: list[str], name: str = name, **options: Any) -> Any:
                return start(["ip", "netns", "exec", name, *command], **options)

            at = ("--nnodes=2", "--rdzv_backend=c10d", "--rdzv_endpoint=10.99.0.1:29400")
            at += (f"--rdzv_id={file}", f"--rdzv_conf=is_host={1 - number}")
            at += (f"--local_addr={address}",)
            with monkeypatch.context() as patch:
                patch.setattr(subprocess, "Popen", inside)
                processes.append(torchrun(project, file, 1, at=at))
        return processes

    file = project.write({**LONG, "name": "several"})
    first, _ = both(file)
    wait_for_state("several", first)
    for pid in subprocess.check_output(["ip", "netns", "pids", nodes[1][0]]).split():
        os.kill(int(pid), signal.SIGKILL)  # all of the node at once
    begun = time.monotonic()
    status, err = finish(first, MINUTE)
    print(f"the other node ended after {time.monotonic() - begun:.1f} s")
    assert status != 0 and "another process of this run" in err

    for process in both(file):
        status, err = finish(process)
        assert status == 0, err
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    whole = project.write({**LONG, "name": "whole"}, "whole.yml")
    assert finish(torchrun(project, whole, 2))[0] == 0
    assert_near(project, "whole", "several")
