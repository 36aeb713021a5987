"""Serve a web page that restores photographs.

Drop a photograph, choose what to do, compare before and after, download the result in full quality.
The page is served to this machine alone, and needs no network. Ctrl-C ends it.

    basicsr demo
    basicsr demo --port 8080 --device cuda --precision fp16
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING

from .arguments import choose_device, positive

if TYPE_CHECKING:
    from torch import nn


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        help="address to listen at; 0.0.0.0 lets others in (default: 127.0.0.1)",
    )
    parser.add_argument("--port", type=int, default=7860, help="0: any (default: 7860)")
    parser.add_argument("--device", default="auto", help="cpu, cuda, ... (default: a GPU if any)")
    parser.add_argument("--precision", choices=("fp32", "bf16", "fp16"), default="fp32")
    parser.add_argument(
        "--max_pixels",
        type=positive,
        default=24_000_000,
        metavar="N",
        help="of a photograph (default: 24000000)",
    )
    parser.add_argument(
        "--max_size", type=positive, default=100, metavar="MB", help="of a file (default: 100)"
    )


def run(args: argparse.Namespace) -> int:
    """Serve until it is told to end."""
    from ..inference.fast import load_fast
    from ..page.photos import Limits
    from ..page.server import serve

    device = choose_device(args.device)

    def load(task: str) -> nn.Module:
        model, warning = load_fast(task, device, args.precision)
        if warning:
            print(f"basicsr demo: warning: {warning}", file=sys.stderr)
        return model

    serve(load, args.host, args.port, Limits(args.max_size, args.max_pixels))
    return 0
