"""Pack the images of a folder into an LMDB.

In BasicSR's format: the key of an image is its name without suffix. PNG and JPEG files are packed
as they are, others as PNG. The LMDB appears when it is complete.

example:
  basicsr prepare lmdb DIV2K_sub/HR -o datasets/DIV2K/DIV2K_train_HR_sub.lmdb
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """INPUT and ``-o``."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder of images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="NAME.lmdb")


def run(args: argparse.Namespace) -> int:
    """Pack, and tell how many images were packed now."""
    from ...prepare import make_lmdb

    packed = make_lmdb(args.input, args.output)
    print(
        f"{args.output}: {packed} images packed" if packed else f"{args.output}: is there already"
    )
    return 0
