"""Show which pixels of the input super-resolution networks use for a patch of their output.

Local attribution maps and diffusion index (DI) of Gu and Dong, CVPR 2021, with the parameters of
the authors' LAM_Demo: 50 steps, blur of 9 x 9 pixels, sigma 1.2. IMAGE is the small input; a step
takes as long as one of training on it, so crop it (192 x 192 pixels are plenty).

examples:
  basicsr figure attribution lr.png experiments/pretrained_models/Compacter_SRx4.pth \\
      --patch 110 150 16 -o lam.png
  basicsr figure attribution lr.png ours=a.pth theirs=b.yml --patch 110 150 16 -o lam.pdf
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..arguments import choose_device, positive
from .common import inches


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("image", type=Path, metavar="IMAGE", help="the input of the networks")
    parser.add_argument(
        "models",
        nargs="+",
        metavar="[NAME=]FILE",
        help="a checkpoint of a Compacter, or an option file of any network (before the flags)",
    )
    parser.add_argument(
        "--patch",
        type=int,
        nargs=3,
        required=True,
        metavar=("TOP", "LEFT", "SIZE"),
        help="pixels of the output",
    )
    parser.add_argument("--steps", type=positive, default=50, help="on the path (default: 50)")
    parser.add_argument("--width", type=inches, default=6.9, help="inches (default: 6.9)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")


def run(args: argparse.Namespace) -> None:
    """Attribute, print the diffusion indices and draw."""
    from ...errors import UserError
    from ...prepare.files import read_image
    from ...tables import find_models
    from ...tables.attribution import attribute_models, diffusion_index, draw_attribution

    if not args.image.is_file():
        raise UserError(f"{args.image}: no such file")
    image, models = read_image(args.image, color=True), find_models(args.models)
    device = choose_device(args.device)
    top, left, size = args.patch
    patch = (top, left, size)
    maps = attribute_models(models, image, patch, args.steps, device)
    for model, strength in zip(models, maps, strict=True):
        print(f"{model.label}: DI {diffusion_index(strength):.2f}")
    labels = [model.label for model in models]
    draw_attribution(image, labels, maps, patch, models[0].scale, args.output, args.width)
