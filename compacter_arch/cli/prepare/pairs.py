"""Bring a paired data set into the folders lq and gt.

For deraining and low light, where archives name the two images of a pair differently: rain-001.png
and norain-001.png, low00690.png and normal00690.png. What all names of a folder have in common at
their beginnings and ends does not count; the name of GT is kept. Files become hard links, copies
on another disk, or PNGs where the formats of a pair differ.

example:
  basicsr prepare pairs Train/Low Train/Normal -o datasets/LOLv2/real/train
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """LQ, GT and ``-o``."""
    parser.add_argument("lq", type=Path, metavar="LQ", help="folder of degraded images")
    parser.add_argument("gt", type=Path, metavar="GT", help="folder of their ground truth")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder for lq and gt")


def run(args: argparse.Namespace) -> int:
    """Pair the images and tell how many there are."""
    from ...prepare import make_pairs

    print(f"{args.output}: {make_pairs(args.lq, args.gt, args.output)} pairs in lq and gt")
    return 0
