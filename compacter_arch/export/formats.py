"""A network written for other programs: ONNX, safetensors, PyTorch's own export.

What a lower precision costs in ONNX, x2, with earlier weights (dB of PSNR on Y; int8 calibrated on
8 LR images that are in neither set), and its time over fp32's on one thread of an AMD EPYC:

| precision | Set5 | Set14 | time |
|-|-|-|-|
| fp32 | 37.5123 | 33.0278 | 1 |
| fp16 | 37.5121 | 33.0278 | 1.21 |
| int8 | 37.4876 | 33.0142 | 0.94 |

On a CPU fp16 is computed in float32 and saves nothing but a third of the file; on two threads int8
takes as long as fp32.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..archs import CompacterArch
from ..errors import UserError
from ..execution.exported import ExportedCompacter, has_half
from .onnx_file import onnx_bytes
from .quantization import quantize

SUFFIXES = {".onnx": "onnx", ".safetensors": "safetensors", ".pt2": "torch"}
PRECISIONS = {
    "onnx": ("fp32", "fp16", "int8"),
    "safetensors": ("fp32", "fp16"),
    "torch": ("fp32", "fp16"),
}
DTYPES = {"fp32": torch.float32, "fp16": torch.float16}
METADATA = "metadata.json"  # inside a file of PyTorch's


def choose_format(path: Path, name: str | None, precision: str) -> str:
    """The format that is asked for: by its name, or else by the suffix of the file.

    Raises:
        UserError: neither tells; there is no such precision in it.
    """
    chosen = name or SUFFIXES.get(path.suffix.lower())
    if chosen is None:
        raise UserError(f"-o {path}: give --format, or a name that ends with {', '.join(SUFFIXES)}")
    if precision not in PRECISIONS[chosen]:
        raise UserError(f"--precision {precision}: {chosen} has {', '.join(PRECISIONS[chosen])}")
    return chosen


def encode(
    network: CompacterArch,
    form: str,
    precision: str = "fp32",
    *,
    task: str | None = None,
    images: Iterable[np.ndarray] = (),
) -> bytes:
    """The network as a file of some format.

    Args:
        network: in float32 on the CPU.
        form: ``onnx``, ``safetensors`` or ``torch``.
        precision: ``fp32``; ``fp16``, of weights and computation; ``int8`` (ONNX alone). The images
            at both ends are in float32 always.
        task: of the zoo, if it is; told in ONNX and PyTorch's files. Safetensors are as the zoo's.
        images: to calibrate ``int8`` with, see :func:`~.quantization.quantize`.

    Raises:
        UserError: a package is missing, or this version of PyTorch too old.
    """
    metadata = describe(network, task)
    if form == "safetensors":
        return safetensors_bytes(network, DTYPES[precision])
    if precision == "fp16" and not has_half():
        raise UserError(f"--precision fp16 needs PyTorch 2.3; this is {torch.__version__}")
    if form == "torch":
        return torch_bytes(network, DTYPES[precision], metadata)
    if precision == "int8":
        return quantize(onnx_bytes(network, torch.float32, metadata), images)
    return onnx_bytes(network, DTYPES[precision], metadata)


def describe(network: CompacterArch, task: str | None) -> dict[str, str]:
    """What a file tells of itself."""
    from .. import __version__

    purpose = "super-resolution" if network.upscale > 1 else "restoration"
    return {
        "architecture": "Compacter",
        "task": task or purpose,
        "scale": str(network.upscale),
        "channels": str(network.conv_first.in_channels),
        "version": __version__,
    }


def safetensors_bytes(network: CompacterArch, dtype: torch.dtype) -> bytes:
    """The weights alone; ``load_model`` and spandrel read them.

    Raises:
        UserError: the extra is missing.
    """
    try:
        from safetensors.torch import save
    except ImportError as error:
        raise UserError('safetensors need pip install "compacter-arch[export]"') from error
    state = {
        name: (value.to(dtype) if value.is_floating_point() else value).contiguous()
        for name, value in network.state_dict().items()
    }
    return bytes(save(state))


def torch_bytes(network: CompacterArch, dtype: torch.dtype, metadata: Mapping[str, str]) -> bytes:
    """The network as ``torch.export.save`` writes it: images larger than a window, any batch.

    Raises:
        UserError: this version of PyTorch is too old.
    """
    dynamic = any_size()
    if dynamic is None:
        raise UserError(f"--format torch needs PyTorch 2.6; this is {torch.__version__}")
    window = network.window
    example = torch.rand(2, network.conv_first.in_channels, *(4 * n + 1 for n in window))
    program = torch.export.export(
        ExportedCompacter(network, dtype),
        (example,),
        dynamic_shapes=({0: dynamic, 2: dynamic, 3: dynamic},),
    )
    file: Any = io.BytesIO()
    torch.export.save(program, file, extra_files={METADATA: json.dumps(dict(metadata))})
    return bytes(file.getvalue())


def any_size() -> Any:
    """What tells PyTorch's export that a size may be any; None in versions that cannot be told."""
    return getattr(getattr(torch.export, "Dim", None), "DYNAMIC", None)
