"""What a page holds: blocks to run or to read, commands, options, links.

In the pages, a block marked ``bash`` or ``python`` is run as it stands; one whose first line is a
comment with a file's name is that file; ``yaml`` without a name is part of an option file; and
``console`` is for what does not run everywhere (several GPUs, Docker), whose ``basicsr`` commands
are parsed all the same.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from ..conftest import REPOSITORY

DOCS = REPOSITORY / "docs"
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NAME = re.compile(r"# ([\w./]+\.\w+)\n")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")
LINK = re.compile(r"\]\(([^)\s]+)\)")
IMAGE = "compacter:"  # of a container, whose command is `basicsr`
SEPARATORS = ("&&", "||", ";", "|", "&")
LONGEST = 300  # seconds of a block; it takes far less unless it hangs


@dataclass(frozen=True)
class Block:
    """A fenced block: its language and its lines."""

    language: str
    text: str

    @property
    def file(self) -> str:
        """The name of the file that it shows; empty if it shows none."""
        match = NAME.match(self.text)
        return match[1] if match else ""

    @property
    def command(self) -> list[str]:
        """What runs it; nothing if it is only read."""
        return {
            "bash": ["bash", "-euo", "pipefail", "-c", self.text],
            "python": ["python", "-c", self.text],
        }.get(self.language, [])

    def run(self, folder: Path, environment: dict[str, str]) -> str:
        """Write the file or run the block there, as a reader would; what it printed."""
        if self.file:
            path = folder / self.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(self.text, encoding="utf-8")
            return ""
        if not self.command:
            return ""
        done = subprocess.run(
            self.command,
            cwd=folder,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LONGEST,
            check=False,
        )
        assert done.returncode == 0, f"{self.text}\nended with {done.returncode}:\n{done.stdout}"
        return done.stdout


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page that name a language."""
    return [Block(*match) for match in FENCE.findall(page.read_text(encoding="utf-8"))]


def commands(page: Path) -> list[list[str]]:
    """The arguments of every ``basicsr`` command of a page, under whatever name it is called."""
    scripts = {block.file for block in blocks(page) if block.language == "python"} - {""}
    shell = [block.text for block in blocks(page) if block.language in ("bash", "console")]
    calls = (arguments_of(words, scripts) for text in shell for words in split(text))
    return [call for call in calls if call is not None]


def split(text: str) -> Iterator[list[str]]:
    """The simple commands of a shell script, in words, as a shell reads them."""
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words: list[str] = []
        for word in [*lexer, ";"]:
            if word not in SEPARATORS:
                words.append(word)
            elif words:
                yield words
                words = []


def arguments_of(words: list[str], scripts: set[str]) -> list[str] | None:
    """What follows ``basicsr`` or what stands for it; None if this is another command."""
    program, *rest = words
    if program == "basicsr":
        return rest
    if words[:2] == ["docker", "run"]:
        return words[1 + next(i for i, word in enumerate(words) if word.startswith(IMAGE)) :]
    if program not in ("python", "torchrun"):
        return None
    while rest and rest[0].startswith("--"):  # torchrun's
        rest.pop(0)
    if rest[:2] == ["-m", "compacter_arch"]:
        return rest[2:]
    return rest[1:] if rest and rest[0] in scripts else None


def option_files(page: Path) -> dict[str, dict[str, Any]]:
    """The option files that a page shows whole, by their names."""
    shown = [block for block in blocks(page) if block.language == "yaml" and block.file]
    return {block.file: yaml.safe_load(block.text) for block in shown}


def option_fragments(page: Path) -> list[dict[str, Any]]:
    """The parts of option files that it shows."""
    parts = [block for block in blocks(page) if block.language == "yaml" and not block.file]
    return [yaml.safe_load(block.text) for block in parts]


def prose(page: Path) -> str:
    """The page without its blocks."""
    return FENCE.sub("", page.read_text(encoding="utf-8"))


def environment(folder: Path) -> dict[str, str]:
    """That of a reader who has installed this package: ``basicsr`` and ``python`` on the path."""
    folder.mkdir()
    for name, module in (("basicsr", "-m compacter_arch "), ("python", "")):
        program = folder / name
        program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {module}"$@"\n')
        program.chmod(0o755)
    python_path = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "PATH": os.pathsep.join([str(folder), os.environ["PATH"]]),
        "PYTHONPATH": os.pathsep.join(filter(None, python_path)),
        "OMP_NUM_THREADS": "1",
    }
