"""Write a small data set without a download.

It is made from the photographs inside scikit-image and goes to datasets/demo. What exists
already is kept.

example:
  basicsr prepare demo --root .
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """``--root``."""
    parser.add_argument(
        "--root", type=Path, default=Path(), help="folder that holds datasets/ (default: here)"
    )


def run(args: argparse.Namespace) -> int:
    """Write the data set and tell what it holds."""
    from ...prepare import make_demo

    demo = make_demo(args.root)
    for folder in sorted({path.parent for path in demo.rglob("*.png")}):
        print(f"{folder}: {len(list(folder.glob('*.png')))} images")
    return 0
