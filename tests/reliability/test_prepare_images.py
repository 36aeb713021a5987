"""Mutated images in data sets: checked, verified and packed, or named in one line; never worse."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter

import pytest

from ..conftest import Project
from .image_mutations import good_images, mutated

COUNT = int(os.environ.get("COMPACTER_MUTATED_IMAGES", 320))
PATIENCE = 30  # seconds for one image
SEED = 1
OPTIONS = {
    "scale": 1,
    "network_g": {"type": "Bicubic", "upscale": 1},
    "datasets.test_1.dataroot_gt": "one",
    "datasets.test_1.dataroot_lq": "one",
}
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")  # as the package does, but for pytest

# What BasicSR reads, but is refused where a file is packed: readers disagree about it.
DOUBTFUL, DEEP = "its header says", "is not 8 bits per channel"


def make_images(project: Project, count: int) -> list[str]:
    """Write ``count`` mutated images to the folder ``all``; their names."""
    rng, good = random.Random(SEED), good_images()
    (project.root / "all").mkdir()
    names = []
    for number in range(count):
        name = rng.choice(sorted(good))
        names.append(f"{number:04d}_{name}")
        (project.root / "all" / names[-1]).write_bytes(mutated(name, good[name], rng))
    return names


def said(project: Project, name: str, *argv: str) -> tuple[int, str]:
    """How a command on the folder ``one``, which holds an image, ends, and its refusal if any."""
    start = time.monotonic()
    result = project.run(*argv)
    assert time.monotonic() - start < PATIENCE, (name, argv)
    lines = [
        line
        for line in result.err.splitlines()
        if ": warning: " not in line and not line.startswith("warning: ") and ": about " not in line
    ]
    assert result.status in (0, 1, 2) and len(lines) == bool(result.status), (name, lines)
    assert all(f"one/{name}" in line and line.isprintable() for line in lines), (name, lines)
    return result.status, "".join(lines)


def check_images(project: Project, count: int) -> None:
    """The promise for ``count`` files, and one line of figures."""
    names = make_images(project, count)
    file = project.write_test(OPTIONS)
    counts: Counter[str] = Counter()
    refused = set()
    for name in names:
        (project.root / "one").mkdir()
        shutil.copy(project.root / "all" / name, project.root / "one" / name)
        before = project.snapshot()
        checked, _ = said(project, name, "check", "-opt", file)
        assert project.snapshot() == before
        verified, doubt = said(project, name, "prepare", "verify", "one")
        packed, reason = said(project, name, "prepare", "lmdb", "one", "-o", "out.lmdb")
        assert (project.root / "out.lmdb").exists() == (packed == 0)
        # What one reads, the others do, too.
        assert bool(checked) == bool(verified) or DOUBTFUL in doubt, (name, checked, doubt)
        assert bool(packed) == bool(verified) or DOUBTFUL in reason or DEEP in reason, name
        if packed == 0:
            assert project.run("prepare", "verify", "out.lmdb", "--count", "1").status == 0, name
        if verified:
            refused.add(name)
        counts.update(checked=not checked, verified=not verified, packed=not packed)
        for folder in ("one", "out.lmdb", ".out.lmdb.part"):
            shutil.rmtree(project.root / folder, ignore_errors=True)
    assert count / 20 < len(refused) < count * 19 / 20

    result = project.run("prepare", "verify", "all")  # all together: the same are refused
    assert result.status == 1 and result.out.endswith(f"; problems: {len(refused):,}\n")
    with project.capsys.disabled():
        print(
            f"\n{count} mutated images: {counts['checked']} passed check, {counts['verified']} "
            f"prepare verify, {counts['packed']} were packed; the others were named"
        )


def test_forty_mutated_images(project: Project) -> None:
    check_images(project, 40)


@pytest.mark.slow
def test_many_mutated_images(project: Project) -> None:
    check_images(project, COUNT)
