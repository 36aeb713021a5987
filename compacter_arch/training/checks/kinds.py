"""Images that BasicSR reads as something else than they are: more bits, alpha, palettes, CMYK."""

from __future__ import annotations

from collections import defaultdict

from .headers import Header

DEEP = "16 bits per channel, of which 8 are read"
ALPHA = "alpha, which is dropped"
REDUCED = {
    "P": "a palette of at most 256 colors, which training images should not have",
    "PA": "a palette of at most 256 colors, which training images should not have",
    "CMYK": "CMYK, converted without its color profile",
    "LAB": "Lab colors, which are converted",
}
GRAY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")


class Kinds:
    """Counts images by what is lost of them; one line each, whatever their number."""

    def __init__(self) -> None:
        self.names: defaultdict[str, list[str]] = defaultdict(list)
        self.count = self.gray = 0

    def add(self, name: str, header: Header) -> None:
        """Look at an image.

        Args:
            name: what a message calls it.
            header: of it.
        """
        self.count += 1
        self.gray += header.mode in GRAY
        if header.deep:
            self.names[DEEP].append(name)
        if header.alpha:
            self.names[ALPHA].append(name)
        if header.mode in REDUCED:
            self.names[REDUCED[header.mode]].append(name)

    @property
    def all_gray(self) -> bool:
        """Whether there are images, and none of them has colors."""
        return 0 < self.count == self.gray

    def lines(self) -> list[str]:
        """A line for each kind: the first name, how many more, and what is lost."""
        return [f"{and_more(names)}: has {kind}" for kind, names in self.names.items()]


def and_more(names: list[str]) -> str:
    """The first of several names, and how many more there are."""
    return names[0] + (f" (and {len(names) - 1:,} more)" if len(names) > 1 else "")
