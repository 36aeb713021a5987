"""Every shipped weight, measured again on small images: what changes its results is noticed."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from compacter_arch.errors import UserError
from compacter_arch.inference import load_model
from compacter_arch.prepare import imresize
from compacter_arch.prepare.degradations import add_rain, darken
from compacter_arch.prepare.demo import VAL, _bundled
from compacter_arch.zoo import SCHEME, TASKS, package_weights, weights_file

from .conftest import Project

SIZE = 96  # pixels; of the input, for super-resolution that over the scale
GOLDEN = Path(__file__).with_name("zoo.csv")
ROWS = {row["task"]: row for row in csv.DictReader(GOLDEN.open(encoding="utf-8"))}


def original() -> np.ndarray:
    """A part of a photograph, (SIZE, SIZE, 3) in [0, 1], BGR."""
    file, _ = VAL[0]
    return _bundled(file)[32 : 32 + SIZE, 176 : 176 + SIZE].astype(np.float64) / 255


def degrade(task: str, image: np.ndarray) -> np.ndarray:
    """What the task restores, (h, w, channels) in [0, 1]."""
    random = np.random.RandomState(0)
    if task.startswith("sr"):
        return imresize(image, 1 / int(task[-1]))
    if task.endswith("dn"):
        return image + random.normal(0, 25 / 255, image.shape)
    eight_bit = np.uint8(np.round(image * 255))
    if task == "jpeg":
        _, code = cv2.imencode(".jpg", eight_bit, [cv2.IMWRITE_JPEG_QUALITY, 10])
        return cv2.imdecode(code, cv2.IMREAD_UNCHANGED).reshape(image.shape) / 255
    return {"derain": add_rain, "low_light": darken}[task](eight_bit, random) / 255


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((a - b) ** 2)))


def measure(task: str) -> tuple[float, float]:
    """PSNR of the input (enlarged by bicubic interpolation) and of the output, in dB."""
    network = load_model(task)
    gt = original()
    if network.conv_first.in_channels == 1:
        gt = gt.mean(2, keepdims=True)
    lq = degrade(task, gt)
    channels = [2, 1, 0][-gt.shape[2] :] if gt.shape[2] == 3 else [0]
    x = torch.from_numpy(np.ascontiguousarray(lq[..., channels].transpose(2, 0, 1))).float()[None]
    with torch.no_grad():
        y = network(x)[0].numpy().transpose(1, 2, 0)[..., channels]
    before = lq if lq.shape == gt.shape else imresize(lq, network.upscale)
    return psnr(before, gt), psnr(y, gt)


@pytest.mark.parametrize("task", TASKS)
def test_a_shipped_weight_restores_as_it_did(task: str):
    before, after = measure(task)
    row = ROWS[task]
    assert before == pytest.approx(float(row["input"]), abs=2e-3)
    assert after == pytest.approx(float(row["restored"]), abs=2e-3)
    assert after > before


def test_the_files_are_small_and_hold_nothing_else():
    files = sorted(package_weights().glob("*.pth"))
    assert files == sorted(map(weights_file, TASKS))
    for file in files:
        assert file.stat().st_size < 2e6
        assert list(torch.load(file, weights_only=True)) == ["params"]


def test_both_formats_hold_the_same_weights():
    pytest.importorskip("safetensors")
    for file in map(weights_file, TASKS):
        state = load_model(file).state_dict()
        other = load_model(file.with_suffix(".safetensors")).state_dict()
        assert state.keys() == other.keys()
        assert all(torch.equal(state[key], other[key]) for key in state)


def test_damaged_safetensors(tmp_path: Path):
    pytest.importorskip("safetensors")
    file = tmp_path / "weights.safetensors"
    file.write_bytes(b"\x08\0\0\0\0\0\0\0nonsense")
    with pytest.raises(UserError, match="weights.safetensors: damaged"):
        load_model(file)


def test_unknown_names():
    with pytest.raises(UserError, match="sr_x5: no such file, and none of the tasks sr_x2, sr_x3"):
        load_model("sr_x5")
    with pytest.raises(UserError, match="no weights for 'sr_x5'; there are sr_x2"):
        weights_file("sr_x5")


def test_option_files_take_weights_by_name(project: Project):
    network = {"dim": 48, "num_blocks": 14, "window_size": 8, "input_skip": True}
    changes = {f"network_g.{key}": value for key, value in network.items()}
    changes["path.pretrain_network_g"] = SCHEME + "sr_x2"
    result = project.run("check", "-opt", project.write_test(changes))
    assert result.status == 0, result.err
    assert "Compacter_SRx2.pth fits" in result.out
    changes["path.pretrain_network_g"] = SCHEME + "sr_x9"
    result = project.run("check", "-opt", project.write_test(changes))
    assert result.status == 2
    assert "path.pretrain_network_g: zoo://sr_x9: no weights for 'sr_x9'; there" in result.err


if __name__ == "__main__":  # after new weights: python -m tests.test_zoo
    with GOLDEN.open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, lineterminator="\n")
        writer.writerow(["task", "input", "restored"])
        writer.writerows([t, *(f"{value:.4f}" for value in measure(t))] for t in TASKS)
