"""Arguments that several commands take."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

WEIGHTS = Path("experiments/pretrained_models")


def add_models(parser: argparse.ArgumentParser) -> None:
    """The networks of a table or a figure."""
    parser.add_argument(
        "models",
        nargs="*",
        metavar="[NAME=]FILE",
        help="a checkpoint of a Compacter, or an option file of any network "
        f"(before the flags; default: what fits in {WEIGHTS})",
    )


def positive(text: str) -> int:
    """An argument that is a whole number of at least 1."""
    if (number := int(text)) < 1:
        raise ValueError
    return number


def choose_device(name: str) -> Any:
    """The device of ``--device``, tried out.

    Raises:
        UserError: it is not there.
    """
    import torch

    from ..tables.profile import one_line

    auto = "cuda" if torch.cuda.is_available() else "cpu"
    with one_line(f"--device {name}"):
        return torch.empty(0, device=auto if name == "auto" else name).device
