"""What lets BasicSR's source archive build on Python 3.13."""

from __future__ import annotations

import os
import subprocess
import sys

from .tools import ROOT

# How BasicSR's setup.py reads its version.
SETUP = """
def get_version():
    exec(compile("__version__ = '1.4.2'", "version.py", "exec"))
    return locals()["__version__"]
print(get_version())
"""


def run(python_path: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": python_path}
    command = [sys.executable, "-c", SETUP]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)


def test_version_is_found() -> None:
    repaired = run(str(ROOT / "compacter_arch" / "compat" / "python313"))
    assert repaired.returncode == 0 and repaired.stdout == "1.4.2\n", repaired.stderr
    released = run("")
    if sys.version_info >= (3, 13):
        assert "KeyError: '__version__'" in released.stderr
    else:
        assert released.stdout == "1.4.2\n"
