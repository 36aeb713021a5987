"""Published numbers come out: bicubic interpolation on Set5, through the command line."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest
from basicsr.utils.logger import initialized_logger

from compacter_arch.cli import main
from compacter_arch.prepare import make_lr

SET5 = Path(__file__).resolve().parents[2] / "shared" / "data" / "test" / "Set5"

# PSNR (dB) and SSIM on Y, border = scale; the row that every super-resolution paper prints.
PUBLISHED = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}

OPTIONS = """
name: bicubic
model_type: SRModel
scale: {scale}
num_gpu: auto
datasets:
  test:
    name: Set5
    type: PairedImageDataset
    dataroot_gt: GT
    dataroot_lq: LR
    io_backend: {{type: disk}}
network_g: {{type: Bicubic, upscale: {scale}}}
path: {{pretrain_network_g: ~}}
val:
  save_img: false
  metrics:
    psnr: {{type: calculate_psnr, crop_border: {scale}, test_y_channel: true}}
    ssim: {{type: calculate_ssim, crop_border: {scale}, test_y_channel: true}}
"""


@pytest.mark.skipif(not SET5.is_dir(), reason=f"the published Set5 images are not at {SET5}")
@pytest.mark.parametrize("scale", PUBLISHED)
def test_bicubic_on_set5(scale, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    make_lr(SET5 / "HR", Path("LR"), scale, gt=Path("GT"))
    Path("bicubic.yml").write_text(OPTIONS.format(scale=scale))
    initialized_logger.pop("basicsr", None)
    try:
        assert main(["test", "-opt", "bicubic.yml"]) == 0
    finally:
        logging.getLogger("basicsr").handlers.clear()
        initialized_logger.pop("basicsr", None)
    name, _, psnr, _, ssim = capsys.readouterr().out.split()[-5:]
    assert name == "Set5"
    assert float(psnr) == pytest.approx(PUBLISHED[scale][0], abs=0.02)
    assert float(ssim) == pytest.approx(PUBLISHED[scale][1], abs=0.001)
