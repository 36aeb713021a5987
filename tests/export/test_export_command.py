"""``basicsr export``: formats, checks, one line for what is wrong."""

from __future__ import annotations

import sys

import pytest
import torch

from compacter_arch.cli import main
from compacter_arch.export import checking
from compacter_arch.export.formats import any_size
from compacter_arch.inference import load_model
from compacter_arch.zoo import weights_file

from ..execution.test_exported import network


@pytest.fixture
def weights(tmp_path):
    """A small network in a file."""
    file = tmp_path / "net_g_latest.pth"
    torch.save({"params": network(dim=12, input_skip=True).state_dict()}, file)
    return str(file)


def needs(*packages: str) -> None:
    for package in packages:
        pytest.importorskip(package, reason="pip install compacter-arch[export]")


def test_safetensors_are_the_zoos(tmp_path):
    needs("safetensors")
    file = tmp_path / "new" / "sr_x2.safetensors"
    assert main(["export", "--task", "sr_x2", "-o", str(file)]) == 0
    assert file.read_bytes() == weights_file("sr_x2").with_suffix(".safetensors").read_bytes()
    assert [path.name for path in file.parent.iterdir()] == [file.name]


def test_safetensors_of_half_precision_load(tmp_path, weights):
    needs("safetensors")
    file = tmp_path / "half.safetensors"
    argv = ["export", "--weights", weights, "-o", str(file), "--precision", "fp16"]
    assert main(argv) == 0
    exact, half = load_model(weights).state_dict(), load_model(file).state_dict()
    for name, value in exact.items():
        assert torch.equal(value.half().float(), half[name].float()), name


def test_onnx_is_checked(tmp_path, weights, capsys, monkeypatch):
    needs("onnx", "onnxruntime")
    monkeypatch.setattr(checking, "TIMED", (1, 16, 24))
    argv = ["export", "--weights", weights, "-o", str(tmp_path / "x.onnx"), "--check"]
    assert main(argv) == 0
    out = capsys.readouterr().out.splitlines()
    assert "(onnx, fp32," in out[0]
    assert [line.split(":")[0] for line in out[1:6]] == [
        "1 x 1 x 1",
        "2 x 7 x 5",
        "1 x 17 x 23",
        "2 x 64 x 64",
        "1 x 96 x 130",
    ]
    assert "16 x 24 pixels, 1 threads" in out[6]

    monkeypatch.setitem(checking.PROMISED, "fp32", 0.0)
    assert main(argv) == 1
    assert "not the results of PyTorch" in capsys.readouterr().err


@pytest.mark.skipif(any_size() is None, reason="PyTorch exports any size from 2.6 on")
def test_torch_is_checked(tmp_path, weights, capsys, monkeypatch):
    monkeypatch.setattr(checking, "TIMED", (1, 16, 24))
    file = tmp_path / "x.pt2"
    assert main(["export", "--weights", weights, "-o", str(file), "--check"]) == 0
    assert "1 x 9 x 33: largest difference" in capsys.readouterr().out
    extra = {"metadata.json": ""}
    torch.export.load(file, extra_files=extra)
    assert '"scale": "2"' in extra["metadata.json"]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["-o", "x.pb"], "-o x.pb: give --format, or a name that ends with .onnx"),
        (["-o", "x.pt2", "--precision", "int8"], "--precision int8: torch has fp32, fp16"),
        (["-o", "x.onnx", "--precision", "int8"], "--calibrate FOLDER go together"),
        (["-o", "x.onnx", "--calibrate", "."], "--calibrate FOLDER go together"),
        (["-o", "x.onnx", "--precision", "int8", "--calibrate", "empty"], "empty: no images"),
        (["--weights", "nowhere.pth", "-o", "x.onnx"], "nowhere.pth: no such file"),
    ],
)
def test_wrong_input_is_one_line_and_writes_nothing(tmp_path, capsys, monkeypatch, argv, message):
    monkeypatch.chdir(tmp_path)
    source = [] if "--weights" in argv else ["--task", "sr_x2"]
    assert main(["export", *source, *argv]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("suffix", "package"), [("onnx", "onnx"), ("safetensors", "safetensors")])
def test_a_missing_extra_is_named(tmp_path, capsys, monkeypatch, weights, suffix, package):
    for name in [package, *(name for name in sys.modules if name.startswith(f"{package}."))]:
        monkeypatch.setitem(sys.modules, name, None)
    assert main(["export", "--weights", weights, "-o", str(tmp_path / f"x.{suffix}")]) == 2
    assert 'pip install "compacter-arch[export]"' in capsys.readouterr().err
    assert not (tmp_path / f"x.{suffix}").exists()
