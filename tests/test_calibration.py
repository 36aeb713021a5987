"""Published numbers come out: rows of inputs (calibration.csv), metrics against scikit-image."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.metrics import calculate_psnr, calculate_ssim
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from compacter_arch.archs import Bicubic
from compacter_arch.cli import main
from compacter_arch.prepare import make_benchmark, make_pairs
from compacter_arch.tables import protocols
from compacter_arch.tables.measure import measure

from .conftest import reset_basicsr_logger

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "test"

ROWS: dict[tuple[str, str, str], list[dict[str, str]]] = defaultdict(list)
with (Path(__file__).parent / "calibration.csv").open(encoding="utf-8") as file:
    for line in csv.DictReader(file):
        ROWS[line["task"], line["level"], line["set"]].append(line)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def make_test_set(task: str, name: str) -> None:
    """The layout of the option files from the images at hand."""
    source = DATA / name
    if not source.is_dir():
        pytest.skip(f"no images of {name} at {source}")
    if task == "low_light":
        make_pairs(source / "low", source / "high", Path("datasets", name))
    else:
        hr = source / "HR" if (source / "HR").is_dir() else source
        make_benchmark(hr, name, scales=(2, 3, 4) if task == "sr" else ())


@pytest.mark.parametrize("row", ROWS, ids="-".join)
def test_input_rows(row: tuple[str, str, str]):
    """Bicubic interpolation, or the degraded image as it is, measured as every model is."""
    task, level, name = row
    make_test_set(task, name)
    of_task = {"sr": {"scales": [int(level or 0)]}, "low_light": {}}
    choice = of_task.get(task, {"levels": [int(level or 0)]})
    (protocol,) = protocols(task, sets=[name], **choice)
    if task == "low_light":  # datasets/LOL/eval15 in the option file
        for key, half in (("dataroot_gt", "gt"), ("dataroot_lq", "lq")):
            protocol.datasets[name][key] = f"datasets/{name}/{half}"
    scores = measure(Bicubic(protocol.scale), protocol, name)
    for line in ROWS[row]:
        published, tolerance = float(line["published"]), float(line["tolerance"])
        assert scores[line["metric"]] == pytest.approx(published, abs=tolerance), line


def test_bicubic_through_the_command(capsys: pytest.CaptureFixture[str]):
    """The same by the option file that tests x4, with its network replaced."""
    make_test_set("sr", "Set5")
    sets = "datasets={test: {name: Set5, type: PairedImageDataset, io_backend: {type: disk}, "
    sets += "dataroot_gt: datasets/Set5/GTmod4, dataroot_lq: datasets/Set5/LRbicx4}}"
    forced = [sets, "network_g={type: Bicubic, upscale: 4}", "path:pretrain_network_g=none"]
    reset_basicsr_logger()
    try:
        assert main(["test", "-opt", "test_Compacter_SRx4.yml", "--force_yml", *forced]) == 0
    finally:
        reset_basicsr_logger()
    _, _, psnr, _, ssim = capsys.readouterr().out.split()[-5:]
    assert float(psnr) == pytest.approx(28.42, abs=0.02)
    assert float(ssim) == pytest.approx(0.8104, abs=0.001)


@pytest.mark.parametrize("channels", [1, 3])
def test_metrics_are_those_of_scikit_image(channels: int):
    """SSIM with the Gaussian window of the original, without the borders it cannot fill."""
    rng = np.random.default_rng(channels)
    shape = (48, 57, 3)[: 2 if channels == 1 else 3]
    gt = cv2.resize(rng.integers(0, 256, (6, 6, channels)).astype(np.uint8), shape[1::-1])
    img = (gt + rng.normal(0, 12, shape)).clip(0, 255).astype(np.uint8)
    theirs = peak_signal_noise_ratio(gt, img, data_range=255)
    assert calculate_psnr(img, gt, 0) == pytest.approx(theirs, abs=1e-9)
    _, full = structural_similarity(
        img,
        gt,
        data_range=255,
        channel_axis=None if channels == 1 else 2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        full=True,
    )
    assert calculate_ssim(img, gt, 0) == pytest.approx(full[5:-5, 5:-5].mean(), abs=1e-6)
