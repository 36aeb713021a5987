"""The ``basicsr`` command: one module per sub-command, each with ``configure`` and ``run``."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence

from ..allocator import keep_freed_memory
from ..errors import UserError
from . import check, demo, export, figure, prepare, profile, restore, table, test, train
from .subcommands import add_commands

COMMANDS = {
    "train": train,
    "test": test,
    "check": check,
    "prepare": prepare,
    "restore": restore,
    "export": export,
    "table": table,
    "profile": profile,
    "figure": figure,
    "demo": demo,
}


def build_parser() -> argparse.ArgumentParser:
    """The parser of the whole command."""
    parser = argparse.ArgumentParser(
        prog="basicsr",
        description="Train, test and prepare BasicSR experiments, Compacter's among them.",
        allow_abbrev=False,
    )
    add_commands(parser, "command", COMMANDS)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit status is 0 only when its work was done."""
    args = build_parser().parse_args(argv)
    keep_freed_memory()
    try:
        return COMMANDS[args.command].run(args)
    except UserError as error:
        for line in str(error).splitlines():
            print(f"basicsr {args.command}: error: {line}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"basicsr {args.command}: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output is gone, as with `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
