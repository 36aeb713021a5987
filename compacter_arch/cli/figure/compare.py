"""Show a detail of an image as original, input and output of every method.

IMAGE is SET/NAME, an image of a test set of the task below datasets/, or the file of a clean image,
which is degraded as the task says. Below each crop stand PSNR and SSIM of the whole image, measured
as `basicsr table` does.

examples:
  basicsr figure compare sr Set14/barbara --scale 4 --crop 300 20 100 140 -o barbara.pdf
  basicsr figure compare sr photo.png ours=a.pth theirs=b.yml --scale 2 -o photo.png
  basicsr figure compare jpeg LIVE1/bikes --level 10 --width 3.3 -o bikes.pdf
"""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import UserError
from ...tasks import TASKS
from ..arguments import WEIGHTS, add_models, choose_device
from .common import inches, one_protocol

if TYPE_CHECKING:
    from ...tables import Protocol


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("task", help=", ".join(TASKS))
    parser.add_argument("image", metavar="IMAGE", help="SET/NAME or the file of a clean image")
    add_models(parser)
    parser.add_argument("--scale", type=int, help="of sr")
    parser.add_argument("--level", type=int, help="sigma or quality")
    parser.add_argument(
        "--crop",
        type=int,
        nargs=4,
        metavar=("TOP", "LEFT", "HEIGHT", "WIDTH"),
        help="pixels of the original (default: the square with the most detail)",
    )
    parser.add_argument(
        "--width",
        type=inches,
        default=6.9,
        help="inches; 6.9 is a page, 3.3 a column (default: 6.9)",
    )
    parser.add_argument("--rows", type=int, choices=(1, 2, 3, 4), help="of crops (default: 1 or 2)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")


def run(args: argparse.Namespace) -> None:
    """Restore, measure and draw."""
    from ...tables import find_models
    from ...tables.figure import (
        as_test_set,
        choose_crop,
        choose_image,
        compare_image,
        draw_comparison,
    )

    own, (name, slash, _) = Path(args.image), args.image.partition("/")
    if not own.is_file() and (not slash or own.suffix or not name):
        raise UserError(f"{args.image}: no such file; for an image of a test set give SET/NAME")
    test_set = None if own.is_file() else name
    protocol = one_protocol(args.task, args.scale, args.level, test_set)
    device = choose_device(args.device)
    models = find_models(args.models or sorted(map(str, WEIGHTS.glob("*.pth"))))
    if not args.models:
        models = [model for model in models if model.fits(protocol, named=False)]
    with ExitStack() as stack:
        if own.is_file():
            protocol = stack.enter_context(as_test_set(protocol, own))
            test_set, image, title = own.stem, own.stem, own.stem
        else:
            test_set, image = choose_image(protocol, args.image)
            title = f"{test_set}: {image}"
        panels = compare_image(protocol, test_set, image, models, device)
    crop = choose_crop(panels[0].image, args.crop)
    draw_comparison(
        panels, f"{title}{level_of(protocol)}", crop, args.output, args.width, args.rows
    )
    for panel in panels:
        scores = ", ".join(f"{metric} {value:.4f}" for metric, value in panel.scores.items())
        print(f"{panel.label}: {scores}" if scores else f"crop: {' '.join(map(str, crop))}")


def level_of(protocol: Protocol) -> str:
    """`` (×4)``, `` (σ = 25)``, `` (quality 10)``, or nothing."""
    if protocol.level is None:
        return ""
    if protocol.scale > 1:
        return f" (×{protocol.scale})"
    return f" ({protocol.title.rpartition(', ')[2].replace('sigma', 'σ =')})"
