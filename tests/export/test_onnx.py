"""ONNX files: any size, the conventions of chaiNNer, three precisions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from compacter_arch import CompacterArch
from compacter_arch.archs.compacter_arch import deduce_options
from compacter_arch.errors import UserError
from compacter_arch.export.checking import PROMISED, photograph
from compacter_arch.export.formats import encode
from compacter_arch.export.quantization import calibration_images
from compacter_arch.inference import load_model

from ..execution.test_exported import SIZES, network

onnx = pytest.importorskip("onnx", reason="pip install compacter-arch[export]")
onnxruntime = pytest.importorskip("onnxruntime", reason="pip install compacter-arch[export]")


def session(data: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def trained() -> CompacterArch:
    """The first blocks of a network of the zoo, as random weights say little of precision."""
    state = load_model("sr_x2").state_dict()
    last = tuple(f"blocks.{i}." for i in range(2, 14))
    state = {name: value for name, value in state.items() if not name.startswith(last)}
    model = CompacterArch(**deduce_options(state))
    model.load_state_dict(state)
    return model.eval()


@pytest.mark.parametrize("options", [{"upscale": 1, "in_chans": 1}, {"upscale": 3}, {}], ids=str)
def test_results_are_those_of_the_network(options):
    model = network(input_skip=True, **options)
    runtime = session(encode(model, "onnx"))
    for batch, height, width in SIZES:
        x = torch.rand(batch, model.conv_first.in_channels, height, width)
        (y,) = runtime.run(None, {"input": x.numpy()})
        expected = model(x).numpy()
        assert y.shape == expected.shape
        assert np.abs(y - expected).max() < 1e-5 * np.abs(expected).max(), (batch, height, width)


@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_conventions_of_chainner(precision: str):
    model = onnx.load_model_from_string(encode(network(in_chans=1), "onnx", precision))
    (x,), (y,) = model.graph.input, model.graph.output
    assert (x.name, y.name) == ("input", "output")
    assert {x.type.tensor_type.elem_type, y.type.tensor_type.elem_type} == {onnx.TensorProto.FLOAT}
    sizes = x.type.tensor_type.shape.dim
    assert sizes[1].dim_value == 1 and all(sizes[i].dim_param for i in (0, 2, 3))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert model.ir_version <= 8  # ONNX Runtime 1.13
    properties = {entry.key: entry.value for entry in model.metadata_props}
    assert properties["scale"] == "2" and properties["channels"] == "1"
    assert properties["task"] == "super-resolution" and properties["version"]


def test_half_precision_halves_the_weights_and_keeps_its_promise():
    model = trained()
    full, half = (encode(model, "onnx", precision) for precision in ("fp32", "fp16"))
    assert len(full) - len(half) > 150_000
    x = photograph(3, (1, 17, 23))
    (y,) = session(half).run(None, {"input": x})
    with torch.no_grad():
        difference = np.abs(y - model(torch.from_numpy(x)).numpy()).max()
    assert 0 < difference < PROMISED["fp16"]


def test_int8_is_calibrated_and_keeps_its_promise():
    model = trained()
    data = encode(model, "onnx", "int8", images=[photograph(3, (1, 48, 48))])
    proto = onnx.load_model_from_string(data)
    assert "QuantizeLinear" in {node.op_type for node in proto.graph.node}
    assert "scale" in {entry.key for entry in proto.metadata_props} and proto.ir_version <= 8
    assert [(entry.domain, entry.version) for entry in proto.opset_import] == [("", 17)]
    x = photograph(3, (1, 33, 41))
    (y,) = session(data).run(None, {"input": x})
    with torch.no_grad():
        difference = np.abs(y - model(torch.from_numpy(x)).numpy())
    assert 1e-4 < difference.max() < PROMISED["int8"] and difference.mean() < 0.004


def test_calibration_images_have_the_channels_of_the_network(tmp_path):
    pixels = np.arange(150 * 160, dtype=np.uint16).reshape(150, 160)
    Image.fromarray(pixels).save(tmp_path / "gray16.png")
    Image.fromarray(np.full((10, 20, 3), 255, np.uint8)).save(tmp_path / "white.png")
    (tmp_path / "notes.txt").write_text("no image")
    for channels in (1, 3):
        gray, white = calibration_images(tmp_path, network(in_chans=channels))
        assert gray.shape == (1, channels, 128, 128) and gray.dtype == np.float32
        assert gray[0, -1, 0, 0] == pytest.approx(pixels[11, 16] / 65535)
        assert white.shape == (1, channels, 10, 20) and (white == 1).all()


def test_calibration_without_images_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images"):
        calibration_images(tmp_path, network())
