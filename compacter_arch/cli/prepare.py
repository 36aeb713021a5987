"""Make data sets ready for training.

Images are written whole or not at all, and those that exist are kept.

    basicsr prepare demo
    basicsr prepare lr Set5/HR -o datasets/Set5/LRbicx2 --gt datasets/Set5/GTmod2 --scale 2
"""

from __future__ import annotations

import argparse
from pathlib import Path

from compacter_arch.prepare import make_demo, make_lr

_DEMO = """\
Write a small super-resolution dataset, datasets/demo/{train,val}/{GT,LRx2}, made from the
photographs inside scikit-image; nothing is downloaded. What exists already is kept.

example:
  basicsr prepare demo --scale 2
"""
_LR = """\
Make the bicubic LR image of every image in a folder, bit for bit as MATLAB's imresize does.
What exists already is kept. With --gt the HR images, cropped to a multiple of the scale, are
written too: use them as dataroot_gt where sides do not divide or the HR images are no PNGs.

example:
  basicsr prepare lr datasets/Set5/HR -o datasets/Set5/LRx2 --gt datasets/Set5/GTx2 --scale 2
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the sub-commands ``demo`` and ``lr`` to the parser of ``prepare``."""
    commands = parser.add_subparsers(dest="what", required=True, metavar="{demo,lr}")

    demo = _add(commands, "demo", "a small dataset without a download", _DEMO)
    demo.add_argument(
        "--root", type=Path, default=Path(), help="folder that holds datasets/ (default: here)"
    )
    demo.add_argument("--scale", type=int, default=2, choices=(2, 3, 4), help="default: 2")

    lr = _add(commands, "lr", "bicubic LR images of a folder of HR images", _LR)
    lr.add_argument("input", type=Path, metavar="INPUT", help="folder of HR images")
    lr.add_argument("-o", "--output", type=Path, required=True, help="folder for the LR images")
    lr.add_argument("--scale", type=int, required=True, help="2, 3, 4, ...")
    lr.add_argument("--gt", type=Path, help="folder for the cropped HR images (default: none)")


def run(args: argparse.Namespace) -> int:
    """Do what the parsed ``args`` ask for; the exit status.

    Raises:
        UserError: The input cannot be used.
    """
    if args.what == "demo":
        demo = make_demo(args.root, args.scale)
        for half in ("train", "val"):
            count = len(list((demo / half / "GT").glob("*.png")))
            print(f"{demo / half}: {count} pairs in GT and LRx{args.scale}")
    else:
        written = make_lr(args.input, args.output, args.scale, gt=args.gt)
        print(f"{args.output}: {written} LR images written, x{args.scale}")
    return 0


def _add(
    commands: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
) -> argparse.ArgumentParser:
    return commands.add_parser(
        name,
        help=summary,
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
