"""Plot losses, learning rate and validation metrics of training runs.

RUN is the name of a run below tb_logger/, a folder of TensorBoard's files, or a CSV file with the
columns iteration, lr, l_pix, set5_psnr and the like. BasicSR tells TensorBoard no learning rate.

examples:
  basicsr figure curves Compacter_SRx2 -o curves.png
  basicsr figure curves Compacter_SRx2.csv Compacter_SRx3.csv --metrics psnr ssim -o curves.pdf
"""

from __future__ import annotations

import argparse

from ..arguments import positive
from .common import inches


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a name, a folder or a CSV file")
    parser.add_argument(
        "--metrics", nargs="+", default=["psnr"], help="of the validation sets (default: psnr)"
    )
    parser.add_argument(
        "--smooth", type=positive, default=9, metavar="POINTS", help="mean of the loss (default: 9)"
    )
    parser.add_argument("--width", type=inches, default=6.9, help="inches (default: 6.9)")


def run(args: argparse.Namespace) -> None:
    """Read and draw."""
    from ...tables.curves import draw_curves, read_run

    draw_curves(
        [read_run(name) for name in args.runs],
        args.output,
        metrics=args.metrics,
        points=args.smooth,
        width=args.width,
    )
