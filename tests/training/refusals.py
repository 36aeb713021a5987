"""A command that refuses: one clear line, a non-zero status, and nothing is created."""

from __future__ import annotations

from ..conftest import Project, Result


def only_line(result: Result, command: str = "train") -> str:
    """The one line on stderr of a command that refused."""
    assert result.status == 2 and result.out == "", result
    lines = result.err.splitlines()
    assert len(lines) == 1, result.err
    assert lines[0].startswith(f"basicsr {command}: error: "), result.err
    return lines[0]


def refused(project: Project, file: str, *argv: str, command: str = "train") -> str:
    """The one line that a command ends with, having created nothing."""
    before = project.snapshot()
    line = only_line(project.run(command, "-opt", file, *argv), command)
    assert project.snapshot() == before
    return line
