"""Mutated option files: each runs, or is refused in clear lines, soon, with nothing left behind."""

from __future__ import annotations

import re
import shutil
import signal
import time
import warnings
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, Phase, given, settings

from ..conftest import Project, Result
from .option_mutations import BASES, Example, examples

PATIENCE = 60  # seconds for one file
LONGEST = 600  # characters of a line
FILE = "odd.yml"
MADE = ("experiments", "results", "tb_logger")


@pytest.fixture
def tree(project: Project) -> Project:
    """A project with images of every scale."""
    for scale in (1, 2, 3, 4):
        project.make_pairs(f"data/x{scale}", count=2, size=24, scale=scale)
    return project


def run(project: Project, example: Example) -> tuple[Result, list[str], float]:
    """How the command ends on an example, the warnings that Python would show, and seconds."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"still at it after {PATIENCE} s")

    (project.root / FILE).write_bytes(example.content)
    force = ["--force_yml", *example.forced] if example.forced else []
    former = signal.signal(signal.SIGALRM, too_long)
    signal.alarm(PATIENCE)
    start = time.monotonic()
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("ignore")
            for kind in (UserWarning, RuntimeWarning, SyntaxWarning, FutureWarning):
                warnings.simplefilter("default", kind)
            # PyTorch's, of a machine with fewer cores than workers: true, and no fault of ours
            warnings.filterwarnings("ignore", "This DataLoader will create", UserWarning)
            result = project.run(example.command, "-opt", FILE, *force)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, former)
    return result, [str(warning.message) for warning in caught], time.monotonic() - start


def state(root: Path) -> dict[str, Any]:
    """Everything in a folder and the one above it, with what tells of a change."""
    found = [*root.rglob("*"), *root.parent.glob("*")]
    return {str(p): (p.stat().st_mtime_ns, p.stat().st_size) for p in found if p.is_file()} | {
        str(p): None for p in found if p.is_dir()
    }


def is_refused(result: Result) -> bool:
    """Whether nothing was run; a run of huge numbers is stopped at its first step."""
    return result.status == 2 and "loss or gradient is not finite" not in result.err


def problems_of(result: Result, example: Example) -> list[str]:
    """What a user could not live with; none for a result that is as it should be."""
    found = []
    lines = result.err.splitlines()
    if "Traceback" in result.err + result.out:
        found.append("a traceback")
    if result.status not in (0, 2):
        found.append(f"status {result.status}")
    if not is_refused(result):
        return found
    if result.out:
        found.append("something on stdout")
    errors = [line for line in lines if line.startswith(f"basicsr {example.command}: error: ")]
    others = [line for line in lines if line not in errors]
    if not errors or any(not line.startswith(f"{FILE}: warning: ") for line in others):
        found.append("lines that are neither errors nor warnings of the file")
    if any(FILE not in line and "--force_yml" not in line for line in errors):
        found.append("an error that does not name the file")
    if any(len(line) > LONGEST or not line.isprintable() for line in lines):
        found.append("a line that is too long, or cannot be shown")
    if any(re.search(r"object at 0x|, line \d+, in ", line) for line in errors):
        found.append("an error in the words of Python")
    if example.keys and not any(named(place, result.err) for place in example.keys):
        found.append("an error that names no key that was changed")
    return found


def named(place: tuple[str, ...], text: str) -> bool:
    """Whether a message tells of a key, of the section it is in, or of a line of the file."""
    return any(key in text for key in place[-2:]) or f"{FILE}, line " in text


def check_examples(tree: Project, count: int) -> None:
    """The promise for ``count`` files, and one line of figures."""
    counts: Counter[str] = Counter()
    slowest = 0.0

    @settings(
        max_examples=count,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(examples())
    def check(example: Example) -> None:
        nonlocal slowest
        (tree.root / FILE).unlink(missing_ok=True)
        before = state(tree.root)
        result, caught, seconds = run(tree, example)
        problems = problems_of(result, example)
        if caught:
            problems.append(f"warnings of libraries: {caught}")
        (tree.root / FILE).unlink()
        refused = is_refused(result)
        if refused and state(tree.root) != before:
            problems.append("something was left behind")
        for name in MADE:
            shutil.rmtree(tree.root / name, ignore_errors=True)
        counts["refused" if refused else "ran"] += 1
        slowest = max(slowest, seconds)
        assert not problems, f"{problems}\n{result}"

    check()
    with tree.capsys.disabled():
        print(
            f"\n{counts.total()} mutated option files of {len(BASES)}: {counts['ran']} ran, "
            f"{counts['refused']} were refused; the slowest took {slowest:.1f} s"
        )


def test_unmutated_files_are_accepted(tree: Project):
    """Else their mutations would tell nothing."""
    for name, opt in BASES.items():
        (tree.root / FILE).write_text(yaml.safe_dump(opt, sort_keys=False))
        result = tree.run("check", "-opt", FILE)
        assert (result.status, result.err) == (0, ""), (name, result.err)


def test_forty_mutated_files(tree: Project):
    check_examples(tree, 40)


@pytest.mark.slow
def test_many_mutated_files(tree: Project):
    check_examples(tree, 800)
