"""`basicsr figure`: each picture by its command, and one line for whatever is wrong."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from compacter_arch.archs import CompacterArch
from compacter_arch.prepare import make_benchmark

from ..conftest import Project

TINY = {"dim": 12, "num_blocks": 1, "num_heads": 3, "window_size": 4}


@pytest.fixture
def tree(project: Project) -> Project:
    """Set5 of two images, checkpoints, an option file, a log."""
    project.make_pairs("hr", count=2, size=64)
    make_benchmark(Path("hr/GT"), "Set5", scales=[2])
    for name, options in (("x2", {"upscale": 2}), ("x4", {"upscale": 4}), ("dn", {"upscale": 1})):
        torch.manual_seed(0)
        torch.save({"params": CompacterArch(**TINY, **options).state_dict()}, f"{name}.pth")
    project.write({"network_g": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4,
                                 "num_block": 1, "upscale": 2}}, "edsr.yml")  # fmt: skip
    Path("log.csv").write_text("iteration,lr,l_pix,set5_psnr\n1,1e-3,0.2,\n2,1e-4,0.1,30.5\n")
    return project


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["compare", "sr", "Set5/0001", "ours=x2.pth", "edsr=edsr.yml", "--scale", "2"], "ours: "),
        (["compare", "sr", "Set5/0001", "x2.pth", "--scale", "2", "--crop", "3", "4", "20", "30",
          "--width", "3.3", "--rows", "2"], "crop: 3 4 20 30"),
        (["compare", "color_dn", "hr/GT/0000.png", "dn.pth", "--level", "25"], "Noisy: psnr"),
        (["scatter", "sr", "mine=x2.pth", "--scale", "2", "--set", "Set5"], "1 measured"),
        (["scatter", "sr", "mine=x2.pth", "edsr.yml", "--scale", "2", "--set", "Set5",
          "--against", "multi_adds"], "2 measured"),
        (["scatter", "sr", "--scale", "4", "--set", "Urban100"], "0 measured"),
        (["curves", "log.csv"], ""),
        (["attribution", "hr/LR/0000.png", "x2.pth", "edsr=edsr.yml", "--patch", "10", "12", "8",
          "--steps", "2"], "edsr: DI "),
    ],
    ids=" ".join,
)  # fmt: skip
def test_pictures(tree: Project, arguments: list[str], printed: str):
    before = tree.snapshot()
    result = tree.run("figure", *arguments, "-o", "out.png")
    assert result.status == 0, result.err
    assert printed in result.out and result.out.endswith("written: out.png\n")
    picture = np.asarray(Image.open("out.png").convert("RGB"))
    assert min(picture.shape[:2]) > 150 and picture.std() > 5
    assert all(name == "out.png" or name.startswith("results")
               for name in tree.snapshot().keys() - before.keys())  # fmt: skip


COMPARE = ["compare", "sr", "Set5/0000"]
SCATTER = ["scatter", "sr", "--scale", "2"]
LAM = ["attribution", "hr/LR/0000.png"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["compare", "nothing", "Set5/0000"], "no task 'nothing'"),
        (["compare", "sr", "absent.png"], "absent.png: no such file"),
        (["compare", "sr", "Set5", "--scale", "2"], "Set5: no such file"),
        (COMPARE, "sr: give --scale, one of 2, 3, 4"),
        (["compare", "jpeg", "Set5/0000"], "jpeg: give --level, one of 10, 20, 30, 40"),
        ([*COMPARE, "--scale", "5"], "sr: no scale 5"),
        (["compare", "sr", "Set9/0000", "--scale", "2"], "Set9: datasets/Set9/GTmod2 does not"),
        (["compare", "sr", "Set5/a", "--scale", "2"], "Set5: no image 'a'"),
        ([*COMPARE, "absent.pth", "--scale", "2"], "absent.pth: no such file"),
        ([*COMPARE, "x4.pth", "--scale", "2"], "x4.pth: for scale 4 and 3 channels"),
        ([*COMPARE, "--scale", "2", "--crop", "40", "0", "40", "9"], "outside of the image of 64"),
        ([*COMPARE, "--scale", "2", "--width", "0"], "0 inches: give 1 to 40"),
        ([*COMPARE, "--scale", "2", "--device", "tpu"], "--device tpu: "),
        (["compare", "sr", "x2.pth", "--scale", "2"], "x2.pth is not an image"),
        ([*SCATTER, "--set", "Nowhere"], "no method with both PSNR and params"),
        (
            ["scatter", "sr", "x4.pth", "--scale", "2", "--set", "Set5"],
            "x4.pth: for x4, not for Super-resolution x2",
        ),
        (["curves", "absent"], "absent: no such file or folder"),
        (["curves", "hr"], "hr: no TensorBoard files"),
        (["curves", "log.csv", "--smooth", "0"], "invalid positive value: '0'"),
        ([*LAM, "x2.pth"], "the following arguments are required: --patch"),
        ([*LAM, "x2.pth", "--patch", "0", "0", "64"], "outside of the output of 64 x 64 pixels"),
        ([*LAM, "x2.pth", "x4.pth", "--patch", "0", "0", "8"], "x4.pth: for x4, x2.pth is for x2"),
        (["attribution", "no.png", "x2.pth", "--patch", "0", "0", "8"], "no.png: no such file"),
        (["attribution", "log.csv", "x2.pth", "--patch", "0", "0", "8"], "log.csv"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_one_line(tree: Project, arguments: list[str], message: str):
    result = tree.run("figure", *arguments, "-o", "out.png")
    assert result.status == 2 and message in result.err.splitlines()[-1], result.err
    assert "Traceback" not in result.err and not Path("out.png").exists()


def test_output_is_checked_before_the_work(tree: Project):
    for name, message in (
        ("o.doc", "must end in one of"),
        ("no/o.png", "folder no does not exist"),
    ):
        result = tree.run("figure", "curves", "absent", "-o", name)
        assert result.status == 2 and message in result.err


def test_a_missing_package_is_named(tree: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    result = tree.run("figure", "curves", "log.csv", "-o", "o.png")
    assert result.status == 2 and 'pip install "compacter-arch[table]"' in result.err


@pytest.mark.parametrize("what", ["compare", "scatter", "curves", "attribution"])
def test_help_has_examples(project: Project, what: str):
    result = project.run("figure", what, "-h")
    assert result.status == 0 and f"  basicsr figure {what} " in result.out
    assert f" {what} " in project.run("figure", "-h").out
