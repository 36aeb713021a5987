"""Commands below a command: a module each, with ``configure`` and ``run``."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from types import ModuleType


def add_commands(
    parser: argparse.ArgumentParser, dest: str, modules: Mapping[str, ModuleType]
) -> list[argparse.ArgumentParser]:
    """Give ``parser`` a command for each module; its docstring is the help.

    Args:
        parser: of the command above.
        dest: where the name of the chosen one goes.
        modules: by the name of the command.

    Returns:
        The parser of each, which its module has configured.
    """
    parsers = []
    commands = parser.add_subparsers(dest=dest, required=True, metavar=dest)
    for name, module in modules.items():
        summary, _, details = (module.__doc__ or "").partition("\n")
        command = commands.add_parser(
            name,
            help=summary.rstrip("."),
            description=f"{summary}\n{details}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        module.configure(command)
        parsers.append(command)
    return parsers
