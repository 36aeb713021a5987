"""Data sets made ready for training and testing, each step safe to interrupt and to repeat."""

from __future__ import annotations

from .benchmarks import make_benchmark
from .demo import make_demo
from .lmdb_files import make_lmdb
from .lr import make_lr
from .meta_info import make_meta_info
from .pairs import make_pairs
from .raw import make_raw
from .resize import imresize
from .subimages import make_subimages
from .verification import Report, verify

__all__ = [
    "Report",
    "imresize",
    "make_benchmark",
    "make_demo",
    "make_lmdb",
    "make_lr",
    "make_meta_info",
    "make_pairs",
    "make_raw",
    "make_subimages",
    "verify",
]
