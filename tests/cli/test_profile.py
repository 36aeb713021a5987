"""`basicsr profile`: what it prints, the plot, and one line for whatever is wrong."""

from __future__ import annotations

import re
import sys

import pytest

from compacter_arch.archs import CompacterArch
from compacter_arch.tables.complexity import count_multi_adds

from ..conftest import TINY, Project

NO_SIZES = ("--sizes",)


def rows_of(text: str) -> dict[str, list[str]]:
    """The lines of all tables by their first column."""
    cells = [re.split(r"\s{2,}", line.strip()) for line in text.splitlines()]
    return {row[0]: row[1:] for row in cells if len(row) == 3 and row[0].strip("-")}


def test_profile_of_an_option_file(project: Project):
    result = project.run(
        "profile",
        *("-opt", project.write(), "--size", "20", "30", "--sizes", "8", "16"),
        *("--rounds", "1", "--device", "cpu", "--plot", "cost.png"),
    )
    assert result.status == 0 and result.err == ""
    rows = rows_of(result.out)
    network = CompacterArch(**{k: v for k, v in TINY["network_g"].items() if k != "type"})
    total = count_multi_adds(network, (20, 30)).total
    assert rows["total"] == ["5,296", f"{total / 1e9:.3f}"]
    assert [*rows][:5] == ["block", "conv_first", "position_bias", "blocks.0", "conv_last"]
    assert sum(int(row[0].replace(",", "")) for row in [*rows.values()][1:6]) == 5296
    assert "CompacterArch, input 20 x 30 (height x width), output 40 x 60" in result.out
    for size in ("8 x 8", "16 x 16"):
        latency, memory = map(float, rows[size])
        assert latency > 0 and memory >= 0
    *_, caption, written = result.out.splitlines()
    assert "1 thread, float32, PyTorch" in caption and caption.endswith("median of 1 passes")
    assert written == "written: cost.png"
    assert (project.root / "cost.png").read_bytes().startswith(b"\x89PNG")
    assert not (project.root / "experiments").exists()


@pytest.mark.parametrize(
    ("arguments", "size", "output"),
    [
        (["--arch", "CompacterArch"], "360 x 640", "720 x 1280"),
        (
            ["--arch", "CompacterArch", "--force_yml", "network_g:upscale=3"],
            "240 x 426",
            "720 x 1278",
        ),
        (["--arch", "MSRResNet"], "180 x 320", "720 x 1280"),
        (["--arch", "Bicubic"], "360 x 640", "720 x 1280"),
        (["-opt", "options/test_Compacter_GrayDN.yml"], "720 x 1280", "720 x 1280"),
        (["-opt", "tiny.yml", "--force_yml", "network_g:upscale=4"], "180 x 320", "720 x 1280"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_the_input_is_that_of_a_published_output(
    project: Project, arguments: list[str], size: str, output: str
):
    project.write()
    before = project.snapshot()
    result = project.run("profile", *arguments, *NO_SIZES)
    assert result.status == 0 and result.err == ""
    assert f", input {size} (height x width), output {output}\n" in result.out
    assert project.snapshot() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "one of the arguments -opt --arch is required"),
        (["-opt", "tiny.yml", "--arch", "EDSR"], "not allowed with argument"),
        (["-opt", "absent.yml"], "absent.yml: no such file"),
        (["-opt", "empty.yml"], "empty.yml: network_g: must hold `type: "),
        (
            ["--arch", "CompacterArc"],
            "no network is named 'CompacterArc' (did you mean 'CompacterArch'?)",
        ),
        (["--arch", "EDSR"], "--arch EDSR: network_g: missing key 'num_in_ch'"),
        (["--arch", "EDSR", "--force_yml", "network_g"], "expected section:key=value"),
        (
            ["--arch", "CompacterArch", "--force_yml", "network_g:dims=3"],
            "unknown key 'dims' (did you",
        ),
        (
            ["--arch", "CompacterArch", "--force_yml", "network_g:dim=7"],
            "dim 7 is not a multiple of",
        ),
        (["--arch", "EDVR", "--sizes"], "EDVR: 64 x 64 pixels: not enough values"),
        (["--arch", "MSRResNet", "--force_yml", "network_g:num_in_ch=x", "--sizes"], "MSRResNet"),
        (["--arch", "Bicubic", "--size", "0", "4"], "argument --size: invalid positive value: '0'"),
        (["--arch", "Bicubic", "--size", "4"], "argument --size: expected 2 arguments"),
        (
            ["--arch", "Bicubic", "--sizes", "big"],
            "argument --sizes: invalid positive value: 'big'",
        ),
        (["--arch", "Bicubic", "--device", "tpu"], "--device tpu: "),
        (["--arch", "Bicubic", "--plot", "p.txt"], "p.txt: the name of a plot must end in"),
        (["--arch", "Bicubic", "--plot", "no/p.png"], "no/p.png: the folder no does not exist"),
        (["--arch", "Bicubic", "--plot", "p.png", "--sizes"], "--plot: shows latency and memory"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_usage_is_one_line(project: Project, arguments: list[str], message: str):
    project.write()
    project.write({"network_g": ...}, "empty.yml")
    before = project.snapshot()
    result = project.run("profile", *arguments)
    assert result.status == 2 and message in result.err
    assert "Traceback" not in result.err
    assert project.snapshot() == before


@pytest.mark.parametrize("package", ["tabulate", "matplotlib.figure"])
def test_a_missing_package_is_named(
    project: Project, package: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    result = project.run("profile", "--arch", "Bicubic", "--plot", "p.png", "--sizes", "8")
    assert result.status == 2 and 'pip install "compacter-arch[table]"' in result.err


def test_an_input_that_the_network_cannot_take(project: Project):
    forced = ("--force_yml", "network_g:window_size=8")
    result = project.run("profile", "--arch", "SwinIR", *forced, "--size", "9", "9", *NO_SIZES)
    assert result.status == 2 and result.err.count("\n") == 1
    assert "error: SwinIR: 9 x 9 pixels: " in result.err


def test_help_has_examples(project: Project):
    help_text = project.run("profile", "-h").out
    examples = [line.split() for line in help_text.splitlines() if line.startswith("    basicsr ")]
    assert [example[1] for example in examples] == ["profile", "profile"]
    option_file = examples[1][3]
    assert project.run("profile", "-opt", option_file, *NO_SIZES).status == 0
