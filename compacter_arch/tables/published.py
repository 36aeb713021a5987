"""Published numbers, from published.csv beside this file: one line per method, scale and test set.

Blank where no source was found. The numbers of Compacter and ASID are a reader's transcription of
the papers, and their ``source`` says so. Compacter's denoising rows hold an SSIM that is not the
mean over the channels; it is taken to be ``ssim3d``, see ``metrics/ssim3d.py``.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from functools import lru_cache
from importlib.resources import files

from .rows import Row

PAPER = "Compacter (paper)"
METRICS = ("psnr", "ssim", "ssim3d")


def published_rows(task: str, scale_or_level: int | None, sets: Sequence[str]) -> list[Row]:
    """What is published for some test sets.

    Args:
        task: ``sr``, ``color_dn``, ``gray_dn``, ``jpeg``, ``derain`` or ``low_light``.
        scale_or_level: Scale, sigma or quality; None for ``derain`` and ``low_light``.
        sets: Test sets without their level: ``Set5``, ``CBSD68``, ``LOL_eval15``.

    Returns:
        The methods with a score on any of the sets: bicubic, then by number of parameters (the
        unknown ones at the end), the paper's own row last. Empty if nothing is published.
    """
    level = "" if scale_or_level is None else str(scale_or_level)
    methods: dict[str, list[dict[str, str]]] = {}
    for line in _lines():
        if (line["task"], line["level"]) == (task, level) and line["set"] in sets:
            methods.setdefault(line["method"], []).append(line)
    return sorted(map(_row, methods.values()), key=_order)


@lru_cache(maxsize=1)
def _lines() -> tuple[dict[str, str], ...]:
    text = (files(__package__) / "published.csv").read_text(encoding="utf-8")
    return tuple(csv.DictReader(text.splitlines()))


def _row(lines: Sequence[dict[str, str]]) -> Row:
    """Join the lines of one method; all but the scores is the same in each."""
    first = lines[0]
    return Row(
        method=first["method"],
        source=first["source"],
        training_data=first["training_data"],
        params=round(float(first["params_k"]) * 1e3) if first["params_k"] else None,
        multi_adds=float(first["multi_adds_g"]) * 1e9 if first["multi_adds_g"] else None,
        scores={line["set"]: {m: float(line[m]) for m in METRICS if line[m]} for line in lines},
    )


def _order(row: Row) -> tuple[bool, bool, float, str]:
    params = math.inf if row.params is None else row.params
    return row.method == PAPER, row.method != "bicubic", params, row.method
