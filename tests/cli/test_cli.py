"""The command line: help, exit statuses, packaged option files, what `check` and `test` print."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from basicsr.metrics import calculate_metric

from compacter_arch.cli import COMMANDS
from compacter_arch.cli.common import one_line_errors
from compacter_arch.errors import UserError
from compacter_arch.training.options import package_options

from ..conftest import Project


@pytest.mark.parametrize("command", COMMANDS)
def test_help_tells_what_it_does_with_an_example(project: Project, command: str):
    result = project.run(command, "-h")
    assert result.status == 0 and result.err == ""
    summary = COMMANDS[command].__doc__.splitlines()[0]
    assert summary.rstrip(".") in result.out
    assert "basicsr" in result.out


@pytest.mark.parametrize("command", ["train", "test", "check"])
def test_help_shows_a_command_that_can_be_run(project: Project, command: str):
    help_text = project.run(command, "-h").out
    example = next(
        line.split() for line in help_text.splitlines() if line.startswith("    basicsr ")
    )
    assert example[1:3] == [command, "-opt"]
    assert (package_options() / example[3].removeprefix("options/")).is_file()


def test_help_lists_the_commands(project: Project):
    result = project.run("-h")
    assert result.status == 0
    for command in COMMANDS:
        assert f"\n    {command} " in result.out


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["trian"],
        ["train"],
        ["train", "-opt"],
        ["train", "-opt", "tiny.yml", "--typo"],
        ["train", "-opt", "tiny.yml", "--auto"],
        ["train", "-opt", "tiny.yml", "--launcher", "mpi"],
        ["train", "-opt", "tiny.yml", "--time_limit", "soon"],
        ["test", "-opt", "tiny.yml", "--auto_resume"],
    ],
    ids=" ".join,
)
def test_wrong_usage_creates_nothing(project: Project, argv: list[str]):
    project.write()
    before = project.snapshot()
    result = project.run(*argv)
    assert result.status == 2 and result.out == ""
    assert "error: " in result.err.splitlines()[-1]
    assert project.snapshot() == before


def test_exit_statuses_of_a_process(project: Project):
    """The number that a shell sees, through `python -m compacter_arch`."""
    process = project.start("check", "-opt", "absent.yml")
    out, err = process.communicate(timeout=300)
    assert process.returncode == 2 and out == "" and err.count("\n") == 1
    process = project.start("check", "-opt", project.write())
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0 and err == ""
    assert out.endswith("tiny.yml: ready to train\n")


def test_reader_that_goes_away_is_no_traceback(project: Project):
    """`basicsr check ... | head -0`"""
    process = project.start("check", "-opt", project.write())
    process.stdout.close()
    err = process.stderr.read()
    assert process.wait(60) in (0, 120, 141)
    assert "Traceback" not in err


def test_packaged_option_file_is_found_from_anywhere(project: Project):
    """Its data is not here, which the one line says after the file was read."""
    result = project.run("check", "-opt", "options/train_Compacter_SRx2_demo.yml")
    assert result.status == 2
    assert "train_Compacter_SRx2_demo.yml: datasets.train.dataroot_gt: " in result.err
    assert "datasets/demo/train/GT does not exist below " in result.err


def test_option_file_here_wins_over_the_packaged_one(project: Project):
    (project.root / "options").mkdir()
    file = project.write(file="options/train_Compacter_SRx2.yml")
    result = project.run("check", "-opt", file)
    assert result.status == 0 and "CompacterArch, 5,296 parameters" in result.out


def test_check_prints_facts_and_creates_nothing(project: Project):
    file = project.write({"val.metrics.ssim": {"type": "calculate_ssim", "crop_border": 2}})
    before = project.snapshot()
    started = time.monotonic()
    result = project.run("check", "-opt", file)
    assert time.monotonic() - started < 5
    assert project.snapshot() == before
    assert result.status == 0 and result.err == ""
    output, train, val, network, step, ready = result.out.splitlines()
    assert output == f"output: {project.root / 'experiments' / 'tiny'}"
    assert (train, val) == ("datasets.train: TinyTrain, 4 pairs", "datasets.val: TinyVal, 2 pairs")
    assert network == "network_g: CompacterArch, 5,296 parameters"
    assert step.startswith("step: forward and backward of a batch of 2x3x8x8: l_pix 0.")
    assert ready == "tiny.yml: ready to train"


def test_check_of_a_run_that_exists_says_so(project: Project):
    assert project.run("train", "-opt", project.write()).status == 0
    changes = {"path.pretrain_network_g": "experiments/tiny/models/net_g_latest.pth"}
    result = project.run("check", "-opt", project.write(changes))
    assert result.status == 0
    assert "(exists; it is renamed unless you resume)" in result.out
    assert "net_g_latest.pth fits" in result.out


def test_check_of_a_test(project: Project):
    result = project.run("check", "-opt", project.write_test())
    assert result.status == 0 and result.err == ""
    assert result.out.splitlines()[-1] == "test.yml: ready to test"
    assert "results/tiny" in result.out.splitlines()[0].replace("\\", "/")


def test_check_takes_back_nothing_from_the_run(project: Project):
    """The checks of `train` draw random numbers; the run is seeded after them."""
    file = project.write()
    project.run("train", "-opt", file)
    with_checks = project.weights()
    process = subprocess.run(
        [
            sys.executable,
            "-c",
            "import compacter_arch, os, sys, torch; from pathlib import Path\n"
            "from compacter_arch.training.interrupts import StopRequest\n"
            "from compacter_arch.training.options import complete_options, read_options\n"
            "from compacter_arch.training.train import train\n"
            "file = Path(sys.argv[1])\n"
            "with StopRequest() as stop:\n"
            "    train(complete_options(read_options(file), Path.cwd(), True), file, stop)\n",
            file,
        ],
        cwd=project.root,
        env=project.environment(),
        capture_output=True,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    for key, value in project.weights().items():
        assert (value == with_checks[key]).all(), key


def test_test_prints_one_line_per_data_set(project: Project):
    project.run("train", "-opt", project.write())
    second = {**project.options()["datasets"]["val"], "name": "Second"}
    second["dataroot_gt"], second["dataroot_lq"] = "data/train/GT", "data/train/LR"
    changes = {
        "path.pretrain_network_g": "experiments/tiny/models/net_g_latest.pth",
        "datasets.test_2": second,
        "val.save_img": True,
        "val.metrics.ssim": {"type": "calculate_ssim", "crop_border": 2, "test_y_channel": True},
    }
    result = project.run("test", "-opt", project.write_test(changes))
    assert result.status == 0, result.err
    first, other = (line.split() for line in result.out.splitlines())
    assert first[0] == "TinyVal" and other[0] == "Second"
    assert first[1::2] == other[1::2] == ["psnr", "ssim"]
    assert float(first[2]) == pytest.approx(psnr_of_saved(project, "data/val/GT"), abs=1e-4)


def test_test_of_some_data_sets(project: Project):
    second = {**project.options()["datasets"]["val"], "name": "Second", "dataroot_gt": "missing"}
    file = project.write_test({"datasets.test_2": second})
    assert project.run("test", "-opt", file).status == 2
    result = project.run("test", "-opt", file, "--datasets", "TinyVal")
    assert result.status == 0 and result.out.split()[0] == "TinyVal"
    result = project.run("test", "-opt", file, "--datasets", "Set5")
    assert result.status == 2
    assert result.err.endswith("--datasets: no Set5 there, but TinyVal, Second\n")


def test_fast_test_gives_the_same_scores(project: Project, tmp_path: Path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    options = {"network_g.dim": 16, "network_g.num_heads": 1}
    plain = project.run("test", "-opt", project.write_test(options))
    fast = project.run("test", "-opt", project.write_test(options), "--fast")
    assert fast.status == 0, fast.err
    scores = [float(result.out.splitlines()[-1].split()[2]) for result in (plain, fast)]
    assert scores[1] == pytest.approx(scores[0], abs=1e-3)
    assert list((tmp_path / "compacter_arch").glob("*.so"))


def test_fast_test_where_there_is_no_fast_path(project: Project):
    result = project.run("test", "-opt", project.write_test({}), "--fast")  # 4 channels a head
    assert result.status == 0 and result.out.startswith("TinyVal")
    (log,) = (project.root / "results/tiny").glob("*.log")
    line = "--fast: the kernels need multiples of 16, dim / num_heads is 4. The plain network is"
    assert line in log.read_text()


def psnr_of_saved(project: Project, gt: str) -> float:
    """Mean PSNR of the images that `test` has saved for TinyVal, by BasicSR's own function."""
    import cv2

    scores = []
    for path in (project.root / "results/tiny/visualization/TinyVal").glob("*.png"):
        original = project.root / gt / path.name.replace("_tiny", "")
        images = {"img": cv2.imread(str(path)), "img2": cv2.imread(str(original))}
        scores.append(calculate_metric(images, project.options()["val"]["metrics"]["psnr"]))
    assert len(scores) == 2
    return sum(scores) / len(scores)


def test_test_without_metrics_names_the_data_sets(project: Project):
    result = project.run("test", "-opt", project.write_test({"val.metrics": None}))
    assert result.status == 0 and result.out == "TinyVal\n"


def test_debug_flag_shortens_the_intervals(project: Project):
    assert project.run("train", "-opt", project.write(), "--debug").status == 0
    assert "debug_tiny" in project.log("debug_tiny")


def test_forced_options_reach_the_run(project: Project):
    forced = ["--force_yml", "train:total_iter=2", "name=short"]
    assert project.run("train", "-opt", project.write(), *forced).status == 0
    assert "All 2 iterations are done" in project.log("short")


def test_a_gpu_too_small_is_one_line_with_a_remedy():
    with pytest.raises(UserError, match="batch_size_per_gpu"), one_line_errors(debug=False):
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
    with pytest.raises(torch.cuda.OutOfMemoryError), one_line_errors(debug=True):
        raise torch.cuda.OutOfMemoryError
