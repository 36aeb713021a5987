"""Cut the images of a folder into sub-images.

They are read faster during training. Grid and names (0001_s001.png, ...) are those of BasicSR's
extract_subimages.py. What exists already is kept. With --scale the folder holds LR images, and
the sizes given are those of HR; the x2 that ends DIV2K's LR names is taken away.

example:
  basicsr prepare subimages DIV2K_train_HR -o DIV2K_sub/HR
  basicsr prepare subimages DIV2K_train_LR_bicubic/X2 -o DIV2K_sub/X2 --scale 2
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """INPUT, ``-o`` and the grid."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder of large images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for sub-images")
    for name, default, text in (
        ("crop_size", 480, "side of a sub-image in HR pixels"),
        ("step", 240, "distance from one to the next in HR pixels"),
        ("thresh_size", 0, "HR pixels that may be left over at the right and the bottom"),
        ("scale", 1, "scale of the images, if they are LR"),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=f"{text} ({default})")


def run(args: argparse.Namespace) -> int:
    """Cut, and tell how many images were not cut yet."""
    from ...prepare import make_subimages

    done = make_subimages(
        args.input,
        args.output,
        crop_size=args.crop_size,
        step=args.step,
        thresh_size=args.thresh_size,
        scale=args.scale,
    )
    print(f"{args.output}: {done} images cut, {len(list(args.output.glob('*.png')))} sub-images")
    return 0
