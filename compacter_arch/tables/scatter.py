"""Quality against cost of all methods in a table, each with its name beside its point."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .figure import RED, paper_style, save_figure
from .published import PAPER
from .rows import Table

COSTS = {  # field of a row: label of the axis, unit
    "params": ("Parameters (K)", 1e3),
    "multi_adds": ("Multi-Adds (G)", 1e9),
    "latency": ("Latency (ms)", 1e-3),
}
WIDE = 10  # a larger quotient of the highest and the lowest cost asks for a logarithmic axis
GRAY = "#5b7fa6"
PAD = 1.5  # points beside a label
FAR = 7.0  # points from which on a line leads to a label
Box = tuple[float, float, float, float]  # left, bottom, right, top


@dataclass(frozen=True)
class Point:
    """One method.

    Attributes:
        label: its name.
        cost: in the unit of the axis.
        psnr: dB.
        measured: whether here.
        ours: whether it is a Compacter.
    """

    label: str
    cost: float
    psnr: float
    measured: bool
    ours: bool


def find_points(table: Table, test_set: str, cost: str, ours: Collection[str]) -> list[Point]:
    """The methods whose cost and PSNR are known, the highest PSNR first.

    Args:
        table: see :func:`~.build.build_table`.
        test_set: one of the table.
        cost: key of :data:`COSTS`.
        ours: labels of the measured Compacters.

    Raises:
        UserError: there are none.
    """
    unit = COSTS[cost][1]
    points = [
        Point(
            row.method,
            getattr(row, cost) / unit,
            row.scores[test_set]["psnr"],
            row.measured,
            row.method in ours if row.measured else row.method == PAPER,
        )
        for row in table.rows
        if getattr(row, cost) and "psnr" in row.scores.get(test_set, {})
    ]
    if not points:
        why = "only measured ones have a latency, " if cost == "latency" else ""
        raise UserError(
            f"{table.title}, {test_set}: no method with both PSNR and {cost} ({why}"
            "and measuring needs the folder of the test set)"
        )
    return sorted(points, key=lambda point: -point.psnr)


def draw_scatter(
    points: Sequence[Point], title: str, cost: str, file: Path, width: float = 4.5
) -> None:
    """PSNR against cost.

    Args:
        points: from :func:`find_points`.
        title: what was measured.
        cost: key of :data:`COSTS`.
        file: PNG, PDF or SVG.
        width: of the picture in inches.
    """
    with paper_style() as figure_of:
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        figure = figure_of(figsize=(width, 0.72 * width), dpi=300, layout="constrained")
        axes = figure.add_subplot()
        for measured, ours in ((False, False), (True, False), (False, True), (True, True)):
            chosen = [p for p in points if (p.measured, p.ours) == (measured, ours)]
            if chosen:
                axes.scatter(
                    [p.cost for p in chosen],
                    [p.psnr for p in chosen],
                    s=90 if measured else 34,
                    marker="*" if measured else "o",
                    color=RED if ours else GRAY,
                    edgecolor="white",
                    linewidth=0.5,
                    zorder=3,
                    label=("Compacter, " if ours else "others, ")
                    + ("measured here" if measured else "published"),
                )
        _scale_axes(axes, [p.cost for p in points], [p.psnr for p in points])
        axes.set_xlabel(COSTS[cost][0], fontsize=9)
        axes.set_ylabel("PSNR (dB)", fontsize=9)
        axes.set_title(title, fontsize=9.5)
        axes.tick_params(labelsize=8)
        axes.grid(True, color="0.92", linewidth=0.6)
        axes.set_axisbelow(True)
        axes.spines[["top", "right"]].set_visible(False)
        renderer = FigureCanvasAgg(figure).get_renderer()
        figure.draw(renderer)  # settles the layout
        figure.set_layout_engine("none")
        _label(axes, points, renderer, _add_legend(axes, points, renderer))
        save_figure(figure, file)


def _add_legend(axes: Any, points: Sequence[Point], renderer: Any) -> Sequence[float]:
    """A legend in a corner where no point is, if there is one; returns where it is, in pixels."""
    pixels = axes.transData.transform([(p.cost, p.psnr) for p in points])
    room = 6 * axes.figure.dpi / 72
    for corner in ("lower right", "upper left", "upper right", "lower left", "best"):
        legend = axes.legend(fontsize=7.5, loc=corner, edgecolor="0.85", borderpad=0.5)
        left, bottom, right, top = extents = legend.get_window_extent(renderer).extents
        low, high = (left - room, bottom - room), (right + room, top + room)
        if not ((pixels > low) & (pixels < high)).all(axis=1).any():
            break
    return extents


def _scale_axes(axes: Any, costs: Sequence[float], scores: Sequence[float]) -> None:
    """Limits with room for labels; a logarithmic axis with plain numbers where it is needed."""
    low, high = min(costs), max(costs)
    if high > WIDE * low:
        axes.set_xscale("log")
        ticks = [f * 10.0**e for e in range(-3, 9) for f in (1, 2, 5)]
        ticks = [tick for tick in ticks if low / 1.6 <= tick <= high * 1.6]
        axes.set_xticks(ticks, [f"{tick:,.10g}" for tick in ticks])
        axes.minorticks_off()
        axes.set_xlim(low / 1.5, high * 1.8)
    else:
        room = 0.12 * (high - low) or 0.1 * high
        axes.set_xlim(low - room, high + 1.4 * room)
    room = 0.12 * (max(scores) - min(scores)) or 0.1
    axes.set_ylim(min(scores) - room, max(scores) + room)


def _label(axes: Any, points: Sequence[Point], renderer: Any, legend: Sequence[float]) -> None:
    """Write every name beside its point; with a thin line where it had to go further away."""
    pixel = axes.figure.dpi / 72
    texts = [
        axes.annotate(
            p.label,
            (p.cost, p.psnr),
            xytext=(0, 0),
            textcoords="offset points",
            ha="center",
            va="center",
            fontsize=7.5,
            color=RED if p.ours else "0.15",
            fontweight="bold" if p.ours else "normal",
            zorder=4,
        )
        for p in points
    ]
    sizes = []
    for text in texts:
        extent = text.get_window_extent(renderer)
        sizes.append((extent.width / pixel + 2 * PAD, extent.height / pixel))
    centers = axes.transData.transform([(p.cost, p.psnr) for p in points]) / pixel
    radii = [5.0 if p.measured else 3.5 for p in points]
    left, bottom, right, top = (side / pixel for side in legend)
    offsets = place_labels(
        [(float(x), float(y)) for x, y in centers],
        sizes,
        radii,
        tuple(side / pixel for side in axes.bbox.extents),
        [(left, bottom, right, top)],
    )
    for text, center, size, offset in zip(texts, centers, sizes, offsets, strict=True):
        text.set_position(offset)
        if line := _line(offset, size):
            ends = axes.transData.inverted().transform([center * pixel, (center + line) * pixel])
            axes.plot(*ends.T, color="0.6", linewidth=0.5, zorder=2, scalex=False, scaley=False)


def place_labels(
    points: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    radii: Sequence[float],
    bounds: Box,
    taken: Sequence[Box] = (),
) -> list[tuple[float, float]]:
    """Where to put the center of each label, from its point, so that nothing is covered.

    Each label in turn takes the first of several places around its point that is inside the bounds
    and meets no point, no label before it and nothing that is taken; if there is none, the place
    that covers least.

    Args:
        points: x and y, in one unit with all else.
        sizes: width and height of the labels.
        radii: of the points' markers.
        bounds: of the picture.
        taken: where no label may be.

    Returns:
        x and y from each point to its label's center.
    """
    markers = [(x - r, y - r, x + r, y + r) for (x, y), r in zip(points, radii, strict=True)]
    placed: list[Box] = []
    lines: list[Box] = []  # small boxes along the lines that lead to labels
    offsets = []
    for (x, y), (width, height), radius in zip(points, sizes, radii, strict=True):
        best: tuple[float, tuple[float, float], Box, list[Box]] | None = None
        for dx, dy in _places(width, height, radius):
            box = (
                x + dx - width / 2,
                y + dy - height / 2,
                x + dx + width / 2,
                y + dy + height / 2,
            )
            line = [
                (
                    x + t * end[0] - 0.5,
                    y + t * end[1] - 0.5,
                    x + t * end[0] + 0.5,
                    y + t * end[1] + 0.5,
                )
                for end in [_line((dx, dy), (width, height))]
                if end
                for t in np.linspace(0, 1, 12)
            ]
            cost = width * height - _overlap(box, bounds)
            cost += sum(_overlap(box, other) for other in (*markers, *placed, *lines, *taken))
            cost += sum(_overlap(part, other) for part in line for other in placed)
            if best is None or cost < best[0] - 1e-9:
                best = cost, (dx, dy), box, line
            if cost <= 1e-9:
                break
        assert best is not None
        offsets.append(best[1])
        placed.append(best[2])
        lines += best[3]
    return offsets


def _places(width: float, height: float, radius: float) -> list[tuple[float, float]]:
    """Centers of a label around its point, the nearest and most usual ones first."""
    places = []
    for distance in (1.0, 4.0, 8.0, 13.0, 19.0, 26.0):
        side, rise = radius + distance + width / 2, radius + distance + height / 2
        half = width / 4
        places += [(side, 0), (0, rise), (0, -rise), (-side, 0)]
        places += [(half, rise), (-half, rise), (half, -rise), (-half, -rise)]
        places += [(side, rise / 2), (side, -rise / 2), (-side, rise / 2), (-side, -rise / 2)]
        places += [(side, rise), (side, -rise), (-side, rise), (-side, -rise)]
    return places


def _line(offset: tuple[float, float], size: tuple[float, float]) -> tuple[float, float] | None:
    """Where the line from a point to its label ends; None if the label is near enough without."""
    x, y = (
        float(np.sign(center) * max(abs(center) - side / 2, 0))
        for center, side in zip(offset, size, strict=True)
    )
    return (x, y) if np.hypot(x, y) > FAR else None


def _overlap(a: Box, b: Box) -> float:
    """The area that two boxes share."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0.0) * max(height, 0.0)
