"""The benchmarks on tiny inputs: how they measure and what they write."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from basicsr.models import build_model
from torch import Tensor, nn

from benchmarks import inference, kernels, roofline, scaling, training, training_parts
from benchmarks.peers import REFERENCE
from benchmarks.report import markdown, publish
from benchmarks.roofline import count_bytes, over_copy_time, over_matrix_time
from benchmarks.timing import WARM_UP, interleave, ratio
from compacter_arch.errors import UserError
from compacter_arch.training.checks.quiet import quiet_logger

from ..conftest import REPOSITORY

CPU = torch.device("cpu")
SHORT = ["--rounds", "1"]


class Returns(nn.Module):
    """Gives the same for every image."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.value)


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(x, x, x)


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither processes of their own for the memory nor large matrices."""
    monkeypatch.setattr(roofline, "SIDE", 64)
    monkeypatch.setattr(roofline, "COPIED", 2**16)
    for module in (inference, scaling):
        monkeypatch.setattr(module, "measure_peak_memory", lambda *_, **__: 3 * 2**20)


def cells(text: str) -> list[list[str]]:
    """The rows of all Markdown tables, without the lines below their headings."""
    lines = [line[2:-2].split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [line for line in lines if line[0] != ":-"]


def test_every_round_times_every_step_in_turn():
    calls: list[str] = []
    steps = {name: lambda name=name: calls.append(name) for name in "ab"}
    times = interleave(steps, 3, CPU)
    assert "".join(calls) == "a" * WARM_UP + "b" * WARM_UP + "ababab"
    assert [len(seconds) for seconds in times.values()] == [3, 3]


def test_ratio_compares_within_a_round():
    """A machine that slows down tenfold in the last rounds does not change it."""
    assert ratio([1, 10, 10], [2, 20, 20]) == 0.5
    assert ratio([1, 1, 9], [1, 1, 1]) == 1


def test_report_takes_the_place_of_the_same_command_s(tmp_path: Path):
    file = tmp_path / "README.md"
    file.write_text("# Title\n")
    publish("x", ["--side", "1"], "first", file)
    publish("x", [], "other", file)
    file.write_text(file.read_text() + "\nlast\n")
    publish("x", ["--side", "1"], r"second \1", file)
    text = file.read_text()
    assert text.startswith("# Title\n\n<!-- python -m benchmarks.x --side 1 -->\n```bash\n")
    assert "first" not in text
    assert text.index("second \\1") < text.index("other") < text.index("last")
    assert text.count("<!-- end -->") == 2


def test_table():
    text = markdown(("a", "b"), [("1", "2")])
    assert text == "| a | b |\n| :- | -: |\n| 1 | 2 |"


def test_bytes_of_a_convolution_and_what_is_fused_with_it():
    with torch.device("meta"):
        network = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU())
    values = 3 * 4 * 6 + 5 * 4 * 6 + 5 * 3 * 9 + 5  # input, output, weights, biases
    assert count_bytes(network, (4, 6)) == 4 * values


def test_bounds(cheap: None):
    """A product takes its own time; what multiplies half as much in twice the time, four times."""
    assert over_matrix_time([1, 3], 64**3, [1, 3]) == 1
    assert over_matrix_time([2, 6], 64**3 // 2, [1, 3]) == 4
    assert over_copy_time([1, 3], 2 * 2**16, [1, 3]) == 1  # each byte is read and written
    assert over_copy_time([2, 6], 2**16, [1, 3]) == 4


def test_rates(cheap: None, capsys: pytest.CaptureFixture[str]):
    assert roofline.main(SHORT) == 0
    rows = cells(capsys.readouterr().out)[1:]
    names = ["matrix product, torch.float32", "matrix product, torch.bfloat16", "copy"]
    assert [row[0] for row in rows] == names
    assert roofline.matrix_rate([1, 2, 4]) == 64**3 / 2
    assert roofline.copy_rate([1, 2, 4]) == 2**16


def test_inference(cheap: None, capsys: pytest.CaptureFixture[str]):
    arguments = ["--size", "8", "12", "--modes", "bf16", "--only", "Compacter"]
    assert inference.main([*SHORT, *arguments]) == 0
    head, *rows = cells(capsys.readouterr().out)
    found = {(row[0], row[1]): dict(zip(head, row, strict=True)) for row in rows}
    assert found.keys() == {(n, m) for n in (REFERENCE, "Compacter") for m in ("eager", "bf16")}
    reference = found[REFERENCE, "eager"]
    assert reference["time / SwinIR-light"] == "1.000"
    assert reference["parameters (K)"] == "910"
    assert reference["peak memory (MiB)"] == "3"
    assert found["Compacter", "bf16"]["peak memory (MiB)"] == ""


def test_inference_goes_on_without_a_network_that_fails():
    networks = {"works": nn.Identity(), "fails": nn.Linear(5, 5)}
    calls, failures = inference.runnable(networks, torch.rand(1, 3, 4, 4), ["eager"])
    assert list(calls) == [("works", "eager")]
    assert len(failures) == 1
    assert failures[0].startswith("- fails, eager: RuntimeError")


def test_float16_needs_a_gpu():
    with pytest.raises(UserError, match="fp16 needs a GPU"):
        inference.main(["--modes", "fp16", "--only", "Compacter"])


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_training_parts(cheap: None, capsys: pytest.CaptureFixture[str]):
    """The parts are all of the step, and nothing is left of the clock."""
    assert training_parts.main([*SHORT, "--batch", "1", "--patch", "8"]) == 0
    head, *rows = cells(capsys.readouterr().out)
    assert head == list(training_parts.HEAD)
    times = {name: float(time.replace(",", "")) for name, time, *_ in rows}
    step = times.pop("a step")
    passes = [times.pop(f"`{name}`") for name in training_parts.PASSES]
    assert sum(passes) == pytest.approx(times["the four"], abs=0.3)
    assert sum(times.values()) == pytest.approx(step, abs=0.3)


def test_training(capsys: pytest.CaptureFixture[str]):
    row = "Compacter, channels_last"
    assert training.main([*SHORT, "--batch", "2", "--patch", "8", "--only", row]) == 0
    _, *rows = cells(capsys.readouterr().out)
    assert [r[0] for r in rows] == [training.REFERENCE, training.STOCK, row]
    assert rows[0][3] == rows[1][4] == "1.000"


def test_training_step_trains():
    data = {"lq": torch.rand(1, 3, 8, 8), "gt": torch.rand(1, 3, 16, 16)}
    for keys in (None, {"amp": "bf16"}):
        with quiet_logger():
            model = build_model(training.options("Compacter", keys, CPU, 1))
        before = model.net_g.conv_first.weight.clone()
        training.take_step(model, data)
        assert not torch.equal(model.net_g.conv_first.weight, before)
        assert type(model).__name__ == ("SRModel" if keys is None else "RestorationModel")


def test_scaling(cheap: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    pytest.importorskip("matplotlib")
    png = tmp_path / "scaling.png"
    axes = ["--sides", "8", "16", "--batches", "1", "2", "--windows", "4", "--depths", "2"]
    assert scaling.main([*SHORT, *axes, "--side", "8", "--plot", str(png)]) == 0
    rows = cells(capsys.readouterr().out)
    assert [row[0] for row in rows] == [
        *("image", "8 x 8", "16 x 16"),
        *("batch", "1", "2"),
        *("window", "4 x 4"),
        *("blocks", "2"),
    ]
    adds = {row[0]: float(row[1]) for row in rows if row[0] != "image" and row[1][0].isdigit()}
    assert adds["2"] < adds["8 x 8"] < adds["16 x 16"]
    assert png.read_bytes().startswith(b"\x89PNG")


def test_batch_repeats_the_image():
    x = torch.rand(1, 3, 4, 4)
    assert torch.equal(scaling.Batch(nn.Identity(), 3)(x), x.expand(3, -1, -1, -1))


def test_profiler_names_the_fused_attention():
    found = kernels.attention_kernels(Attention(), torch.rand(1, 2, 8, 16), None, torch.float32)
    assert len(found) == 1
    assert found[0].startswith("scaled_dot_product_")
    assert not kernels.attention_kernels(Returns(0), torch.rand(1, 3, 4, 4), None, torch.float32)


@pytest.mark.parametrize(("value", "status"), [(0.5, 0), (float("nan"), 1), (float("inf"), 1)])
def test_an_output_that_is_not_finite_fails(
    value: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(kernels, "load_model", lambda _: Returns(value))
    assert kernels.main(["--size", "4", "4"]) == status
    assert {row[2] for row in cells(capsys.readouterr().out)[1:]} == {"NO" if status else "yes"}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("status", [0, 3])
def test_gpu_script_runs_everything_even_after_a_failure(device: str, status: int, tmp_path: Path):
    """With a Python that only writes down what it was told."""
    calls, python = tmp_path / "calls", tmp_path / "python"
    python.write_text(f'#!/bin/sh\necho "$@" >> {calls}\nexit {status}\n')
    python.chmod(python.stat().st_mode | stat.S_IXUSR)
    environment = {"DEVICE": device, "OUT": str(tmp_path / "out"), "PYTHON": str(python)}
    done = subprocess.run(
        [REPOSITORY / "benchmarks/gpu.sh"],
        env={"PATH": "/usr/bin:/bin", **environment},
        capture_output=True,
        cwd=tmp_path,
    )
    assert done.returncode == min(status, 1)
    commands = [line.split() for line in calls.read_text().splitlines()]
    modules = [command[1].removeprefix("benchmarks.") for command in commands]
    assert {"roofline", "kernels", "inference", "training", "scaling"} == set(modules)
    assert all((REPOSITORY / f"benchmarks/{module}.py").is_file() for module in modules)
    assert all(command[command.index("--device") + 1] == device for command in commands)
