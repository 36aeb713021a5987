"""Make the bicubic LR image of every image in a folder.

Bit for bit as MATLAB's imresize does. What exists already is kept. With --gt the HR images,
cropped to a multiple of the scale, are written too: use them as dataroot_gt where sides do not
divide or the HR images are no PNGs.

example:
  basicsr prepare lr Set5/HR -o datasets/Set5/LRbicx2 --gt datasets/Set5/GTmod2 --scale 2
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """INPUT, ``-o``, ``--scale`` and ``--gt``."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder of HR images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for LR images")
    parser.add_argument("--scale", type=int, required=True, help="2, 3, 4, ...")
    parser.add_argument("--gt", type=Path, help="folder for the cropped HR images (default: none)")


def run(args: argparse.Namespace) -> int:
    """Make the LR images and tell how many are new."""
    from ...prepare import make_lr

    written = make_lr(args.input, args.output, args.scale, gt=args.gt)
    print(f"{args.output}: {written} LR images written, x{args.scale}")
    return 0
