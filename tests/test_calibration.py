"""Published numbers come out through the command line: rows of degraded inputs."""

from __future__ import annotations

from pathlib import Path

import cv2
import pytest
import yaml

from compacter_arch.cli import main
from compacter_arch.prepare import make_lr

from .conftest import reset_basicsr_logger

DATA = Path(__file__).resolve().parents[2] / "shared" / "data" / "test"
DISK = {"type": "disk"}

# PSNR (dB) and SSIM on Y, border = scale; the row that every super-resolution paper prints.
BICUBIC_SET5 = {2: (33.66, 0.9299), 3: (30.39, 0.8682), 4: (28.42, 0.8104)}
# PSNR and SSIM of the JPEG row of Classic5, as in RDN's and RNAN's tables.
JPEG_CLASSIC5 = {10: (27.82, 0.7595), 20: (30.12, 0.8344), 30: (31.48, 0.8666), 40: (32.43, 0.8849)}
PSNRB_CLASSIC5 = 25.21  # of quality 10, as in ARCNN's and FBCNN's
LOL_EVAL15 = 7.77  # PSNR on RGB of the low-light input, in every paper on LOL v1


@pytest.fixture
def measure(tmp_path, monkeypatch, capsys):
    """Measure a data set by ``basicsr test``: metrics by name."""
    monkeypatch.chdir(tmp_path)

    def run(dataset: dict, upscale: int, y: bool, *metrics: str) -> dict[str, float]:
        border = upscale if upscale > 1 else 0
        options = {
            "name": "input",
            "model_type": "RestorationModel",
            "scale": upscale,
            "num_gpu": "auto",
            "datasets": {"test": {"name": "set", "io_backend": DISK, **dataset}},
            "network_g": {"type": "Bicubic", "upscale": upscale},
            "path": {"pretrain_network_g": None},
            "val": {
                "save_img": False,
                "metrics": {
                    name: {
                        "type": f"calculate_{name}",
                        "crop_border": border,
                        "test_y_channel": y,
                    }
                    for name in metrics
                },
            },
        }
        Path("test.yml").write_text(yaml.safe_dump(options))
        reset_basicsr_logger()
        assert main(["test", "-opt", "test.yml"]) == 0
        words = capsys.readouterr().out.split("set  ")[-1].split()
        return dict(zip(words[::2], map(float, words[1::2]), strict=True))

    yield run
    reset_basicsr_logger()


def needs(name: str) -> pytest.MarkDecorator:
    folder = DATA / name
    return pytest.mark.skipif(not folder.is_dir(), reason=f"no images of {name} at {folder}")


@needs("Set5")
@pytest.mark.parametrize("scale", BICUBIC_SET5)
def test_bicubic_on_set5(scale, measure):
    make_lr(DATA / "Set5" / "HR", Path("LR"), scale, gt=Path("GT"))
    pairs = {"type": "PairedImageDataset", "dataroot_gt": "GT", "dataroot_lq": "LR"}
    result = measure(pairs, scale, True, "psnr", "ssim")
    assert result["psnr"] == pytest.approx(BICUBIC_SET5[scale][0], abs=0.02)
    assert result["ssim"] == pytest.approx(BICUBIC_SET5[scale][1], abs=0.001)


@needs("Classic5")
@pytest.mark.parametrize("quality", JPEG_CLASSIC5)
def test_jpeg_on_classic5(quality, measure):
    images = {"type": "JPEGCompressionDataset", "in_chans": 1, "quality": quality}
    images |= {"dataroot_gt": str(DATA / "Classic5")}
    result = measure(images, 1, False, "psnr", "ssim", "psnrb")
    wanted = JPEG_CLASSIC5[quality]
    assert result["psnr"] == pytest.approx(wanted[0], abs=0.006)
    assert result["ssim"] == pytest.approx(wanted[1], abs=0.0001)
    if quality == 10:
        assert result["psnrb"] == pytest.approx(PSNRB_CLASSIC5, abs=0.006)


@needs("LOL_eval15")
def test_input_of_lol(measure):
    for ours, theirs in (("gt", "high"), ("lq", "low")):  # one has PNG, the other WebP files
        Path(ours).mkdir()
        for path in (DATA / "LOL_eval15" / theirs).iterdir():
            cv2.imwrite(f"{ours}/{path.stem}.png", cv2.imread(str(path)))
    pairs = {"type": "PairedImageDataset", "dataroot_gt": "gt", "dataroot_lq": "lq"}
    assert measure(pairs, 1, False, "psnr")["psnr"] == pytest.approx(LOL_EVAL15, abs=0.006)
