"""The lock of a run: one process at a time, whatever becomes of it."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from compacter_arch.errors import UserError
from compacter_arch.training import lock
from compacter_arch.training.lock import lock_file, only_run

from ..conftest import Project
from .conftest import Spy

pytest.importorskip("fcntl", reason="this system has no locks of POSIX")
pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """The folder of a run, not made yet."""
    return tmp_path / "experiments" / "tiny"


def in_a_process(work: Callable[[], object]) -> int:
    """Start a process; it ends with status 0, or 3 if it is refused, or 1."""
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except UserError:
            status = 3
        finally:
            os._exit(status)
    return pid


def status_of(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def take(run: Path, rank: int = 0) -> None:
    with only_run(run, rank):
        pass


@pytest.fixture
def holder(run: Path, tmp_path: Path) -> Iterator[int]:
    """A process that holds the lock, and has a child that would outlive it."""

    def hold() -> None:
        with only_run(run):
            child = os.fork()
            if child:
                (tmp_path / "child").write_text(str(child))
                (tmp_path / "held").touch()
            time.sleep(60)

    pid = in_a_process(hold)
    for _ in range(1000):
        if (tmp_path / "held").exists():
            break
        time.sleep(0.01)
    yield pid
    for other in (pid, int((tmp_path / "child").read_text())):
        with suppress(ProcessLookupError):
            os.kill(other, signal.SIGKILL)
    with suppress(ChildProcessError):
        os.waitpid(pid, 0)


def test_lock_is_there_during_the_run_alone(run: Path):
    with only_run(run):
        assert os.listdir(run.parent) == [".tiny.lock"]
        assert lock_file(run).read_text() == f"process {os.getpid()} on {socket.gethostname()}"
    assert os.listdir(run.parent) == []
    with pytest.raises(ZeroDivisionError), only_run(run):
        _ = 1 / 0
    assert os.listdir(run.parent) == []


def test_second_run_is_refused(run: Path, holder: int):
    with pytest.raises(UserError) as caught:
        take(run)
    message = str(caught.value)
    assert message.startswith(f"{run}: is being trained by process {holder} on ")
    assert socket.gethostname() in message and "\n" not in message
    assert os.listdir(run.parent) == [".tiny.lock"]
    take(run.with_name("other"))


def test_renamed_folder_does_not_matter(run: Path):
    with only_run(run):
        run.mkdir()
        run.rename(run.with_name("tiny_archived"))
        run.mkdir()
        assert status_of(in_a_process(lambda: take(run))) == 3
    assert status_of(in_a_process(lambda: take(run))) == 0


def test_only_the_first_process_of_a_run_locks(run: Path, holder: int):
    take(run, rank=1)


def test_killed_run_leaves_no_lock(run: Path, holder: int):
    """Though a worker of its loader lives a little longer."""
    os.kill(holder, signal.SIGKILL)
    assert status_of(holder) == -signal.SIGKILL
    assert lock_file(run).exists()
    with only_run(run):
        assert str(os.getpid()) in lock_file(run).read_text()
        assert str(holder) not in lock_file(run).read_text()
    assert not lock_file(run).exists()


def test_never_two_at_a_time(run: Path):
    """The file vanishes after each run, maybe between another's opening and locking it."""
    alone = run.parent / "alone"
    run.parent.mkdir()

    def work() -> None:
        done = 0
        while done < 25:
            with suppress(UserError), only_run(run):
                alone.mkdir()
                time.sleep(0.0002)
                alone.rmdir()
                done += 1
            time.sleep(0.0005)  # else the others would keep the folder to themselves

    assert [status_of(pid) for pid in [in_a_process(work) for _ in range(4)]] == [0] * 4


def test_file_system_without_locks(
    run: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
):
    def no_locks(file: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(lock.fcntl, "lockf", no_locks)
    with caplog.at_level(logging.WARNING):
        take(run)
    assert ".tiny.lock cannot be locked (No locks available)" in caplog.text
    assert os.listdir(run.parent) == []


def test_system_without_locks(run: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lock, "fcntl", None)
    take(run)
    assert not run.parent.exists()


def test_second_training_beside_a_live_one_is_refused(project: Project, spy: Spy):
    """The live one does not notice: it ends with its own folder and all iterations."""
    file, refused = project.write(), []

    def start_a_second() -> None:
        refused.append(project.start("train", "-opt", file))
        refused[0].wait(120)

    spy.at[2] = start_a_second
    assert project.run("train", "-opt", file).status == 0
    [second], (_, err) = refused, refused[0].communicate()
    assert second.returncode == 2
    told = f"experiments/tiny: is being trained by process {os.getpid()} on "
    assert told in err.splitlines()[-1]
    assert [path.name for path in (project.root / "experiments").iterdir()] == ["tiny"]
