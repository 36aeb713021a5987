"""ONNX files in 8 bits, calibrated on images.

The projections of the blocks and their convolutions are computed in 8 bits, weights by channel;
what the attentions multiply, norms and sums, and the convolutions at both ends, which make the
pixels, stay in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from ..archs import CompacterArch
from ..errors import UserError
from ..inference.images import read_photo
from ..inference.selection import is_image
from .onnx_file import MISSING

OPERATIONS = ["Gemm", "Conv"]
BLOCKS = "blocks."  # in the names of what may be quantized
MOST_IMAGES = 32
SIDE = 128  # pixels, of what is taken from the middle of each


def quantize(model: bytes, images: Iterable[np.ndarray]) -> bytes:
    """An ONNX file in 8 bits.

    Args:
        model: an ONNX file in float32.
        images: what the network gets, (1, channels, H, W) in [0, 1].

    Raises:
        UserError: the extra ``export`` is missing.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError as error:
        raise UserError(MISSING) from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.images, None)
            return None if image is None else {"input": image}

    proto = onnx.load_model_from_string(model)
    with TemporaryDirectory() as folder:
        shaped, file = Path(folder) / "fp32.onnx", Path(folder) / "int8.onnx"
        # Its optimizations would take away the names of the nodes, its symbols know no such sizes.
        quant_pre_process(proto, shaped, skip_optimization=True, skip_symbolic_shape=True)
        quantize_static(
            shaped,
            file,
            Reader(),
            op_types_to_quantize=OPERATIONS,
            nodes_to_exclude=[node.name for node in proto.graph.node if BLOCKS not in node.name],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
        return file.read_bytes()


def calibration_images(folder: Path, network: CompacterArch) -> Iterator[np.ndarray]:
    """The middles of the images of a folder, as a network gets them.

    Args:
        folder: images as those that will be restored (low resolution, noisy, ...); those in folders
            below too.
        network: tells the channels.

    Returns:
        (1, channels, H, W) in [0, 1], at most :data:`MOST_IMAGES`, evenly chosen.

    Raises:
        UserError: no images there, or one of them cannot be read.
    """
    files = sorted(path for path in folder.rglob("*") if path.is_file() and is_image(path))
    if not files:
        raise UserError(f"--calibrate {folder}: no images; name a folder of inputs of the network")
    channels = network.conv_first.in_channels
    step = -(-len(files) // MOST_IMAGES)
    return (middle(file, channels) for file in files[::step])


def middle(file: Path, channels: int) -> np.ndarray:
    """The middle of an image: (1, channels, H, W) in [0, 1], float32."""
    pixels = read_photo(file).pixels
    if pixels.ndim == 3 and channels == 1:
        pixels = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
    top, left = (max(size - SIDE, 0) // 2 for size in pixels.shape[:2])
    pixels = pixels[top : top + SIDE, left : left + SIDE]
    planes = np.broadcast_to(np.atleast_3d(pixels), (*pixels.shape[:2], channels))
    return planes.transpose(2, 0, 1)[None].astype(np.float32) / np.iinfo(pixels.dtype).max
