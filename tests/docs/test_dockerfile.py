"""The Dockerfile agrees with the tree and with the pages, as far as reading tells."""

from __future__ import annotations

import re
from fnmatch import fnmatch

import pytest

from ..conftest import REPOSITORY
from .pages import DOCS

FILE = REPOSITORY / "Dockerfile"

pytestmark = pytest.mark.skipif(not FILE.is_file(), reason="not in a source checkout")


def test_stages_are_those_that_are_named():
    text = FILE.read_text(encoding="utf-8")
    stages = re.findall(r"^FROM \S+ AS (\S+)$", text, re.MULTILINE)
    for base in re.findall(r"^FROM (\S+) ", text, re.MULTILINE):
        assert base in stages or base.startswith("python:")
    assert set(re.findall(r"--from=(\S+)", text)) <= set(stages)
    page = (DOCS / "deploy.md").read_text(encoding="utf-8")
    assert set(re.findall(r"--target (\S+)", page)) == {"cpu", "cuda"} <= set(stages)


def test_what_setup_packs_is_sent():
    """All that the package is built from is in the context, and nothing else."""
    lines = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    kept = [line[1:] for line in lines if line.startswith("!")]
    needed = ["setup.py", "pyproject.toml", "README.md", "LICENSE", "compacter_arch", "options"]
    needed += [
        path.relative_to(REPOSITORY).as_posix()
        for path in (REPOSITORY / "experiments/pretrained_models").glob("*.pth")
    ]
    assert "*" in lines
    for path in needed:
        assert any(fnmatch(path, pattern) for pattern in kept), path
    for pattern in kept:
        assert any(fnmatch(path, pattern) for path in needed), pattern


def test_extras_exist():
    wanted = set(re.findall(r"^ARG EXTRAS=(\S+)", FILE.read_text(), re.MULTILINE))
    assert len(wanted) == 1
    setup = (REPOSITORY / "setup.py").read_text(encoding="utf-8")
    for extra in wanted.pop().split(","):
        assert f'"{extra}": ' in setup, extra
