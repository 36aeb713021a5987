"""`basicsr prepare`: every sub-command from the command line, and the commands of the README."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import compacter_arch
from compacter_arch.cli import build_parser, main
from compacter_arch.cli.prepare import COMMANDS
from compacter_arch.prepare.files import write_png

from .tools import noise_png, smooth_image

README = Path(compacter_arch.__file__).parents[1] / "datasets" / "README.md"
STUBS = 'set -eu\nHOME=/archives\nbasicsr() { echo "$*"; }\nmkdir() { :; }\ncp() { :; }\n'
TASKS = {"lr", "subimages", "lmdb", "raw", "benchmarks", "pairs", "verify"}


def command(capsys: pytest.CaptureFixture[str], *words: object, status: int = 0) -> str:
    """What ``basicsr prepare WORDS`` prints."""
    capsys.readouterr()
    assert main(["prepare", *map(str, words)]) == status
    output = capsys.readouterr()
    return output.err if status else output.out


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["prepare", name, "-h"])
    assert stop.value.code == 0
    output = capsys.readouterr().out
    assert f"example:\n  basicsr prepare {name} " in output
    for example in re.findall(r"^  basicsr (prepare .*)", output, re.MULTILINE):
        assert build_parser().parse_args(example.split()).what == name


def test_the_way_of_a_training_set(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        write_png(Path("HR") / f"{number}.png", smooth_image(number, 96, 120))
    out = command(capsys, "lr", "HR", "-o", "LR", "--scale", 2, "--gt", "GT")
    assert out == "LR: 3 LR images written, x2\n"
    sizes = ("--crop_size", 48, "--step", 24)
    out = command(capsys, "subimages", "GT", "-o", "GT_sub", *sizes)
    assert out == "GT_sub: 3 images cut, 36 sub-images\n"
    command(capsys, "subimages", "LR", "-o", "LR_sub", *sizes, "--scale", 2)
    for name in ("GT", "LR"):
        out = command(capsys, "lmdb", f"{name}_sub", "-o", f"{name}.lmdb")
        assert out == f"{name}.lmdb: 36 images packed\n"
    out = command(capsys, "lmdb", "LR_sub", "-o", "LR.lmdb")
    assert out == "LR.lmdb: is there already\n"
    for name in ("GT", "LR"):
        out = command(capsys, "raw", f"{name}.lmdb", "-o", f"{name}.raw")
        assert out == f"{name}.raw: 36 images decoded\n"
    out = command(capsys, "raw", "LR_sub", "-o", "LR.raw")
    assert out == "LR.raw: is there already\n"
    out = command(capsys, "meta_info", "GT_sub", "-o", "list.txt")
    assert out == "list.txt: 36 images listed\n"
    for kind in ("lmdb", "raw"):
        gt, lq = f"GT.{kind}", f"LR.{kind}"
        out = command(capsys, "verify", gt, "--lq", lq, "--scale", 2, "--count", 36)
        assert out.startswith(f"{gt}: 36 images, 36 of them in pairs with {lq} at x2; MATLAB's")


def test_benchmarks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    noise_png(Path("HR/a.png"), 30, 30)
    out = command(capsys, "benchmarks", "HR", "--name", "Set", "--scales", "4")
    folders = [f"datasets/Set/{name}: 1 images" for name in ("GT", "GTmod4", "LRbicx4")]
    assert out.splitlines() == folders
    out = command(capsys, "benchmarks", "HR", "--name", "Noise", "-o", "data", "--scales")
    assert out == "data/Noise/GT: 1 images\n"
    command(capsys, "benchmarks", "HR", "--name", "Three", "-o", "data")
    assert len(list(Path("data/Three").iterdir())) == 7


def test_pairs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        noise_png(Path(f"in/low{number}.png"), 9, 9)
        noise_png(Path(f"target/high{number}.png"), 9, 9)
    out = command(capsys, "pairs", "in", "target", "-o", "out")
    assert out == "out: 3 pairs in lq and gt\n"


def test_verify_counts_what_it_does_not_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    for number in range(13):
        noise_png(Path(f"HR/{number:02d}.png"), 9, 9)
        Path(f"HR/{number:02d}.png").write_bytes(b"no image")
    lines = command(capsys, "verify", "HR", "--count", 13, status=1).splitlines()
    assert lines[0] == "HR/00.png is not an image; replace or remove it"
    assert len(lines) == 11 and lines[10] == "... and 3 more"


def test_demo_tells_its_folders(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def make_demo(root: Path) -> Path:
        noise_png(root / "datasets/demo/val/GT/a.png", 9, 9)
        noise_png(root / "datasets/demo/train/GT/a.png", 9, 9)
        noise_png(root / "datasets/demo/train/GT/b.png", 9, 9)
        return root / "datasets/demo"

    monkeypatch.setattr("compacter_arch.prepare.make_demo", make_demo)
    monkeypatch.chdir(tmp_path)
    assert command(capsys, "demo").splitlines() == [
        "datasets/demo/train/GT: 2 images",
        "datasets/demo/val/GT: 1 images",
    ]


def test_errors_are_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    err = command(capsys, "lr", "HR", "-o", "LR", "--scale", 2, status=2)
    message = "HR: no such folder; give a folder of images"
    assert err == f"basicsr prepare: error: {message}\n"
    noise_png(Path("HR/a.png"), 30, 30)
    Path("LR").write_bytes(b"a file")
    err = command(capsys, "lr", "HR", "-o", "LR", "--scale", 2, status=2)
    assert err.splitlines()[-1].startswith("basicsr prepare: error: [Errno ")
    assert "LR" in err.splitlines()[-1] and "Traceback" not in err


@pytest.mark.skipif(not README.is_file(), reason="datasets/README.md is not installed")
def test_the_readme_of_the_datasets() -> None:
    """Its shell blocks run, with a `basicsr` that only tells its words, and these are understood.

    Every folder of the layout is made by one of them and verified by another.
    """
    text = README.read_text(encoding="utf-8")
    blocks = re.findall(r"^ *```bash\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    script = STUBS + "\n".join(blocks)
    process = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert process.returncode == 0 and process.stderr == ""
    calls = [build_parser().parse_args(line.split()) for line in process.stdout.splitlines()]
    assert {call.what for call in calls} == TASKS
    made = {str(call.output) for call in calls if call.what in ("lmdb", "pairs")}
    made |= {
        f"{call.output}/{call.name}/{folder}"
        for call in calls
        if call.what == "benchmarks"
        for folder in ["GT", *(f"{kind}{s}" for s in call.scales for kind in ("GTmod", "LRbicx"))]
    }
    verified = {str(path) for call in calls if call.what == "verify" for path in (call.gt, call.lq)}
    layout = expand(re.findall(r"^\| `(datasets/[^`]+)`", text, re.MULTILINE))
    assert len(layout) > 60
    for path in layout:
        assert path in made or str(Path(path).parent) in made, path
        assert path in verified or not path.endswith((".lmdb", "/gt", "/lq")), path
    for call in calls:
        if call.what == "verify" and not call.gt.is_absolute():
            assert str(call.gt) in layout, call


def expand(paths: list[str]) -> list[str]:
    """``a/{b,c}`` to ``a/b`` and ``a/c``, as a shell does."""
    found = []
    for path in paths:
        match = re.search(r"{([^}]+)}", path)
        if match is None:
            found.append(path)
        else:
            start, end = match.span()
            found += expand([path[:start] + part + path[end:] for part in match[1].split(",")])
    return found
