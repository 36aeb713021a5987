"""Compacter as ONNX, as chaiNNer and other programs on ONNX Runtime take it.

One input, ``input``, one output, ``output``: float32, (batch, channels, height, width), all but the
channels of any size, RGB or gray, values in [0, 1].

Operator set 17 and IR version 8: ONNX Runtime of 1.13 and later reads them, chaiNNer's (1.15 in
its older releases) among them; 17 is the first with a layer norm, and the highest that chaiNNer
itself exports to. PyTorch's tracing exporter writes just that, in all its versions from 2.1 to
2.15. Its successor (``dynamo=True``) writes operator set 18 and IR version 10, which ONNX Runtime
1.15 refuses, and needs onnxscript.
"""

from __future__ import annotations

import inspect
import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch

from ..archs import CompacterArch
from ..errors import UserError
from ..execution.exported import ExportedCompacter

OPSET = 17
EXAMPLE = 33, 47  # pixels of the image that is traced
SIZES = {
    "input": {0: "batch", 2: "height", 3: "width"},
    "output": {0: "batch", 2: "rows", 3: "columns"},
}
MISSING = 'ONNX needs pip install "compacter-arch[export]"'


def onnx_bytes(network: CompacterArch, dtype: torch.dtype, metadata: Mapping[str, str]) -> bytes:
    """The network as an ONNX file.

    Args:
        network: in float32 on the CPU.
        dtype: of weights and computation, ``float32`` or ``float16``.
        metadata: kept in the file as its properties.

    Raises:
        UserError: the extra ``export`` is missing.
    """
    try:
        import onnx
    except ImportError as error:
        raise UserError(MISSING) from error
    example = torch.rand(2, network.conv_first.in_channels, *EXAMPLE)
    file: Any = io.BytesIO()
    # Versions that know a successor of the tracing exporter take that where nothing is said.
    choice = inspect.signature(torch.onnx.export).parameters
    tracing: dict[str, Any] = {"dynamo": False} if "dynamo" in choice else {}
    with warnings.catch_warnings():
        # Of every size that becomes a number; those that do are the network's own.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            ExportedCompacter(network, dtype),
            (example,),
            file,
            opset_version=OPSET,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes=SIZES,
            **tracing,
        )
    model = onnx.load_model_from_string(file.getvalue())
    onnx.helper.set_model_props(model, dict(metadata))
    onnx.checker.check_model(model, full_check=True)
    return bytes(model.SerializeToString())
