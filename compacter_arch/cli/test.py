"""Test a network on the test sets of an option file.

Results go to results/<name> below the current directory.

    basicsr test -opt options/test_Compacter_SRx2.yml
    basicsr test -opt options/test_Compacter_SRx2.yml --datasets Set5 --fast
"""

from __future__ import annotations

import argparse
from pathlib import Path

from .common import add_option_file, add_run_flags, one_line_errors, read_checked


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_option_file(parser)
    add_run_flags(parser)
    parser.add_argument(
        "--datasets", nargs="+", metavar="NAME", help="test these of the file alone, such as Set5"
    )
    parser.add_argument(
        "--fast",
        nargs="?",
        const="fp32",
        choices=("fp32", "bf16", "fp16"),
        help="on a CPU by kernels that a C++ compiler makes for it, with bfloat16 factors if told "
        "so; on a GPU in mixed precision (default: fp32)",
    )


def run(args: argparse.Namespace) -> int:
    """Check, test, and print one line per data set."""
    from ..training.options import complete_options
    from ..training.test import evaluate

    opt, _, _ = read_checked(args, is_train=False)
    opt = complete_options(opt, Path.cwd(), False, launcher=args.launcher, debug=args.debug)
    with one_line_errors(args.debug):
        results = evaluate(opt, args.fast)
    for name, metrics in results.items():
        print(name, *(f"{metric} {value:.4f}" for metric, value in metrics.items()), sep="  ")
    return 0
