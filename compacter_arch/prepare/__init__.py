"""Datasets made ready for training: bicubic LR images and a demo set that needs no download."""

from __future__ import annotations

from .demo import make_demo
from .lr import make_lr
from .resize import imresize

__all__ = ["imresize", "make_demo", "make_lr"]
