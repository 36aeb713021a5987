"""How large a tile the free memory allows."""

from __future__ import annotations

import math
import os
import re
from contextlib import suppress
from pathlib import Path

import torch

from .tiling import SMALLEST

# Bytes per pixel of the network's input. Measured on a CPU: by the compiled kernels 800 at scale 1
# and x2, 1000 at x4; by the plain network 900 to 1060 at x2.
BYTES = 1200
SAFETY = 2
UNKNOWN = 2**30  # bytes that are taken to be free where nothing tells
# Pixels of a side at scale 1; at x2 three quarters, at x4 half of it, as the results are larger.
# On a CPU so much takes 1 GB, with PyTorch and a photograph of 3000 x 2000 pixels less than 2. On a
# GPU some kernels count no further than 2^31 values, 192 of which a pixel has.
LARGEST = {"cpu": 1024, "cuda": 2048}
STEP = 64  # pixels
MEMINFO = Path("/proc/meminfo")
GROUP = Path("/sys/fs/cgroup")  # of a container


def choose_tile(height: int, width: int, scale: int = 1, device: torch.device | str = "cpu") -> int:
    """The side of a tile for an image of this size: 0, the whole image, if it is small enough.

    So the result depends on the machine only where memory is short.
    """
    device = torch.device(device)
    largest = LARGEST.get(device.type, LARGEST["cpu"]) * 3 // (scale + 2)
    pixels = min(free_memory(device) // (BYTES * SAFETY), largest**2)
    if height * width <= pixels:
        return 0
    return max(math.isqrt(pixels) // STEP * STEP, SMALLEST)


def free_memory(device: torch.device) -> int:
    """Bytes that can be had on a device."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return torch.cuda.mem_get_info(device)[0] + cached
    return min(machine_memory(), group_memory())


def machine_memory() -> int:
    """Bytes that can be had from the machine; where it does not tell, a guess."""
    with suppress(OSError):
        if match := re.search(r"MemAvailable:\s*(\d+) kB", MEMINFO.read_text()):
            return int(match[1]) * 1024
    with suppress(OSError, ValueError, AttributeError):  # elsewhere than on Linux
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return UNKNOWN


def group_memory() -> int:
    """Bytes that are left to the container, if this is one with a limit."""
    try:
        limit = int((GROUP / "memory.max").read_text())  # "max" without one
        used = int((GROUP / "memory.current").read_text())
        stat = (GROUP / "memory.stat").read_text()
    except (OSError, ValueError):
        return 2**62
    match = re.search(r"^inactive_file (\d+)", stat, re.MULTILINE)  # is given up when needed
    return max(limit - used + (int(match[1]) if match else 0), 0)
