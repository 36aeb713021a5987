"""Draw the figures of a paper: visual comparisons, scatter plots, curves, attribution maps.

They are written as PNG, PDF or SVG, and need matplotlib: pip install "compacter-arch[table]".

    basicsr figure compare sr Set14/barbara --scale 4 -o barbara.pdf
    basicsr figure scatter sr --scale 2 --set Urban100 -o scatter.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ...errors import UserError
from ..subcommands import add_commands
from . import attribution, compare, curves, scatter

COMMANDS = {
    "compare": compare,
    "scatter": scatter,
    "curves": curves,
    "attribution": attribution,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands to the parser of ``figure``."""
    for command in add_commands(parser, "what", COMMANDS):
        command.add_argument(
            "-o", "--output", type=Path, required=True, metavar="FILE", help="PNG, PDF or SVG"
        )


def run(args: argparse.Namespace) -> int:
    """Draw, write and tell where."""
    from ...tables.plots import check_plot_file

    check_plot_file(args.output)
    try:
        COMMANDS[args.what].run(args)
    except BrokenPipeError:
        raise
    except OSError as error:  # such as a full disk; it names the file
        raise UserError(str(error)) from error
    print(f"written: {args.output}")
    return 0
