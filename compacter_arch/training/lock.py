"""One live training for each name."""

from __future__ import annotations

import errno
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

_HELD = (errno.EACCES, errno.EAGAIN)
_logger = logging.getLogger(__name__)


def lock_file(folder: Path) -> Path:
    """Where the lock of a run lies: beside its folder, which a fresh run renames."""
    return folder.with_name(f".{folder.name}.lock")


@contextmanager
def only_run(folder: Path, rank: int = 0) -> Iterator[None]:
    """Hold the name of a run while it lives.

    A second run of a name would rename the folder of the first, which then goes on writing into
    the folder of the second. The lock belongs to the process and ends with it, also when it is
    killed; processes that it has started neither have it nor prolong it. It is a record lock of
    POSIX: between machines it holds as far as their network file system passes these on. Where
    there are none (Windows, some network file systems) the run goes on without; where the file
    system is to blame, a warning tells.

    Args:
        folder: of the run, ``experiments/<name>``; need not exist, its parents are made.
        rank: of this process; the first one alone takes the lock.

    Raises:
        UserError: another process holds it; says which.
        OSError: the lock file cannot be written.
    """
    if rank > 0 or fcntl is None:
        yield
        return
    path = lock_file(folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = _take(path, folder)
    try:
        yield
    finally:
        if _is_at(path, lock):  # only a killed run leaves its file, which tells nothing
            path.unlink()
        os.close(lock)


def _take(path: Path, folder: Path) -> int:
    """The open and, where the file system can, locked file."""
    while True:
        lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in _HELD:
                holder = os.read(lock, 500).decode(errors="replace") or "another process"
                os.close(lock)
                raise UserError(
                    f"{folder}: is being trained by {holder}; wait for it or end it, or give this "
                    "run another name: --force_yml name=..."
                ) from error
            _logger.warning(
                "%s cannot be locked (%s): nothing keeps a second run of this name away.",
                path,
                error.strerror,
            )
            return lock
        if _is_at(path, lock):
            os.ftruncate(lock, 0)
            os.write(lock, f"process {os.getpid()} on {socket.gethostname()}".encode())
            return lock
        os.close(lock)  # of a run that has just ended, and taken away since


def _is_at(path: Path, lock: int) -> bool:
    """Whether the file at ``path`` is the one that is open."""
    try:
        return os.path.samestat(path.stat(), os.fstat(lock))
    except FileNotFoundError:
        return False
