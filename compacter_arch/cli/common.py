"""What ``train``, ``test`` and ``check`` share: BasicSR's flags and the way to checked options."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError

if TYPE_CHECKING:
    from ..training.checks import Findings
    from ..training.options import Options


def add_option_file(parser: argparse.ArgumentParser) -> None:
    """``-opt`` and ``--force_yml``."""
    parser.add_argument("-opt", required=True, metavar="FILE", help="option file (YAML)")
    parser.add_argument(
        "--force_yml",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change options, e.g. train:ema_decay=0.999 datasets:train:gt_size=96",
    )


def add_run_flags(parser: argparse.ArgumentParser) -> None:
    """BasicSR's other flags of a run."""
    parser.add_argument("--launcher", choices=("none", "pytorch", "slurm"), default="none")
    parser.add_argument("--debug", action="store_true", help="short intervals, no TensorBoard")
    parser.add_argument(  # given by torch.distributed.launch, read from the environment instead
        "--local_rank", "--local-rank", type=int, default=0, help=argparse.SUPPRESS
    )


def read_checked(args: argparse.Namespace, is_train: bool) -> tuple[Options, Path, Findings]:
    """Read the option file that the arguments name, change it as they say, and check it.

    Returns:
        Options as read (not yet completed), their file, and what the checks found.

    Raises:
        UserError: one line per problem.
    """
    from ..training.checks import Findings, check_options
    from ..training.options import find_option_file, force_options, keep_datasets, read_options
    from ..zoo import resolve_weights

    file = find_option_file(args.opt)
    opt = read_options(file)
    force_options(opt, args.force_yml)
    if getattr(args, "datasets", None):
        keep_datasets(opt, file, args.datasets)
    try:
        resolve_weights(opt)
    except UserError as error:
        raise UserError(f"{file}: {error}") from error
    if int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", 0))) > 0:
        return opt, file, Findings()  # the first process checks for all
    found = check_options(opt, file, Path.cwd(), is_train)
    for line in found.warnings:
        print(f"{file}: warning: {line}", file=sys.stderr)
    return opt, file, found


@contextmanager
def one_line_errors(debug: bool) -> Iterator[None]:
    """Data, a disk or a GPU that fails in the middle of a run: one line, a traceback if ``debug``.

    An error of a loader's worker comes with the worker's traceback; its last line is the error.
    """
    import lmdb
    import torch

    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        if debug:
            raise
        remedy = (
            "make batch_size_per_gpu or gt_size smaller, leave out keep_on_device, or set "
            "network_g: use_checkpoint: true"
        )
        raise UserError(f"the GPU's memory is too small: {remedy}") from error
    except (AssertionError, ValueError, OSError, lmdb.Error) as error:
        if debug:
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(re.sub(r"^[\w.]*Error: ", "", lines[-1])) from error
