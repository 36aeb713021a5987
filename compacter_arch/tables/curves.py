"""Training curves, from TensorBoard's files or from CSV."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import UserError
from .figure import paper_style, save_figure
from .render import LABELS

TB_LOGGER = Path("tb_logger")
PALETTE = ("#d62728", "#1f5fa8", "#2a8f4f", "#e58a1f", "#7b4fa3", "#5d4037", "#17a2b8", "#666666")
ORDER = ("losses/", "lr", "metrics/")  # of the panels
STEEP = 10  # a larger quotient of the highest and the lowest loss asks for a logarithmic axis

Curve = Mapping[int, float]  # by iteration
Run = Mapping[str, Curve]  # by BasicSR's tag: losses/l_pix, lr, metrics/Set5/psnr


def read_run(name: str) -> tuple[str, Run]:
    """A run by its name below ``tb_logger``, its folder of TensorBoard's files or its CSV file.

    A CSV file has a column ``iteration`` and columns such as ``lr``, ``l_pix`` and ``set5_psnr``.

    Returns:
        A short name and the curves.

    Raises:
        UserError: there is nothing of the kind, or nothing in it.
    """
    path = next((p for p in (Path(name), TB_LOGGER / name) if p.exists()), None)
    if path is None:
        raise UserError(f"{name}: no such file or folder, nor {TB_LOGGER / name}")
    run = _read_events(path) if path.is_dir() else _read_csv(path)
    run = {tag: dict(sorted(curve.items())) for tag, curve in run.items() if curve}
    if not run:
        raise UserError(f"{path}: no curves in it")
    return path.resolve().name if path.is_dir() else path.stem, run


def _read_events(folder: Path) -> dict[str, dict[int, float]]:
    """All scalars; of an iteration that was repeated after a resume, the later value."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not list(folder.glob("*tfevents*")):
        raise UserError(f"{folder}: no TensorBoard files (*tfevents*) in this folder")
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    wanted = [tag for tag in events.Tags()["scalars"] if tag.startswith(ORDER)]
    return {tag: {e.step: e.value for e in events.Scalars(tag)} for tag in wanted}


def _read_csv(file: Path) -> dict[str, dict[int, float]]:
    try:
        lines = list(csv.DictReader(file.read_text(encoding="utf-8").splitlines()))
    except UnicodeDecodeError as error:
        raise UserError(f"{file}: not a CSV file") from error
    if not lines or "iteration" not in lines[0]:
        raise UserError(f"{file}: no column `iteration`")
    run: dict[str, dict[int, float]] = {}
    for number, line in enumerate(lines, 2):
        for column, text in line.items():
            if column == "iteration" or not text:
                continue
            try:
                run.setdefault(_tag(column), {})[int(line["iteration"])] = float(text)
            except (TypeError, ValueError) as error:
                raise UserError(f"{file}: line {number}, {column}: not a number") from error
    return run


def _tag(column: str) -> str:
    """BasicSR's tag of a column: ``l_pix``, ``lr``, ``set5_psnr``."""
    test_set, _, metric = column.rpartition("_")
    if column.startswith("l_"):
        return f"losses/{column}"
    return f"metrics/{test_set.capitalize()}/{metric}" if metric in LABELS and test_set else column


def choose_panels(runs: Sequence[Run], metrics: Sequence[str] = ("psnr",)) -> list[str]:
    """The tags to draw: losses, learning rate, and of each validation set some metrics."""
    tags = dict.fromkeys(tag for run in runs for tag in run)
    chosen = [tag for tag in tags if tag.startswith(ORDER[:2]) or tag.split("/")[-1] in metrics]
    return sorted(chosen, key=lambda tag: [tag.startswith(start) for start in ORDER].index(True))


def smooth(values: Sequence[float], points: int) -> np.ndarray:
    """The mean over so many points around each, fewer at the ends."""
    array, half = np.asarray(values, dtype=float), points // 2
    return np.array([array[max(i - half, 0) : i + half + 1].mean() for i in range(len(array))])


def draw_curves(
    runs: Sequence[tuple[str, Run]],
    file: Path,
    *,
    metrics: Sequence[str] = ("psnr",),
    points: int = 9,
    width: float = 6.9,
) -> None:
    """A panel for each loss, the learning rate and each validation set; a colour for each run.

    Args:
        runs: name and curves.
        file: PNG, PDF or SVG.
        metrics: of the validation sets.
        points: losses are drawn pale, and their mean over so many points on top.
        width: of the picture in inches.

    Raises:
        UserError: there is nothing to draw.
    """
    panels = choose_panels([run for _, run in runs], metrics)
    if not panels:
        raise UserError(f"{runs[0][0]}: neither losses nor learning rate nor {', '.join(metrics)}")
    columns = 2 if len(panels) == 4 else min(len(panels), 3)
    rows = math.ceil(len(panels) / columns)
    legend = 0.28 if len(runs) > 1 else 0.0
    with paper_style() as figure_of:
        size = width, (0.78 if columns > 2 else 0.6) * width / columns * rows + legend
        figure = figure_of(figsize=size, dpi=300, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        handles: dict[str, Any] = {}
        for axes, tag in zip(grid.flat, panels, strict=False):
            for (name, run), color in zip(runs, _colors(len(runs)), strict=True):
                if tag in run:
                    handles.setdefault(name, _draw(axes, tag, run[tag], color, points))
            _finish(axes, tag, [run[tag] for _, run in runs if tag in run], points)
        if legend:
            figure.legend(
                list(handles.values()),
                list(handles),
                loc="outside upper center",
                ncols=min(len(handles), 4),
                fontsize=8,
                frameon=False,
            )
        save_figure(figure, file)


def _draw(axes: Any, tag: str, curve: Curve, color: str, points: int) -> Any:
    """One curve; of a metric also its best value. Returns what the legend shows."""
    x, y = list(curve), list(curve.values())
    if tag.startswith("losses/"):
        axes.plot(x, y, color=color, alpha=0.25, linewidth=0.6)
        return axes.plot(x, smooth(y, points), color=color, linewidth=1.2)[0]
    if tag == "lr":
        return axes.plot(x, y, color=color, linewidth=1.2)[0]
    best = int(np.argmax(y))
    line = axes.plot(x, y, "-o", color=color, linewidth=1.2, markersize=2.5)[0]
    above = {"xytext": (0, 4), "textcoords": "offset points", "ha": "right", "fontsize": 7}
    digits = 2 if "psnr" in tag else 4
    axes.annotate(f"{y[best]:.{digits}f}", (x[best], y[best]), color=color, **above)
    return line


def _finish(axes: Any, tag: str, curves: Sequence[Curve], points: int) -> None:
    """Axes, their labels and the title."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    *_, test_set, metric = ("", *tag.split("/"))
    metric_label = LABELS.get(metric, metric) + (" (dB)" if metric.startswith("psnr") else "")
    titles = {"losses": f"Training loss ({metric})", "": "Learning rate"}
    axes.set_title(titles.get(test_set, f"{test_set}, {metric_label}"), fontsize=9)
    if test_set == "losses":
        smoothed = np.concatenate([smooth(list(c.values()), points) for c in curves])
        if smoothed.min() > 0 and smoothed.max() > STEEP * smoothed.min():
            axes.set_yscale("log")
    elif test_set:
        axes.margins(y=0.12)
    else:
        axes.ticklabel_format(axis="y", style="sci", scilimits=(-2, 2), useMathText=True)
        axes.yaxis.get_offset_text().set_fontsize(7.5)
        axes.set_ylim(bottom=0)
    last = max(max(curve) for curve in curves)
    axes.set_xlim(left=0)
    axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: f"{x / 1e3:g}K" if last >= 1e4 else f"{x:g}")
    )
    axes.set_xlabel("Iteration", fontsize=8.5)
    axes.tick_params(labelsize=7.5)
    axes.grid(True, color="0.92", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def _colors(count: int) -> list[str]:
    return [PALETTE[number % len(PALETTE)] for number in range(count)]
