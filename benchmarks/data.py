"""Training samples per second from PNG files, an LMDB, a raw store and the memory of the device.

    python -m benchmarks.data ../shared/data/train/Tecnick100
    python -m benchmarks.data --device cuda --batch 64

One process without workers, on one thread: what ``basicsr train`` reads, decodes, cuts, turns,
collates and brings to the device. Sub-images of 480 x 480 pixels and their LR images are made in a
temporary folder, of photographs or of generated pictures; they are in the page cache.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from basicsr.data import build_dataloader, build_dataset

from compacter_arch.cli.arguments import positive
from compacter_arch.prepare import make_lmdb, make_lr, make_raw, make_subimages
from compacter_arch.prepare.files import write_png
from compacter_arch.tables.complexity import describe_device
from compacter_arch.training.checks.quiet import quiet_logger
from compacter_arch.training.sampling import Batches

from .arguments import begin, common_arguments, run
from .report import markdown, publish
from .timing import interleave, ratio

REFERENCE = "PairedImageDataset, folder of PNG"
PAIRED, RAW = {"type": "PairedImageDataset"}, {"type": "RawPairedImageDataset"}
# Row: suffix of the roots, keys of the data set.
ROWS: dict[str, tuple[str, dict[str, Any]]] = {
    REFERENCE: ("", {**PAIRED, "io_backend": {"type": "disk"}}),
    "PairedImageDataset, LMDB of PNG": (".lmdb", {**PAIRED, "io_backend": {"type": "lmdb"}}),
    "RawPairedImageDataset": (".raw", {**RAW, "io_backend": {"type": "raw"}}),
    "RawPairedImageDataset, keep_on_device": (
        ".raw",
        {**RAW, "io_backend": {"type": "raw"}, "keep_on_device": True},
    ),
}
HEAD = ("row", "time of a sample (ms)", "samples/s", f"samples/s over {REFERENCE}")


def generate(folder: Path, count: int = 8, side: int = 720) -> Path:
    """Pictures with detail at all scales; they take about as long to decode as photographs."""
    random = np.random.default_rng(0)
    for number in range(count):
        image = np.full((side, side, 3), 128, np.float32)
        for octave in range(2, 9):
            noise = random.normal(0, 160 / 2**octave, (2**octave, 2**octave, 3)).astype(np.float32)
            image += cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)
        write_png(folder / f"{number}.png", np.clip(image, 0, 255).astype(np.uint8))
    return folder


def prepare(photographs: Path, root: Path, scale: int) -> int:
    """Make sub-images and their LR images below ``root``, in all forms; how many."""
    make_lr(photographs, root / "LR", scale, gt=root / "HR")
    make_subimages(root / "HR", root / "gt")
    make_subimages(root / "LR", root / "lq", scale=scale)
    for half in ("gt", "lq"):
        make_lmdb(root / half, root / f"{half}.lmdb")
        make_raw(root / half, root / f"{half}.raw")
    return len(list((root / "gt").iterdir()))


def loading_step(
    root: Path, row: str, args: argparse.Namespace, device: torch.device
) -> Callable[[], None]:
    """A call that brings the next batches of a run to the device."""
    suffix, keys = ROWS[row]
    opt = {
        "name": row,
        "phase": "train",
        "dataroot_gt": f"{root}/gt{suffix}",
        "dataroot_lq": f"{root}/lq{suffix}",
        "scale": args.scale,
        "gt_size": args.gt_size,
        "use_hflip": True,
        "use_rot": True,
        "num_worker_per_gpu": 0,
        "batch_size_per_gpu": args.batch,
        **keys,
    }
    num_gpu = int(device.type != "cpu")
    with quiet_logger():
        dataset = build_dataset(opt)
    opt["dataset_enlarge_ratio"] = 1 + 10**5 // len(dataset)  # longer than we measure
    loader = build_dataloader(dataset, opt, num_gpu)
    run = {"manual_seed": 0, "rank": 0, "world_size": 1, "num_gpu": num_gpu}
    batches = Batches(loader, run | {"datasets": {"train": opt}}).epoch(0)

    def step() -> None:
        for _ in range(args.batches):
            batch = next(batches)
            for key in ("lq", "gt"):
                batch[key].to(device)

    return step


def main(argv: Sequence[str] | None = None) -> int:
    """Prepare, measure, print."""
    argv = sys.argv[1:] if argv is None else argv
    parser = common_arguments(__doc__)
    parser.set_defaults(threads=1)
    parser.add_argument(
        "photographs", nargs="?", type=Path, help="folder of images (default: generated pictures)"
    )
    for name, default, text in (
        ("scale", 2, "of GT to LQ"),
        ("gt_size", 128, "side of a patch, GT pixels"),
        ("batch", 8, "samples of a batch"),
        ("batches", 8, "in each round"),
    ):
        parser.add_argument(f"--{name}", type=positive, default=default, help=f"{text} ({default})")
    args = parser.parse_args(argv)
    device = begin(args)
    cv2.setNumThreads(args.threads)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        count = prepare(args.photographs or generate(root / "pictures"), root, args.scale)
        steps = {row: loading_step(root, row, args, device) for row in ROWS}
        times = interleave(steps, args.rounds, device)
    rows = []
    for row, seconds in times.items():
        sample = statistics.median(seconds) / (args.batch * args.batches)
        faster = ratio(times[REFERENCE], seconds)
        rows.append((row, f"{sample * 1e3:.3f}", f"{1 / sample:,.0f}", f"{faster:.1f}"))
    caption = (
        f"{describe_device(device)}; {count} sub-images, x{args.scale}, patches of {args.gt_size} "
        f"GT pixels, batch {args.batch}; one process without workers."
    )
    publish("data", argv, f"{markdown(HEAD, rows)}\n\n{caption}", args.output)
    return 0


if __name__ == "__main__":
    run(main)
