"""Train a network as an option file says.

Results go to experiments/<name> and tb_logger/<name> below the current directory. Ctrl-C, SIGTERM
and --time_limit save a state first; --auto_resume goes on from it.

    basicsr train -opt options/train_Compacter_SRx2_demo.yml
    torchrun --nproc_per_node=4 -m compacter_arch train -opt FILE --launcher pytorch
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from .common import add_option_file, add_run_flags, one_line_errors, read_checked

EXIT_STATUS = {"": 0, "time limit": 0, "SIGINT": 130, "SIGTERM": 143}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_option_file(parser)
    parser.add_argument("--auto_resume", action="store_true", help="go on from the newest state")
    parser.add_argument(
        "--time_limit",
        type=float,
        metavar="MINUTES",
        help="save, stop and exit with status 0 before this time is over",
    )
    add_run_flags(parser)


def run(args: argparse.Namespace) -> int:
    """Check, train, and turn the reason of the end into the exit status."""
    from ..training.interrupts import StopRequest
    from ..training.options import complete_options
    from ..training.train import train

    started = time.monotonic()
    opt, file, _ = read_checked(args, is_train=True)
    opt = complete_options(
        opt,
        Path.cwd(),
        True,
        launcher=args.launcher,
        auto_resume=args.auto_resume,
        debug=args.debug,
    )
    limit = None if args.time_limit is None else args.time_limit * 60
    with StopRequest(limit, started) as stop, one_line_errors(args.debug):
        reason = train(opt, file, stop)
    return EXIT_STATUS.get(reason, 1)
