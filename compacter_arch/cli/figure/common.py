"""What the commands of ``figure`` share."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from ...errors import UserError

if TYPE_CHECKING:
    from ...tables import Protocol


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def inches(text: str) -> float:
    """An argument that is the width of a picture."""
    if not 1 <= (number := float(text)) <= 40:
        raise argparse.ArgumentTypeError(f"{text} inches: give 1 to 40")
    return number


def choose_device(name: str) -> Any:
    """The device of ``--device``, tried out.

    Raises:
        UserError: it is not there.
    """
    import torch

    from ...tables.profile import one_line

    auto = "cuda" if torch.cuda.is_available() else "cpu"
    with one_line(f"--device {name}"):
        return torch.empty(0, device=auto if name == "auto" else name).device


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
