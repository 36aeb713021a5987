"""Measure networks on the test sets of a task, beside published results.

Test sets are looked for below datasets/ (datasets/README.md has their layout); those that are not
there are named. The protocol is that of options/test_Compacter_<task>.yml; --explain prints it.
Results are kept in results/.table_cache, by weights, images, protocol and version.
The task "ablation" trains the variants that an option file lists, and measures them.

    basicsr table sr --scale 2 3 4
    basicsr table sr mine=experiments/mine/models/net_g_latest.pth --scale 2 -o sr.md sr.tex
    basicsr table jpeg --level 10 --sets Classic5
    basicsr table ablation options/ablation_Compacter_SRx2_demo.yml -o ablation.md
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import UserError
from ..tasks import TASKS
from .arguments import WEIGHTS, add_models, choose_device

if TYPE_CHECKING:
    from ..tables import Table

FORMS = {".md": "markdown", ".csv": "csv", ".tex": "latex", ".txt": "terminal"}
CACHE = Path("results/.table_cache")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("task", help=f"{', '.join(TASKS)} or ablation")
    add_models(parser)
    parser.add_argument("--scale", type=int, nargs="+", default=[], help="of sr (default: all)")
    parser.add_argument(
        "--level", type=int, nargs="+", default=[], help="sigma or quality (default: all)"
    )
    parser.add_argument(
        "--sets", nargs="+", default=[], metavar="NAME", help="test sets (default: the task's)"
    )
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="write the tables as Markdown (.md), CSV (.csv) or LaTeX (.tex), too",
    )
    parser.add_argument("--sources", action="store_true", help="name the published rows' sources")
    parser.add_argument("--explain", action="store_true", help="print the protocol below a table")
    parser.add_argument("--save_images", type=Path, metavar="DIR", help="keep the restored images")
    parser.add_argument("--no_cache", action="store_true", help="measure anew")
    parser.add_argument(
        "--rounds",
        type=int,
        default=0,
        help="measure latency and memory for 1280 x 720 pixels, the median of so many rounds",
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")


def run(args: argparse.Namespace) -> int:
    """Measure, print and write."""
    from ..atomic import write_file
    from ..tables import ablation_table, render

    for path in args.output:
        if path.suffix not in FORMS:
            raise UserError(f"-o {path}: give a name that ends with {', '.join(FORMS)}")
    cache = None if args.no_cache else CACHE
    if args.task == "ablation":
        if not args.models:
            raise UserError("ablation: give an option file with a section `ablation`")
        tables = [ablation_table(file, cache=cache) for file in args.models]
        for table in tables:
            print(render(table, "terminal"), end="\n\n")
    else:
        tables = measured_tables(args, cache)
    for path in args.output:
        texts = [render(table, FORMS[path.suffix], sources=args.sources) for table in tables]
        write_file(path, ("\n\n".join(texts) + "\n").encode())
        print(f"written: {path}")
    return 0


def measured_tables(args: argparse.Namespace, cache: Path | None) -> list[Table]:
    """The tables of a task; each is printed when it is complete."""
    from ..tables import build_table, find_models, protocols, render

    device = choose_device(args.device)
    wanted = protocols(args.task, args.scale, args.level, args.sets)
    models = find_models(args.models or sorted(map(str, WEIGHTS.glob("*.pth"))))
    tables = []
    for protocol in wanted:
        table = build_table(
            protocol,
            [model for model in models if model.fits(protocol, named=bool(args.models))],
            device=device,
            cache=cache,
            save_images=args.save_images,
            rounds=args.rounds,
        )
        tables.append(table)
        print(render(table, "terminal", sources=args.sources))
        if args.explain:
            print(protocol.explain())
        print()
    return tables
