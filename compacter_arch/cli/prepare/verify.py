"""Look through a prepared data set.

Decodes every image of a folder or an LMDB, or checks the sums of a raw store, and looks whether
names and sizes pair up. From scale 2 on it tells how many LQ images are bit for bit MATLAB's
bicubic of their GT, and which do not even resemble it. The status is 1 if there is a problem.

example:
  basicsr prepare verify datasets/Set5/GTmod2 --lq datasets/Set5/LRbicx2 --scale 2 --count 5
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

_NAMED = 10  # problems; more are counted


def configure(parser: argparse.ArgumentParser) -> None:
    """GT, ``--lq``, ``--scale`` and ``--count``."""
    parser.add_argument("gt", type=Path, metavar="GT", help="folder, NAME.lmdb or NAME.raw")
    parser.add_argument("--lq", type=Path, help="the same, of their degraded images")
    parser.add_argument("--scale", type=int, default=1, help="of GT to LQ (default: 1)")
    parser.add_argument("--count", type=int, help="the number of images that there must be")


def run(args: argparse.Namespace) -> int:
    """Print what was found; 1 if that is a problem."""
    from ...prepare import verify

    report = verify(args.gt, lq=args.lq, scale=args.scale, count=args.count)
    for problem in report.problems[:_NAMED]:
        print(problem, file=sys.stderr)
    if len(report.problems) > _NAMED:
        print(f"... and {len(report.problems) - _NAMED:,} more", file=sys.stderr)
    print(report.summary)
    return 1 if report.problems else 0
