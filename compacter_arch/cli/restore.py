"""Restore photographs and videos: enlarge, denoise, derain, ... whole folders of them.

INPUT is a file, a folder (with all below it), a pattern, or - for a list of files on stdin. The
results go below the folder OUT, in the same tree; or into the file OUT, if it is named as one.
Gray, color, alpha, 8 and 16 bits, color profile and EXIF data stay as they are; the orientation is
carried out. Of a video (MP4, MOV, MKV, WebM, AVI) sound, subtitles and times stay, too. An image
of more than 500 million pixels, or than the free memory has room for, is refused. A file that fails
is named at the end, and the status is 1.

    basicsr restore photo.jpg -o restored --task sr_x2
    basicsr restore scans "old/*.tif" -o restored --weights net_g_latest.pth --format png
    basicsr restore clip.mp4 -o restored --task sr_x2
    find . -name "*.jpg" | basicsr restore - -o restored --task color_dn --compare
"""

from __future__ import annotations

import argparse
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import choose_device, positive

if TYPE_CHECKING:
    import torch
    from torch import nn

LONGEST = 5000  # characters of a line; a path may have 4096
FORMATS = ("keep", "png", "jpg", "webp", "tif")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("inputs", nargs="+", metavar="INPUT", help="file, folder, pattern, or -")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="OUT")
    network = parser.add_mutually_exclusive_group(required=True)
    network.add_argument("--weights", metavar="FILE", help="a checkpoint of a Compacter")
    network.add_argument("--task", metavar="NAME", help="one of our networks, e.g. sr_x2, jpeg")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument("--plain", action="store_true", help="without compiled kernels, in fp32")
    parser.add_argument(
        "--tile",
        type=tile_size,
        default="auto",
        metavar="auto|N",
        help="pixels of a side; 0: the whole image (default: auto, what the memory allows)",
    )
    parser.add_argument(
        "--overlap", type=int, default=32, metavar="N", help="pixels of the tiles (default: 32)"
    )
    parser.add_argument(
        "--self_ensemble", action="store_true", help="mean over 8 turns: better, 8 times as long"
    )
    parser.add_argument("--compare", action="store_true", help="also write before | after")
    parser.add_argument("--format", choices=FORMATS, default="keep", help="default: the input's")
    parser.add_argument("--suffix", default="", metavar="TEXT", help="added to the names")
    parser.add_argument(
        "--quality", type=positive, default=95, help="of JPEG and WebP, 1 to 100 (default: 95)"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")


def tile_size(text: str) -> int | str:
    """``auto``, or a whole number of pixels, 0 or more."""
    if text == "auto":
        return text
    if (number := int(text)) < 0:
        raise ValueError
    return number


def run(args: argparse.Namespace) -> int:
    """Restore; 1 if a file failed."""
    from ..errors import UserError
    from ..inference.restoration import Restorer, restore_files
    from ..inference.selection import find_sources, plan, reasons
    from ..inference.video import is_video
    from ..messages import as_line
    from .bars import Bars

    if args.quality > 100:
        raise UserError(f"--quality {args.quality}: at most 100")
    if args.plain and args.precision != "fp32":
        raise UserError(f"--plain is in fp32; leave out it or --precision {args.precision}")
    sources, others = find_sources(args.inputs, args.output, sys.stdin)
    for line in reasons(others):
        print(f"basicsr restore: {as_line(line, LONGEST)}", file=sys.stderr)
    jobs = plan(
        sources,
        args.output,
        args.format,
        args.suffix,
        compare=args.compare,
        overwrite=args.overwrite,
    )
    model = network(args.weights or args.task, choose_device(args.device), args)
    restorer = Restorer(model, args.tile, args.overlap, args.self_ensemble)
    failed = []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C, which tidies up
    with Bars(len(jobs)) as bars:
        for _, error in restore_files(jobs, restorer, args.quality, bars.tiles, bars.frames):
            bars.image()
            if error is not None:
                failed.append(error)
    what = "files" if any(is_video(job.source) for job in jobs) else "images"
    print(f"restored: {len(jobs) - len(failed)} of {len(jobs)} {what}, to {args.output}")
    for error in failed:
        print(f"basicsr restore: error: {as_line(str(error), LONGEST)}", file=sys.stderr)
    return 1 if failed else 0


def network(name: str, device: torch.device, args: argparse.Namespace) -> nn.Module:
    """The network as fast as it can be had, or as it was asked for."""
    from ..inference import load_model
    from ..inference.fast import load_fast

    if args.plain:
        return load_model(name, device)
    model, warning = load_fast(name, device, args.precision)
    if warning:
        print(f"basicsr restore: warning: {warning}", file=sys.stderr)
    return model
