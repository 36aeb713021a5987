"""What is lost where images become three channels of 8 bits, as BasicSR reads them."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from compacter_arch.errors import UserError
from compacter_arch.training.checks.headers import Header
from compacter_arch.training.checks.kinds import Kinds

from .files import image_header
from .jobs import in_parallel


def tell_losses(paths: Sequence[Path], workers: int | None = None) -> None:
    """Tell on stderr, in one line for each kind of loss, of which images what is lost.

    Args:
        paths: Images; of those that cannot be read nothing is told.
        workers: Threads; default one per core.
    """
    kinds = Kinds()
    headers = in_parallel(_header_of, paths, None, workers)
    for path, header in zip(paths, headers, strict=True):
        if header is not None:
            kinds.add(str(path), header)
    for line in kinds.lines():
        print(f"warning: {line}", file=sys.stderr)


def _header_of(path: Path) -> Header | None:
    try:
        return image_header(path)
    except UserError:  # told where it is read
        return None
