"""The help of every command comes without importing what a command needs."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Iterator

from compacter_arch.cli import build_parser

from ..conftest import REPOSITORY

SCRIPT = """
import contextlib, io, json, sys

asked, LIGHT = [], {*sys.stdlib_module_names, "compacter_arch"}

class OnlyTheStandardLibrary:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in LIGHT:
            asked.append(name)
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, OnlyTheStandardLibrary())
from compacter_arch.cli import main
texts = []
for command in json.loads(sys.argv[1]):
    with contextlib.redirect_stdout(io.StringIO()) as out:
        try:
            main([*command, "-h"])
        except SystemExit as stop:
            assert stop.code == 0, command
    texts.append(out.getvalue())
print(json.dumps([texts, asked]))
"""
JYTHON = "org"  # Python's own copy.py looks for it


def commands(parser: argparse.ArgumentParser) -> Iterator[list[str]]:
    """The words of every command below a parser, itself first."""
    yield []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, below in action.choices.items():
                yield from ([name, *more] for more in commands(below))


def test_help_needs_the_standard_library_alone():
    every = list(commands(build_parser()))
    assert ["prepare", "lr"] in every and ["figure", "compare"] in every
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, json.dumps(every)],
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    texts, asked = json.loads(done.stdout)
    assert set(asked) <= {JYTHON}
    for command, text in zip(every, texts, strict=True):
        assert text.startswith(" ".join(["usage: basicsr", *command])), text
