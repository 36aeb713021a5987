"""What the tests of the kernels have in common."""

from __future__ import annotations

import os

import pytest
import torch

from compacter_arch import CompacterArch
from compacter_arch.execution.kernels import compiler

FLAGS = {  # by the widest vectors of x86 that the compiler may use
    "native": (),
    "AVX2": ("-mno-avx512f",),
    "SSE": ("-mno-avx",),
}
SIZES = ((1, 3, 16, 16), (2, 3, 24, 40), (1, 3, 63, 130), (3, 3, 33, 8), (1, 3, 5, 7), (1, 3, 1, 1))
NETWORKS = {
    "default": {"num_blocks": 4},
    "one block": {"num_blocks": 1},
    "no shift": {"num_blocks": 2, "shift": False},
    "no bias": {"num_blocks": 2, "position_bias": False},
    "8 x 32": {"num_blocks": 2, "window_size": (8, 32)},
    "4 x 12": {"num_blocks": 2, "window_size": (4, 12)},
    "wide": {"num_blocks": 2, "dim": 64, "num_heads": 2, "expansion_ratio": 1.5},
    "gray, x1": {"num_blocks": 2, "upscale": 1, "in_chans": 1},
    "x3, skip": {"num_blocks": 2, "upscale": 3, "input_skip": True},
}

needs_compiler = pytest.mark.skipif(
    not any(map(compiler.shutil.which, compiler.COMPILERS)), reason="no C++ compiler"
)


def other_vectors(test):
    """Run a test with each of :data:`FLAGS`."""
    test = pytest.mark.parametrize("flags", FLAGS.values(), ids=FLAGS)(test)
    return pytest.mark.skipif(os.uname().machine != "x86_64", reason="these flags are x86's")(test)


def lively(**options: object) -> CompacterArch:
    """A network whose every parameter matters: an untrained one's biases are zero."""
    torch.manual_seed(0)
    network = CompacterArch(**options)  # type: ignore[arg-type]
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            scale = 0.5 if "table" in name else 0.1
            parameter.add_(torch.randn_like(parameter) * scale)
    return network.eval()
