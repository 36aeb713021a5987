"""Damaged and harmful images: each is restored, or named once with a reason; none does harm."""

from __future__ import annotations

import random
import re
import resource
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from compacter_arch.errors import UserError
from compacter_arch.inference.images import read_photo
from compacter_arch.messages import as_line

from ..conftest import Project
from ..inference.tools import tiny_weights
from .image_mutations import good_images, harmful_files, make_links, mutated

OLD_TORCH = re.compile("/torch(vision)?/.* is deprecated")  # both warn of themselves in torch 2.1
PATIENCE = 60  # seconds for one image
MEMORY = 4 * 2**30  # bytes beyond what the process has when it starts to read
SEED = 0
BOUNDED = """
import resource, sys
from compacter_arch.cli import main
import torch
import compacter_arch.inference.restoration
torch.set_num_threads(1)
with open("/proc/self/status") as file:
    words = dict(line.split(":", 1) for line in file)
limit = int(words["VmData"].split()[0]) * 1024 + {memory}
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
sys.exit(main(sys.argv[1:]))
"""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")


def restore_folder(project: Project, *inputs: str, patience: float) -> subprocess.CompletedProcess:
    """`basicsr restore` in a process of its own with little memory; results go to ``out``."""
    tiny_weights(project.root / "x2.pth")
    argv = ["restore", *inputs, "-o", "out", "--weights", "x2.pth", "--device", "cpu", "--plain"]
    return subprocess.run(
        [sys.executable, "-c", BOUNDED.format(memory=MEMORY), *argv],
        cwd=project.root,
        env=project.environment() | {"PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        errors="replace",
        timeout=patience,
    )


def errors_of(err: str) -> dict[str, str]:
    """The reason for each file that was not restored, or not written, which is named once."""
    lines = re.findall(r"^basicsr restore: error: (?:in|out)/([^:]+): (.*)$", err, re.MULTILINE)
    found = dict(lines)
    assert len(found) == len(lines) == err.count("basicsr restore: error: "), err
    assert all(reason and len(reason) < 300 for reason in found.values()), found
    return found


def check_results(project: Project, err: str, names: set[str]) -> Counter[str]:
    """Each file was restored or named, and nothing else is there."""
    assert "Traceback" not in err, err
    warned = [line for line in err.splitlines() if "Warning:" in line]
    assert all(OLD_TORCH.search(line) for line in warned), err
    errors = errors_of(err)
    results = [path for path in (project.root / "out").rglob("*") if path.is_file()]
    assert {path.relative_to(project.root / "out").as_posix() for path in results} == (
        {name for name in names if as_line(name) not in errors}
    )
    for path in results:  # complete
        before, after = read_photo(project.root / "in" / path.name), read_photo(path)
        assert after.pixels.shape[0] == 2 * before.pixels.shape[0]
    return Counter(restored=len(results), refused=len(errors))


def check_mutated(project: Project, count: int) -> None:
    """The promise for ``count`` files in one folder, and one line of figures."""
    rng, good = random.Random(SEED), good_images()
    folder = project.root / "in"
    folder.mkdir()
    slowest = 0.0
    for number in range(count):
        name = rng.choice(sorted(good))
        path = folder / f"{number:04d}_{name}"
        path.write_bytes(mutated(name, good[name], rng))
        start = time.monotonic()
        try:
            read_photo(path)
        except UserError as error:
            assert str(path) in str(error) and str(error).isprintable()
        slowest = max(slowest, time.monotonic() - start)
    assert slowest < PATIENCE
    names = {path.name for path in folder.iterdir()}
    result = restore_folder(project, "in", patience=PATIENCE + count)
    assert result.returncode == 1, result.stderr
    counts = check_results(project, result.stderr, names)
    assert counts["restored"] > count / 20 and counts["refused"] > count / 20
    with project.capsys.disabled():
        print(
            f"\n{count} mutated images: {counts['restored']} restored, {counts['refused']} "
            f"refused; reading the slowest took {slowest:.1f} s"
        )


def test_sixty_mutated_images(project: Project):
    check_mutated(project, 60)


@pytest.mark.slow
def test_many_mutated_images(project: Project):
    check_mutated(project, 1000)


def test_harmful_files(project: Project):
    folder = project.root / "in"
    folder.mkdir()
    files = harmful_files() | {"good.png": good_images()["RGB_uint8.png"]}
    for name, data in files.items():
        (folder / name).write_bytes(data)
    links = make_links(folder)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    result = restore_folder(project, "in", patience=PATIENCE)
    assert result.returncode == 1
    check_results(project, result.stderr, {*files, *links})
    errors = errors_of(result.stderr)
    assert errors.keys() == {as_line(name) for name in (*files, *links)} - {"good.png"}
    assert "are more than 500 million pixels" in errors["huge.png"]
    assert errors["dangling.png"] == "No such file or directory"
    assert errors["pipe.png"] == "not a regular file"
    assert "symbolic links" in errors["circle.png"]
    assert errors["words.png"] == "not an image, or of an unknown kind"
    after = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert max(before, after) * 1024 < MEMORY


@pytest.mark.parametrize("pattern", ["in/**/*.png", "in/[!x]*.png", "./in/*.png"])
def test_patterns_over_links_that_lead_in_circles(project: Project, pattern: str):
    folder = project.root / "in"
    folder.mkdir()
    (folder / "good.png").write_bytes(good_images()["L_uint8.png"])
    (folder / ".hidden.png").write_bytes(good_images()["L_uint8.png"])
    make_links(folder)
    for name in ("one", "two", "three"):  # 3^40 ways through them
        Path(folder / name).symlink_to(".")
    tiny_weights(project.root / "x2.pth")
    argv = ("-o", "out", "--weights", "x2.pth", "--device", "cpu", "--plain")
    result = project.run("restore", pattern, *argv)
    assert result.status == 1 and "restored: 1 of 4 images" in result.out, result.err
    assert [path.name for path in (project.root / "out").rglob("*.png")] == ["good.png"]
