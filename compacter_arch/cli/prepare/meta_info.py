"""List the images of a folder with their sizes.

One line "name.png (height,width,channels)" each, as BasicSR's option meta_info_file wants them.

example:
  basicsr prepare meta_info DIV2K_sub/HR -o datasets/DIV2K/meta_info_sub.txt
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """INPUT and ``-o``."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder of images")
    parser.add_argument("-o", "--output", type=Path, required=True, help="text file")


def run(args: argparse.Namespace) -> int:
    """Write the list and tell its length."""
    from ...prepare import make_meta_info

    print(f"{args.output}: {make_meta_info(args.input, args.output)} images listed")
    return 0
