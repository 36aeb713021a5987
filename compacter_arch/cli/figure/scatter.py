"""Plot PSNR against parameters, Multi-Adds or latency.

All published methods (circles) and the measured ones (stars) of a table of `basicsr table`, of
which results are kept. Only measured ones have a latency, that of an output of 1280 x 720 pixels.

examples:
  basicsr figure scatter sr --scale 2 --set Urban100 -o scatter.pdf
  basicsr figure scatter sr mine=a.pth --scale 4 --set Set14 --against multi_adds -o scatter.png
"""

from __future__ import annotations

import argparse

from ...errors import UserError
from ...tasks import TASKS
from ..arguments import WEIGHTS, add_models, choose_device
from ..table import CACHE
from .common import inches, one_protocol


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("task", help=", ".join(TASKS))
    add_models(parser)
    parser.add_argument("--scale", type=int, help="of sr")
    parser.add_argument("--level", type=int, help="sigma or quality")
    parser.add_argument("--set", required=True, metavar="NAME", help="test set, such as Urban100")
    parser.add_argument(
        "--against", default="params", choices=("params", "multi_adds", "latency"), help="x axis"
    )
    parser.add_argument("--width", type=inches, default=4.5, help="inches (default: 4.5)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")
    parser.add_argument("--no_cache", action="store_true", help="measure anew")


def run(args: argparse.Namespace) -> None:
    """Measure what is not known and draw."""
    from ...archs import CompacterArch
    from ...tables import build_table, find_models
    from ...tables.published import published_rows
    from ...tables.scatter import draw_scatter, find_points

    protocol = one_protocol(args.task, args.scale, args.level, args.set)
    device = choose_device(args.device)
    models = find_models(args.models or sorted(map(str, WEIGHTS.glob("*.pth"))))
    wrong = [model for model in models if not model.fits(protocol, named=bool(args.models))]
    if wrong and args.models:
        raise UserError(f"{wrong[0].file}: for x{wrong[0].scale}, not for {protocol.title}")
    models = [model for model in models if model not in wrong]
    known = published_rows(protocol.task, protocol.level, [args.set])
    table = build_table(
        protocol,
        models,
        device=device,
        cache=None if args.no_cache else CACHE,
        rounds=3 if args.against == "latency" else 0,
    )
    ours = [model.label for model in models if isinstance(model.network, CompacterArch)]
    title = protocol.title.replace(" x", " ×") if protocol.scale > 1 else protocol.title
    points = find_points(table, args.set, args.against, ours)
    draw_scatter(points, f"{title}, {args.set}", args.against, args.output, width=args.width)
    measured = sum(point.measured for point in points)
    print(f"{len(points) - measured} of {len(known)} published methods, {measured} measured")
