"""The kernels compiled for this machine and kept for the next time."""

from __future__ import annotations

import ctypes
import hashlib
import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from ...atomic import copy_file
from ..stock import UnavailableError

SOURCES = Path(__file__).parent
HEADER = "vectors.h"
COMPILERS = ("c++", "g++", "clang++")  # those that know GCC's vector types
FLAGS = (
    "-std=c++17",
    "-O3",
    "-march=native",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fPIC",
    "-shared",
    "-pthread",
)


def find_compiler() -> str:
    """The compiler that the environment variable ``CXX`` names, or the first one on the path.

    Raises:
        UnavailableError: there is none.
    """
    names = (os.environ["CXX"],) if os.environ.get("CXX") else COMPILERS
    for name in names:
        if path := shutil.which(name):
            return path
    raise UnavailableError(f"no C++ compiler found ({', '.join(names)}); install g++ or clang++")


@cache
def predefined_macros(compiler: str) -> str:
    """What the compiler defines by itself here: its version, and the instructions of this CPU."""
    return _call([compiler, *FLAGS[:3], "-dM", "-E", "-x", "c++", os.devnull])


def has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices and the compiler knows it.

    Raises:
        UnavailableError: no compiler.
    """
    return "__AVX512BF16__" in predefined_macros(find_compiler())


def load_library(source: str, constants: Mapping[str, int], *extra: str) -> ctypes.CDLL:
    """The functions of a source file for one network.

    They are compiled once for each compiler, CPU and set of constants and kept in
    ``$XDG_CACHE_HOME/compacter_arch`` (``~/.cache/compacter_arch``), or for this process alone
    where that cannot be written.

    Args:
        source: ``block.cpp`` or ``training.cpp``.
        constants: ``DIM``, ``HEADS``, ...; see there.
        extra: flags of the compiler.

    Raises:
        UnavailableError: no compiler, or it fails.
    """
    compiler = find_compiler()
    flags = [*FLAGS, *extra, *(f"-D{name}={value}" for name, value in constants.items())]
    texts = [(SOURCES / file).read_text(encoding="utf-8") for file in (source, HEADER)]
    known = [*texts, compiler, *flags, predefined_macros(compiler)]
    name = hashlib.sha256("\0".join(known).encode()).hexdigest()[:24] + ".so"
    cache_home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    file = Path(cache_home, "compacter_arch", name)
    if is_private(file):
        try:
            return ctypes.CDLL(str(file))
        except OSError:  # damaged
            pass
    with tempfile.TemporaryDirectory() as folder:
        built = Path(folder, name)
        _call([compiler, *flags, str(SOURCES / source), "-o", str(built)])
        try:
            copy_file(built, file)  # at once: others may be loading it
            file.chmod(0o755)  # whatever the umask
        except OSError:  # a home that cannot be written: loaded from where it is, which may vanish
            file = built
        return ctypes.CDLL(str(file))


def is_private(file: Path) -> bool:
    """Whether a file is there, and nobody else can have put it there or changed it."""
    if not file.exists():
        return False
    if os.name == "nt":
        return True
    status = file.stat()
    return status.st_uid in (0, os.getuid()) and not status.st_mode & 0o022


def _call(command: list[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    except OSError as error:
        raise UnavailableError(f"{command[0]}: {error.strerror}") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        first = next((line for line in lines if "error" in line), lines[0])
        raise UnavailableError(f"{command[0]} failed: {first}")
    return done.stdout
