"""Write a test set in the folders that option files expect.

A folder of HR images becomes datasets/NAME/GT (the same pixels as PNG) and, for each scale S,
GTmodS (cropped to a multiple of S) and LRbicxS (bit for bit MATLAB's bicubic). --scales without
a number writes GT alone, for denoising and JPEG artefacts. What exists already is kept.

example:
  basicsr prepare benchmarks Set5/HR --name Set5 --scales 2 3 4
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """INPUT, ``--name``, ``-o`` and ``--scales``."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder of HR images")
    parser.add_argument("--name", required=True, help="name of the test set, such as Set5")
    parser.add_argument(
        "-o", "--output", type=Path, default=Path("datasets"), help="default: datasets"
    )
    parser.add_argument(
        "--scales", type=int, nargs="*", default=(2, 3, 4), metavar="S", help="default: 2 3 4"
    )


def run(args: argparse.Namespace) -> int:
    """Write the test set and tell what it holds."""
    from ...prepare import make_benchmark

    folder = make_benchmark(args.input, args.name, args.output, scales=args.scales)
    for path in sorted(folder.iterdir()):
        print(f"{path}: {len(list(path.glob('*.png')))} images")
    return 0
