"""The tasks of the networks that we bring along, in the words of the page."""

from __future__ import annotations

from ..zoo import TASKS

WORDS = {
    "sr_x2": "Enlarge 2 times",
    "sr_x3": "Enlarge 3 times",
    "sr_x4": "Enlarge 4 times",
    "color_dn": "Remove noise",
    "gray_dn": "Remove noise, gray photograph",
    "jpeg": "Remove blocks of JPEG",
    "derain": "Remove rain",
    "low_light": "Brighten a dark photograph",
}


def choices() -> list[tuple[str, str]]:
    """Words and name of each task; one without words goes by its name."""
    return [(WORDS.get(task, task), task) for task in TASKS]
