"""A detail of an image as papers print it: original, input and every method, with scores."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.utils import tensor2img

from ..archs import Bicubic
from ..atomic import write_file
from ..errors import UserError
from ..metrics.scoring import score
from ..prepare import imresize
from ..prepare.files import read_image, write_png
from ..tasks import TASKS
from ..training.checks.known_keys import suggestion
from ..training.comparison import CROP, busiest_square
from .measure import build_test_set, missing_folder
from .models import Model
from .plots import new_figure
from .profile import one_line
from .protocols import Protocol
from .render import LABELS

RED = "#d62728"
DPI = 300  # at least, of a PNG
SHOWN = ("psnr", "ssim")
DIGITS = {"psnr": 2, "ssim": 4}
GAP, LINE = 0.05, 0.135  # inches between pictures, and of a line of text
FONT = 8.0  # points, less where a caption would be wider than its picture
STYLE: Any = {
    "font.family": "STIXGeneral",  # matplotlib brings it, and it goes with a paper's Times
    "mathtext.fontset": "stix",
    "pdf.fonttype": 42,  # TrueType: publishers refuse Type 3
    "svg.hashsalt": "compacter_arch",  # the same picture is the same file
}


@dataclass(frozen=True)
class Panel:
    """One image of a comparison.

    Attributes:
        label: its name.
        image: (H, W, 3) BGR or (H, W) gray, uint8.
        scores: of the whole image, by metric; empty for the original.
    """

    label: str
    image: np.ndarray
    scores: Mapping[str, float]


def choose_image(protocol: Protocol, name: str) -> tuple[str, str]:
    """Split ``SET/IMAGE`` and see that the test set is there.

    Args:
        protocol: with any test sets; :func:`~.protocols.protocols` takes the set's name.
        name: as the command line tells it.

    Returns:
        Name of the set, name of the image without suffix.

    Raises:
        UserError: no such folder or image.
    """
    test_set, _, image = name.partition("/")
    if root := missing_folder(protocol, test_set):
        raise UserError(f"{test_set}: {root} does not exist (datasets/README.md has the layout)")
    names = [Path(paths["gt_path"]).stem for paths in build_test_set(protocol, test_set).paths]
    if image not in names:
        few = f"; there are {', '.join(names)}" if len(names) <= 20 else ""
        raise UserError(f"{test_set}: no image {image!r}{suggestion(image, names) or few}")
    return test_set, image


def compare_image(
    protocol: Protocol,
    test_set: str,
    image: str,
    models: Sequence[Model],
    device: torch.device | str = "cpu",
) -> list[Panel]:
    """The original, the input and the output of every model, measured as in the task's table.

    Args:
        protocol: of one scale or level.
        test_set: one of its test sets, whose folders exist.
        image: its name there, without suffix.
        models: for this task.
        device: where they run.

    Raises:
        UserError: a model has another scale or other channels, or fails.
    """
    for model in models:
        if not model.fits(protocol, named=True):
            raise UserError(
                f"{model.file}: for scale {model.scale} and {model.in_chans} channels; "
                f"{protocol.title} needs scale {protocol.scale} and {protocol.in_chans} channels"
            )
    dataset = build_test_set(protocol, test_set)
    index = [Path(paths["gt_path"]).stem for paths in dataset.paths].index(image)
    sample = dataset[index]
    label = TASKS[protocol.task].baseline
    baseline = Model(
        label.capitalize() if label.islower() else label,
        Bicubic(protocol.scale),
        "",
        protocol.scale,
        protocol.in_chans,
    )
    panels = [Panel("GT", tensor2img([sample["gt"]]), {})]
    for model in (baseline, *models):
        lq = sample["lq"][None].clone()  # tensor2img clips in place, maybe the input itself
        with one_line(model.file or model.label), torch.inference_mode():
            output = model.network.to(device)(lq.to(device))[0].cpu()
        panels.append(Panel(model.label, *score(output, sample["gt"], protocol.metrics)))
    return panels


@contextmanager
def as_test_set(protocol: Protocol, file: Path) -> Iterator[Protocol]:
    """The protocol with a test set of one clean image of one's own, named after its file.

    Raises:
        UserError: the image cannot be read, or the task's degraded images come from files.
    """
    name, scale = file.stem, protocol.scale
    options = dict(next(iter(protocol.datasets.values()))) | {"name": name}
    if scale == 1 and "dataroot_lq" in options:
        raise UserError(f"{file}: {protocol.title} needs the degraded image, too: give SET/IMAGE")
    image = read_image(file, color=True)
    height, width = (side - side % scale for side in image.shape[:2])
    if not height or not width:
        raise UserError(f"{file}: smaller than the scale")
    with TemporaryDirectory() as folder:
        images = {"dataroot_gt": image[:height, :width]}
        if scale > 1:
            images["dataroot_lq"] = imresize(images["dataroot_gt"], 1 / scale)
        for key, pixels in images.items():
            write_png(Path(folder, key, f"{name}.png"), pixels)
            options[key] = str(Path(folder, key))
        yield replace(protocol, datasets={name: options})


def choose_crop(image: np.ndarray, crop: Sequence[int] | None) -> tuple[int, int, int, int]:
    """(top, left, height, width): the one given or the most detailed square.

    Raises:
        UserError: it is not inside the image.
    """
    rows, columns = image.shape[:2]
    if crop is None:
        top, left = busiest_square(image)
        return top, left, min(CROP, rows - top), min(CROP, columns - left)
    top, left, height, width = crop
    inside = 0 <= top < top + height <= rows and 0 <= left < left + width <= columns
    if not inside:
        raise UserError(
            f"--crop {' '.join(map(str, crop))}: outside of the image of {rows} x {columns} pixels "
            "(TOP LEFT HEIGHT WIDTH)"
        )
    return top, left, height, width


def draw_comparison(
    panels: Sequence[Panel],
    title: str,
    crop: tuple[int, int, int, int],
    file: Path,
    width: float = 6.9,
    rows: int | None = None,
) -> None:
    """The whole original with the crop in a box, and beside it the crop of every panel.

    A pixel of the crop is the same whole number of pixels of the file everywhere; the resolution of
    the file, at least 300 dpi, follows from that and from the width.

    Args:
        panels: the original first.
        title: below the original.
        crop: (top, left, height, width) in pixels.
        file: PNG, PDF or SVG.
        width: of the picture in inches: 6.9 for a page of two columns, 3.3 for one of them.
        rows: of the grid of crops; by default one for up to three crops, then two.
    """
    rows = rows or (1 if len(panels) <= 3 else 2)
    columns = -(-len(panels) // rows)
    whole = panels[0].image
    top, left, height, cut = crop
    caption = 2 * LINE + 0.02
    # Widths are linear in the zoom: `pixels` of pictures, `fixed` inches of gaps and captions.
    aspect = whole.shape[1] / whole.shape[0]
    pixels = aspect * rows * height + columns * cut
    fixed = aspect * (rows - 1) * (caption + GAP) + columns * GAP
    if fixed > width / 2:
        raise UserError(f"{len(panels)} pictures do not fit into {width} inches: give more --width")
    zoom = int(np.ceil(DPI * (width - fixed) / pixels))
    dpi = zoom * pixels / (width - fixed)
    gap, below = round(GAP * dpi), round(caption * dpi)
    h, w = zoom * height, zoom * cut
    tall = rows * h + (rows - 1) * (below + gap)
    wide = round(aspect * tall)
    size = wide + columns * (w + gap), tall + below
    best = _best(panels)
    with paper_style() as figure_of:
        sheet = np.full((size[1], size[0], 3), 255, np.uint8)
        figure, axes = new_sheet(figure_of, sheet, dpi)
        cells = [(0, 0, wide, tall)]
        for row, column in np.ndindex(rows, columns):
            cells.append((wide + gap + column * (w + gap), row * (h + below + gap), w, h))
        texts = []
        shrunk = cv2.resize(whole, (wide, tall), interpolation=_filter(whole, tall))
        images = [shrunk, *(_enlarge(p.image[top:, left:][:height, :cut], zoom) for p in panels)]
        for number, ((x, y, *cell), picture) in enumerate(zip(cells, images, strict=False)):
            sheet[y : y + cell[1], x : x + cell[0]] = to_rgb(picture)
            lines = [title]
            if number:
                lines = [panels[number - 1].label, _scores(panels, number - 1)]
            for line, text in enumerate(lines):
                artist = figure.text(
                    (x + cell[0] / 2) / size[0],
                    1 - (y + cell[1] + (0.02 + (line + 0.5) * LINE) * dpi) / size[1],
                    text,
                    ha="center",
                    va="center_baseline",
                    fontsize=FONT,
                    fontweight="bold" if line and number - 1 in best else "normal",
                )
                texts.append((artist, cell[0]))
        ratio = wide / whole.shape[1], tall / whole.shape[0]
        corner = left * ratio[0] - 0.5, top * ratio[1] - 0.5
        draw_box(axes, corner, (cut * ratio[0], height * ratio[1]), 0.7 + 0.1 * width)
        axes.images[0].set_data(sheet)
        fit_texts(figure, texts)
        save_figure(figure, file, dpi)


def new_sheet(figure_of: Any, sheet: np.ndarray, dpi: float) -> tuple[Any, Any]:
    """A figure with an axes all over it that shows (H, W, 3) RGB, pixel by pixel."""
    rows, columns = sheet.shape[:2]
    # A little more than whole pixels: matplotlib rounds down.
    figure = figure_of(figsize=((columns + 0.01) / dpi, (rows + 0.01) / dpi), dpi=dpi)
    axes = figure.add_axes((0, 0, columns / (columns + 0.01), rows / (rows + 0.01)))
    axes.imshow(sheet, interpolation="none", aspect="auto")
    axes.set_axis_off()
    return figure, axes


def fit_texts(figure: Any, texts: Sequence[tuple[Any, float]]) -> None:
    """Shrink all texts alike until each is no wider than told, in pixels."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    renderer = FigureCanvasAgg(figure).get_renderer()
    factor = min(limit / text.get_window_extent(renderer).width for text, limit in texts)
    for text, _ in texts:
        text.set_fontsize(text.get_fontsize() * min(factor, 1))


@contextmanager
def paper_style() -> Iterator[Any]:
    """Fonts of a paper for a figure that is made, drawn and saved inside; yields `new_figure`.

    Raises:
        UserError: matplotlib is missing.
    """
    new_figure()
    from matplotlib import rc_context

    with rc_context(STYLE):
        yield new_figure


def save_figure(figure: Any, file: Path, dpi: float = DPI) -> None:
    """Write a figure so that ``file`` is whole or absent at any moment; without the date."""
    form = file.suffix.lower().removeprefix(".")
    undated = {"pdf": {"CreationDate": None}, "svg": {"Date": None}}
    buffer = io.BytesIO()
    figure.savefig(buffer, format=form, dpi=dpi, metadata=undated.get(form))
    write_file(file, buffer.getvalue())


def _scores(panels: Sequence[Panel], index: int) -> str:
    scores = panels[index].scores
    if not scores:  # of the original: what the others' mean
        known = [metric for metric in SHOWN if any(metric in p.scores for p in panels)]
        return "/".join(LABELS[metric] for metric in known)
    shown = [metric for metric in SHOWN if metric in scores]
    return "/".join(f"{scores[metric]:.{DIGITS[metric]}f}" for metric in shown)


def _best(panels: Sequence[Panel]) -> list[int]:
    """The panels with the highest PSNR, by the digits that are printed."""
    known = {i: round(p.scores["psnr"], 2) for i, p in enumerate(panels) if "psnr" in p.scores}
    return [i for i, psnr in known.items() if len(known) > 1 and psnr == max(known.values())]


def draw_box(
    axes: Any, corner: tuple[float, float], size: tuple[float, float], line: float, color: str = RED
) -> None:
    """A frame of ``line`` points around a part of an image."""
    from matplotlib.patches import Rectangle

    frame = Rectangle(corner, *size, fill=False, edgecolor=color, linewidth=line)
    frame.set_joinstyle("miter")
    axes.add_patch(frame)


def _filter(image: np.ndarray, rows: int) -> int:
    return cv2.INTER_AREA if rows < image.shape[0] else cv2.INTER_CUBIC


def _enlarge(image: np.ndarray, zoom: int) -> np.ndarray:
    return image.repeat(zoom, 0).repeat(zoom, 1)


def to_rgb(image: np.ndarray) -> np.ndarray:
    """(H, W, 3) BGR or (H, W) gray -> (H, W, 3) RGB."""
    return cv2.cvtColor(image, cv2.COLOR_GRAY2RGB if image.ndim == 2 else cv2.COLOR_BGR2RGB)
