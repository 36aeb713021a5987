"""Tell what a network costs: parameters, Multi-Adds, latency and memory.

Multi-Adds (convolutions and matrix products) are counted for an output of 1280 x 720 pixels unless
--size tells the size of the input. Latency and memory are measured on square inputs. The network
is that of an option file, or any that BasicSR knows by its name.

    basicsr profile --arch CompacterArch --force_yml network_g:upscale=4 --plot profile.png
    basicsr profile -opt options/test_Compacter_SRx2.yml --size 180 320 --sizes 64 128 256 512
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import UserError
from .arguments import choose_device, positive


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("-opt", metavar="FILE", help="option file (YAML)")
    source.add_argument("--arch", metavar="NAME", help="registered network, such as SwinIR")
    parser.add_argument(
        "--force_yml",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="change options, e.g. network_g:dim=60",
    )
    parser.add_argument(
        "--size", type=positive, nargs=2, metavar=("H", "W"), help="input for Multi-Adds"
    )
    parser.add_argument(
        "--sizes",
        type=positive,
        nargs="*",
        default=[64, 128, 256],
        metavar="SIDE",
        help="inputs for latency and memory (default: 64 128 256; none: measure neither)",
    )
    parser.add_argument(
        "--rounds", type=positive, default=7, help="latency is their median (default: 7)"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="write latency and memory as PNG, PDF or SVG"
    )


def run(args: argparse.Namespace) -> int:
    """Count, measure, print, plot."""
    from ..tables import profile
    from ..tables.complexity import describe_device
    from ..tables.plots import check_plot_file, plot_profile
    from ..training.options import Options, find_option_file, force_options, read_options

    if args.plot and not args.sizes:
        raise UserError("--plot: shows latency and memory; name the --sizes to measure")
    if args.plot:
        check_plot_file(args.plot)
    device = choose_device(args.device)
    where = f"--arch {args.arch}"
    opt: Options = {"network_g": {"type": args.arch}}
    if args.opt:
        where = str(file := find_option_file(args.opt))
        opt = read_options(file)
    force_options(opt, args.force_yml)
    network, in_chans = profile.build_profiled(opt.get("network_g"), where)

    print(profile.block_table(network, in_chans, args.size and tuple(args.size)))
    if not args.sizes:
        return 0
    costs = profile.measure_costs(network, in_chans, args.sizes, args.rounds, device)
    caption = f"{describe_device(device)}, one image, median of {args.rounds} passes"
    print(f"\n{profile.cost_table(costs)}\n{caption}")
    if args.plot:
        title = f"{type(network).__name__}, one forward pass"
        plot_profile(costs, args.plot, title, caption)
        print(f"written: {args.plot}")
    return 0
