"""The wheel holds what it needs and nothing else, and works where there is no checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from compacter_arch.training.options import package_options, read_options
from compacter_arch.zoo import TASKS

from ..conftest import REPOSITORY
from ..test_option_files import make_data
from .sandboxes import photograph

NEEDED = {
    *(
        f"compacter_arch/execution/kernels/{name}"
        for name in ("block.cpp", "training.cpp", "vectors.h")
    ),
    "compacter_arch/tables/published.csv",
    "compacter_arch/py.typed",
    *(f"compacter_arch/options/{path.name}" for path in package_options().glob("*.yml")),
    *(f"compacter_arch/pretrained_models/Compacter_{task}.pth" for task in TASKS.values()),
}
KINDS = {Path(name).suffix for name in NEEDED} | {".py"}
COMMAND = ("-m", "compacter_arch")
TEST_FILE = "options/test_Compacter_SRx2.yml"

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (REPOSITORY / "setup.py").is_file(), reason="not in a source checkout"),
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that no earlier build gets into it and none is left behind."""
    pytest.importorskip("pip")
    pytest.importorskip("setuptools")
    root = tmp_path_factory.mktemp("wheel")
    source, ours = root / "source", shutil.ignore_patterns("__pycache__", "*.egg-info")
    for folder in ("compacter_arch", "options", "tests", "experiments/pretrained_models"):
        shutil.copytree(REPOSITORY / folder, source / folder, ignore=ours)
    for file in ("setup.py", "pyproject.toml", "README.md", "LICENSE", "datasets/README.md"):
        (source / file).parent.mkdir(exist_ok=True)
        shutil.copy(REPOSITORY / file, source / file)
    pip("wheel", ".", "--no-build-isolation", "-w", str(root), folder=source)
    (built,) = root.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def python(wheel: Path) -> dict[str, str]:
    """An environment in which the package of the wheel is found first."""
    site = wheel.parent / "site"
    pip("install", str(wheel), "--target", str(site), folder=wheel.parent)
    return {**os.environ, "PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}


def pip(command: str, *arguments: str, folder: Path) -> None:
    """Run pip in a folder, without dependencies and without a network."""
    flags = ("--no-deps", "--no-index", "--quiet")
    words = [sys.executable, "-m", "pip", command, *flags, *arguments]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def run(env: dict[str, str], folder: Path, *words: str) -> str:
    """What Python prints there."""
    done = subprocess.run(
        [sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_files(wheel: Path):
    names = set(zipfile.ZipFile(wheel).namelist())
    assert names >= NEEDED
    packed = {name for name in names if ".dist-info/" not in name}
    assert {name.split("/")[0] for name in packed} == {"compacter_arch"}
    assert not [name for name in packed if {"tests", "datasets"} & set(name.split("/"))]
    modules = {
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "compacter_arch").rglob("*.py")
        if (path.parent / "__init__.py").is_file()  # not what helps to build on Python 3.13
    }
    assert {name for name in packed if name.endswith(".py")} == modules
    assert {Path(name).suffix for name in packed} <= KINDS


def test_works_without_the_checkout(python: dict[str, str], tmp_path: Path):
    where = run(python, tmp_path, "-c", "import compacter_arch; print(compacter_arch.__file__)")
    assert Path(where).is_relative_to(python["PYTHONPATH"])

    photograph(tmp_path / "photo.jpg", 0)
    run(python, tmp_path, *COMMAND, "restore", "photo.jpg", "-o", "out", "--task", "sr_x2")
    assert Image.open(tmp_path / "out/photo.jpg").size == (196, 164)

    make_data(tmp_path, read_options(package_options() / Path(TEST_FILE).name))
    check = (*COMMAND, "check", "-opt", TEST_FILE, "--force_yml")
    out = run(python, tmp_path, *check, "path:pretrain_network_g=zoo://sr_x2")
    assert out.endswith("ready to test\n")
