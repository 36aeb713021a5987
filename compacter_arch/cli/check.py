"""Say what an option file would do, without doing it.

Finds misspelt and missing keys, data that is missing, empty, damaged or does not fit, weights
that do not fit; tries the metrics on one image and one step of training on one batch. Creates
nothing. `train` and `test` run the same checks before they start.

    basicsr check -opt options/train_Compacter_SRx2_demo.yml
"""

from __future__ import annotations

import argparse

from .common import add_option_file, read_checked


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_option_file(parser)


def run(args: argparse.Namespace) -> int:
    """Check the file as a training file if it has a ``train`` section, else as a test file."""
    from ..training.options import find_option_file, read_options

    is_train = "train" in read_options(find_option_file(args.opt))
    _, file, found = read_checked(args, is_train)
    for line in found.facts:
        print(line)
    print(f"{file}: ready to {'train' if is_train else 'test'}")
    return 0
