"""Memory that is freed stays with the process, to be used by the next layer."""

from __future__ import annotations

import ctypes
import sys

M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4  # glibc's malloc.h


def keep_freed_memory() -> bool:
    """Let glibc keep large blocks that are freed.

    By itself it maps every block of more than 32 MB afresh and unmaps it when it is freed. The
    activations of an image are such blocks: the kernel would clear all their pages again for each
    layer, which took a quarter of the time of a forward pass on a CPU (200 x 300 pixels, scale 1:
    2.6 s and 1.0 s of the kernel's, against 2.5 s and none).

    Returns:
        Whether there is a glibc to tell.
    """
    if not sys.platform.startswith("linux"):
        return False
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return mallopt is not None and bool(mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, -1))
