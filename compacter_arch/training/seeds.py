"""Seeds that follow from numbers, and the generators that they set."""

from __future__ import annotations

import hashlib
import random
from typing import NamedTuple

import numpy as np
import torch


class Sample(NamedTuple):
    """The number of an image of the data set, and the seed of what is drawn of it."""

    image: int
    seed: int


def seed_of(*parts: int | str) -> int:
    """A seed in [0, 2**32) that follows from numbers and words, and from nothing else."""
    text = " ".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=4).digest(), "big")


def seed_generators(seed: int) -> None:
    """Seed the global generators, which BasicSR's data sets draw from; not those of GPUs."""
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
