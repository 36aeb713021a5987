"""Make data sets ready.

Nothing is downloaded. Files are written whole or not at all, and those that exist are kept: an
interrupted command is completed by starting it again. datasets/README.md has the commands
for each data set.

    basicsr prepare demo
    basicsr prepare lr Set5/HR -o datasets/Set5/LRbicx2 --gt datasets/Set5/GTmod2 --scale 2
"""

from __future__ import annotations

import argparse

from ...errors import UserError
from ..subcommands import add_commands
from . import benchmarks, demo, lmdb, lr, meta_info, pairs, raw, subimages, verify

COMMANDS = {
    "demo": demo,
    "lr": lr,
    "subimages": subimages,
    "lmdb": lmdb,
    "raw": raw,
    "meta_info": meta_info,
    "benchmarks": benchmarks,
    "pairs": pairs,
    "verify": verify,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to the parser of ``prepare``."""
    add_commands(parser, "what", COMMANDS)


def run(args: argparse.Namespace) -> int:
    """Do what the parsed ``args`` ask for; the exit status.

    Raises:
        UserError: The input cannot be used, or a disk fails.
    """
    try:
        return COMMANDS[args.what].run(args)
    except BrokenPipeError:
        raise
    except OSError as error:  # such as a full disk; it names the file
        raise UserError(str(error)) from error
