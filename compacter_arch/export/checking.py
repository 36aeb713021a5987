"""A written file beside the network that it was made of: the same pixels, and as fast?"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..archs import CompacterArch
from ..errors import UserError
from ..inference import load_model
from .onnx_file import MISSING

Size = tuple[int, int, int]  # batch, height, width
Runner = Callable[[np.ndarray], np.ndarray]

# A file of PyTorch's takes images larger than a window alone.
SIZES = ((1, 1, 1), (2, 7, 5), (1, 17, 23), (2, 64, 64), (1, 96, 130))
LARGER = ((1, 9, 33), (2, 11, 35), (1, 17, 49), (2, 64, 64), (1, 96, 130))
PROMISED = {"fp32": 1e-4, "fp16": 1e-2, "int8": 1e-1}  # largest difference, of values in [0, 1]
TIMED = 1, 180, 320
ROUNDS = 3


def open_file(path: Path, form: str, threads: int) -> Runner:
    """What a written file computes: (B, C, H, W) -> (B, C, H * scale, W * scale), float32.

    Raises:
        UserError: ONNX Runtime is missing.
    """
    if form == "onnx":
        try:
            import onnxruntime
        except ImportError as error:
            raise UserError(MISSING) from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        return lambda x: np.asarray(session.run(["output"], {"input": x})[0])
    if form == "torch":
        return of_module(torch.export.load(path).module())
    return of_module(load_model(path))


def of_module(module: Callable[[Tensor], Tensor]) -> Runner:
    """A module that takes and gives arrays."""

    def run(x: np.ndarray) -> np.ndarray:
        with torch.no_grad():
            return module(torch.from_numpy(x)).numpy()

    return run


def differences(written: Runner, network: CompacterArch, form: str) -> Iterator[tuple[Size, float]]:
    """The largest difference of the results of file and network, on a photograph in five sizes."""
    original = of_module(network)
    for size in LARGER if form == "torch" else SIZES:
        x = photograph(network.conv_first.in_channels, size)
        yield size, float(np.abs(written(x) - original(x)).max())


def durations(written: Runner, network: CompacterArch) -> tuple[float, float]:
    """Seconds for 180 x 320 pixels, of the file and of PyTorch: the best of some, in turn."""
    runners = written, of_module(network)
    x = photograph(network.conv_first.in_channels, TIMED)
    best = [float("inf")] * len(runners)
    for _ in range(ROUNDS):
        for i, run in enumerate(runners):
            started = time.perf_counter()
            run(x)
            best[i] = min(best[i], time.perf_counter() - started)
    return best[0], best[1]


def photograph(channels: int, size: Size) -> np.ndarray:
    """Pieces of a photograph that scikit-image brings along: (batch, channels, H, W) in [0, 1]."""
    from skimage.data import astronaut

    pixels = astronaut().astype(np.float32).transpose(2, 0, 1)[:channels] / 255
    batch, height, width = size
    tops = (100 + 90 * i for i in range(batch))
    return np.stack([pixels[:, top : top + height, 120 : 120 + width] for top in tops])
