"""What a table of results is made of: one row per method, one score per test set and metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Row:
    """One method at one scale or level.

    Attributes:
        method: its name.
        source: paper, table or repository file of published numbers; empty if measured here.
        training_data: ``DIV2K``, ``DF2K``, ``DFWB``, ...; empty if unknown or none.
        params: parameters of the network, not thousands of them.
        multi_adds: multiplications with addition for an output of 1280 x 720 pixels.
        latency: seconds for that output, median, measured here.
        memory: bytes, the highest use for that output above the network itself, measured here.
        scores: by test set, then by metric (``psnr`` in dB, ``ssim``, ``psnrb``).
    """

    method: str
    source: str = ""
    training_data: str = ""
    params: int | None = None
    multi_adds: float | None = None
    latency: float | None = None
    memory: float | None = None
    scores: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    @property
    def measured(self) -> bool:
        """Whether the scores were measured here."""
        return not self.source


@dataclass(frozen=True)
class Table:
    """Rows under one heading.

    Attributes:
        title: task and scale or level, such as ``Super-resolution x2``.
        sets: test sets, in the order of the columns.
        metrics: by name, in the order of the columns of each set.
        rows: the published ones first.
        notes: lines below the table: protocol, device, what is missing.
    """

    title: str
    sets: Sequence[str]
    metrics: Sequence[str]
    rows: Sequence[Row]
    notes: Sequence[str] = ()
