"""What the commands of this folder have in common."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from compacter_arch.allocator import keep_freed_memory
from compacter_arch.cli.arguments import choose_device, positive
from compacter_arch.errors import UserError

ROUNDS = 7


def common_arguments(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that every measurement takes; add your own.

    Args:
        description: the docstring of the command.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cpu", help="cpu, cuda, ... (default: cpu)")
    parser.add_argument("--threads", type=positive, help="of a CPU (default: PyTorch's choice)")
    parser.add_argument(
        "--rounds",
        type=positive,
        default=ROUNDS,
        help=f"each measures everything once; medians are told (default: {ROUNDS})",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="Markdown file where the report takes the place of what this command wrote before",
    )
    return parser


def batch_arguments(description: str | None) -> argparse.ArgumentParser:
    """As :func:`common_arguments`, with the sizes of a batch of a training."""
    parser = common_arguments(description)
    parser.add_argument("--batch", type=positive, default=8, help="images (default: 8)")
    parser.add_argument(
        "--patch", type=positive, default=32, help="side of the LR images in pixels (default: 32)"
    )
    return parser


def begin(args: argparse.Namespace) -> torch.device:
    """Set threads, seed and memory allocation as the ``basicsr`` command does; for all networks.

    Raises:
        UserError: the device is not there.
    """
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    keep_freed_memory()
    return choose_device(args.device)


def run(main: Callable[[], int]) -> None:
    """End the process as ``main`` says; an error of the user is one line."""
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
