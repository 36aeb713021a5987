"""Plots of what the tables hold, one function each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError
from .complexity import Cost

FORMATS = (".pdf", ".png", ".svg")
BLUE, GRAY = "#1f5fa8", "0.35"
PAGE = 4096  # bytes, the least that a logarithmic axis shows in place of 0


def check_plot_file(file: Path) -> None:
    """Find out before a long measurement whether its plot can be written.

    Raises:
        UserError: matplotlib is missing, the format is none of ours, or the folder does not exist.
    """
    new_figure()
    if file.suffix.lower() not in FORMATS:
        raise UserError(f"{file}: the name of a plot must end in one of {', '.join(FORMATS)}")
    if not file.parent.is_dir():
        raise UserError(f"{file}: the folder {file.parent} does not exist")


def plot_profile(costs: Sequence[Cost], file: Path, title: str, caption: str) -> None:
    """Latency and memory of one network against the pixels of its input, logarithmic axes.

    Args:
        costs: one or more, of different sizes. The panel of memory is left out where it is unknown.
        file: PNG, PDF or SVG.
        title: what was measured.
        caption: how and where it was measured.
    """
    costs = sorted(costs, key=lambda cost: cost.size[0] * cost.size[1])
    pixels = [cost.size[0] * cost.size[1] for cost in costs]
    panels = [("latency", "ms", [cost.latency * 1e3 for cost in costs])]
    memory = [max(cost.memory, PAGE) / 2**20 for cost in costs if cost.memory is not None]
    if len(memory) == len(costs):
        panels.append(("peak memory", "MiB", memory))
    figure = new_figure(figsize=(max(6.5, 4.6 * len(panels)), 4.2), layout="constrained")
    figure.suptitle(title, fontweight="bold")
    row = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (name, unit, values) in zip(row, panels, strict=True):
        axes.loglog(pixels, values, "o-", color=BLUE)
        for x, value in zip(pixels, values, strict=True):
            text = f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
            above = {"xytext": (-4, 6), "textcoords": "offset points", "ha": "right"}
            axes.annotate(text, (x, value), **above)
        axes.set_xlim(pixels[0] / 1.8, pixels[-1] * 1.4)
        axes.set_ylim(min(values) / 1.6, max(values) * 1.8)
        sizes = [f"{cost.size[0]} x {cost.size[1]}" for cost in costs]
        axes.set_xticks(pixels, sizes, rotation=30, ha="right", rotation_mode="anchor")
        axes.minorticks_off()
        ticks = [f * 10.0**e for e in range(-4, 9) for f in (1, 2, 5)]
        bottom, top = axes.get_ylim()
        ticks = [tick for tick in ticks if bottom <= tick <= top]
        axes.set_yticks(ticks, [f"{tick:,.10g}" for tick in ticks])
        axes.set_xlabel("input in pixels (height x width)")
        axes.set_ylabel(f"{name} ({unit})")
        axes.grid(True, color="0.9")
        axes.spines[["top", "right"]].set_visible(False)
    figure.supxlabel(caption, fontsize="small", color=GRAY)
    figure.savefig(file, dpi=150)


def new_figure(**settings: Any) -> Any:
    """A matplotlib figure without a window and without its global state.

    Raises:
        UserError: matplotlib is missing.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise UserError('a plot needs matplotlib: pip install "compacter-arch[table]"') from error
    return Figure(**settings)
