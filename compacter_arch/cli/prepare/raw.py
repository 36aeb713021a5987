"""Decode images once into a raw store.

Training reads crops of it without decoding anything: RawPairedImageDataset, or io_backend raw. From
a folder or an LMDB, sub-images or whole images; it takes three bytes per pixel. The store appears
when it is complete and was read back.

example:
  basicsr prepare raw DIV2K_train_HR -o datasets/DIV2K/DIV2K_train_HR.raw
"""

from __future__ import annotations

import argparse
from pathlib import Path


def configure(parser: argparse.ArgumentParser) -> None:
    """INPUT and ``-o``."""
    parser.add_argument("input", type=Path, metavar="INPUT", help="folder of images, or NAME.lmdb")
    parser.add_argument("-o", "--output", type=Path, required=True, help="NAME.raw")


def run(args: argparse.Namespace) -> int:
    """Decode, and tell how many images were decoded now."""
    from ...prepare import make_raw

    decoded = make_raw(args.input, args.output)
    print(f"{args.output}: {f'{decoded} images decoded' if decoded else 'is there already'}")
    return 0
