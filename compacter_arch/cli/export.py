"""Write a network for other programs: ONNX, safetensors, PyTorch's export.

ONNX for chaiNNer, ONNX Runtime, ...: images of any size, RGB or gray, values in [0, 1]. The format
follows from the name (.onnx, .safetensors, .pt2) unless --format tells it. The file is complete or
absent. --check runs it beside PyTorch, and fails if its results are not the same.

    basicsr export --task sr_x2 -o sr_x2.onnx --check
    basicsr export --weights net_g_latest.pth -o mine.onnx --precision fp16
    basicsr export --task sr_x2 -o small.onnx --precision int8 --calibrate photographs/
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..archs import CompacterArch


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--weights", metavar="FILE", help="a checkpoint of a Compacter")
    network.add_argument("--task", metavar="NAME", help="one of our networks, e.g. sr_x2, jpeg")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FILE")
    parser.add_argument("--format", choices=("onnx", "safetensors", "torch"))
    parser.add_argument("--precision", choices=("fp32", "fp16", "int8"), default="fp32")
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FOLDER",
        help="images as the network will get them, for int8",
    )
    parser.add_argument(
        "--check", action="store_true", help="compare with PyTorch: results on five sizes, and time"
    )


def run(args: argparse.Namespace) -> int:
    """Write, and check if asked to; 1 if the file computes something else."""
    from ..atomic import write_file
    from ..errors import UserError
    from ..export.formats import choose_format, encode
    from ..export.quantization import calibration_images
    from ..inference import load_model

    form = choose_format(args.output, args.format, args.precision)
    if (args.precision == "int8") != (args.calibrate is not None):
        raise UserError("--precision int8 and --calibrate FOLDER go together")
    network = load_model(args.weights or args.task)
    images = calibration_images(args.calibrate, network) if args.calibrate else ()
    data = encode(network, form, args.precision, task=args.task, images=images)
    write_file(args.output, data)
    print(f"written: {args.output} ({form}, {args.precision}, {len(data) / 1e6:.1f} MB)")
    return check(args.output, form, args.precision, network) if args.check else 0


def check(path: Path, form: str, precision: str, network: CompacterArch) -> int:
    """Print how far the results of a file are from PyTorch's, and the time of both; 1 if too far.

    The promise is about the largest difference, in units of the range [0, 1].
    """
    import torch

    from ..export.checking import PROMISED, TIMED, differences, durations, open_file

    threads = torch.get_num_threads()
    written = open_file(path, form, threads)
    promised, failed = PROMISED[precision], False
    for (batch, height, width), largest in differences(written, network, form):
        verdict = "" if largest <= promised else f"  more than {promised:g}"
        failed = failed or bool(verdict)
        print(f"{batch} x {height} x {width}: largest difference {largest:.1e}{verdict}")
    ours, torchs = durations(written, network)
    size = " x ".join(map(str, TIMED[1:]))
    print(f"time for {size} pixels, {threads} threads: file {ours:.2f} s, PyTorch {torchs:.2f} s")
    if failed:
        print(f"basicsr export: error: {path}: not the results of PyTorch", file=sys.stderr)
    return int(failed)
