"""Blocks that are freed come back without the kernel's help."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compacter_arch.allocator import keep_freed_memory

from .conftest import REPOSITORY

FAULTS = """
import resource, sys, torch
sys.path.insert(0, sys.argv[1])
from compacter_arch.allocator import keep_freed_memory
if sys.argv[2] == "keep" and not keep_freed_memory():
    sys.exit("no glibc")
for _ in range(10):  # torch's first calls leave small blocks between the large ones
    torch.ones(16 * 2**20)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(16 * 2**20)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not keep_freed_memory(), reason="needs glibc")
def test_page_faults_are_gone():
    """Ten times 64 MB: 16,384 pages each (or 32 huge ones), all of them or none."""
    faults = {}
    for how in ("usual", "keep"):
        command = [sys.executable, "-W", "ignore", "-c", FAULTS, str(REPOSITORY), how]
        faults[how] = int(subprocess.run(command, capture_output=True, check=True).stdout)
    assert faults["keep"] < faults["usual"] / 3
