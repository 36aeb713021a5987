"""Progress of files and of the tiles or frames of each, on a terminal."""

from __future__ import annotations

import os
import sys
from typing import Any

from tqdm import tqdm


class Bars:
    """Two bars with the time left, used in a ``with`` statement; none where there is no terminal.

    Args:
        count: of images and videos.
    """

    def __init__(self, count: int) -> None:
        # A terminal without a width shows no bar at all.
        wide = sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
        common: dict[str, Any] = {"dynamic_ncols": True, "disable": not wide, "leave": False}
        self.images = tqdm(total=count, unit="image", desc="images", position=0, **common)
        self.tile = tqdm(total=1, unit="tile", desc="tiles", position=1, **common)

    def __enter__(self) -> Bars:
        return self

    def __exit__(self, *exception: object) -> None:
        self.tile.close()
        self.images.close()

    def tiles(self, done: int, total: int) -> None:
        """Tell of tiles of the current image."""
        self.tell("tile", done, total)

    def frames(self, done: int, total: int) -> None:
        """Tell of frames of the current video; ``total`` is 0 where it is not known."""
        self.tell("frame", done, total)

    def tell(self, unit: str, done: int, total: int) -> None:
        """Tell of parts of the current file."""
        self.tile.unit, self.tile.total = unit, total or None
        self.tile.set_description_str(f"{unit}s", refresh=False)
        self.tile.update(done - self.tile.n)

    def image(self) -> None:
        """Tell of a file that is finished."""
        self.images.update()
        self.tile.reset(total=1)
