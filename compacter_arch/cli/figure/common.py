"""What the commands of ``figure`` share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from ...errors import UserError

if TYPE_CHECKING:
    from ...tables import Protocol


def inches(text: str) -> float:
    """An argument that is the width of a picture."""
    if not 1 <= (number := float(text)) <= 40:
        raise argparse.ArgumentTypeError(f"{text} inches: give 1 to 40")
    return number


def one_protocol(
    task: str, scale: int | None, level: int | None, test_set: str | None = None
) -> Protocol:
    """The one protocol of a task that a figure shows.

    Args:
        task: its name.
        scale: of super-resolution; None where there is one only.
        level: sigma or quality; None where there is one only.
        test_set: the only one; None for all.

    Raises:
        UserError: there is no such protocol, or more than one.
    """
    from ...tables import protocols

    scales = [] if scale is None else [scale]
    levels = [] if level is None else [level]
    wanted = protocols(task, scales, levels, [test_set] if test_set else [])
    if len(wanted) > 1:
        flag = "--scale" if task == "sr" else "--level"
        raise UserError(f"{task}: give {flag}, one of {', '.join(str(p.level) for p in wanted)}")
    return wanted[0]
