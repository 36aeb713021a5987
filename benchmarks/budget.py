"""What networks of about 400 K parameters reach at x2 after the same short training.

    python -m benchmarks.budget --gt GT.raw --lq LRx2.raw --set5-gt Set5/GTmod2 \
        --set5-lq Set5/LRbicx2 --iterations 1000 --output FOLDER
    python -m benchmarks.budget --report --output FOLDER

``--choices`` compares designs of Compacter (``choices.py``) instead of networks, ``--starts``
initialisations (``starts.py``), with the loss of the recipes and the kernels for training.

Same patches, seed, L1 loss, optimizer and schedule for all, one after the other, each by ``basicsr
train --auto_resume`` in FOLDER: what is finished is not trained again, what was interrupted goes
on. One seed and a short schedule: differences of a few hundredths of a dB say nothing.

Training time is the median time of an iteration in the log, times the iterations. On a CPU it is
the time that the process computed: what it was stopped, or waited for other processes, does not
count; the clock's time on a GPU. Validation and saving do not count either.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import os
import re
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import yaml
from basicsr.utils.logger import initialized_logger
from basicsr.utils.registry import ARCH_REGISTRY

from compacter_arch.cli import main as basicsr
from compacter_arch.cli.arguments import positive
from compacter_arch.data.raw_store import SUFFIX
from compacter_arch.errors import UserError
from compacter_arch.tables.complexity import describe_device
from compacter_arch.tables.curves import PALETTE, TB_LOGGER, Curve, read_run
from compacter_arch.tables.figure import paper_style, save_figure
from compacter_arch.training.options import Options, package_options, read_options

from .arguments import run
from .choices import CHOICES
from .networks import INSTALL, Peer
from .peers import PEERS
from .report import markdown
from .starts import STARTS

OURS, EDSR, OMNI = (PEERS[name] for name in ("Compacter", "EDSR-baseline", "Omni-SR"))
SMALL_EDSR = {**EDSR.options, "num_feat": 32, "num_block": 19}
# 400K in a name: ours, the published network with fewer channels (EDSR also with more blocks), as
# near to 400 K parameters as it comes.
NETWORKS = {
    "Compacter": replace(OURS, options={"input_skip": False}),
    "SwinIR-400K": PEERS["SwinIR-400K"],
    "EDSR-400K": replace(EDSR, options=SMALL_EDSR, parameters=399_427),
    "SAFMN": PEERS["SAFMN"],
    "Omni-SR-400K": replace(OMNI, options={**OMNI.options, "num_feat": 44}, parameters=403_424),
    "Compacter, input skip": replace(OURS, options={"input_skip": True}),
}
RECIPE = "train_Compacter_SRx2_demo.yml"
HEAD = ("network", "parameters (K)", "iterations", "training (min)", "PSNR (dB)", "SSIM")
RUNS, MACHINE = Path("experiments"), Path("machine.txt")
LINE = re.compile(r"iter: *([\d,]+), .* \[([\d.]+) s\]$", re.MULTILINE)


class Trained(NamedTuple):
    """What a training took and reached: seconds of an iteration; PSNR and SSIM by iteration."""

    seconds: float
    psnr: Curve
    ssim: Curve


def find(name: str) -> Peer:
    """A network, a design or an initialisation, by its name."""
    return {**NETWORKS, **CHOICES, **STARTS}[name]


def run_name(name: str) -> str:
    """The name of a network's folders."""
    return re.sub(r"\W+", "_", name)


def options(name: str, args: argparse.Namespace) -> Options:
    """The demo's recipe with the data, the rate and the batch of the command line, and L1."""
    opt, peer = read_options(package_options() / RECIPE), find(name)
    often, hundredth = (max(args.iterations // parts, 1) for parts in (args.validations, 100))
    train, val = opt["datasets"]["train"], opt["datasets"]["val"]
    # Both models are SRModel; BasicSR's pads the images of the validation.
    opt["model_type"] = "SwinIRModel" if peer.multiple > 1 else "RestorationModel"
    opt |= {"name": run_name(name), "network_g": peer.network_options(opt["scale"])}
    opt["manual_seed"] = args.seed
    train |= {"dataroot_gt": str(args.gt.resolve()), "dataroot_lq": str(args.lq.resolve())}
    train |= {"batch_size_per_gpu": args.batch, "dataset_enlarge_ratio": 100}
    if args.gt.suffix == SUFFIX:
        train |= {"type": "RawPairedImageDataset", "io_backend": {"type": "raw"}}
    val |= {"dataroot_gt": str(args.set5_gt.resolve()), "dataroot_lq": str(args.set5_lq.resolve())}
    val["name"] = "Set5"
    opt["train"]["optim_g"]["lr"] = args.rate
    opt["train"] |= {
        "scheduler": {
            "type": "CosineAnnealingRestartLR",
            "periods": [args.iterations],
            "restart_weights": [1],
            "eta_min": 1e-7,
        },
        "total_iter": args.iterations,
        "warmup_iter": args.warmup,
    }
    if name in STARTS:
        opt["train"]["compile"] = True
    else:
        opt["train"]["pixel_opt"] = {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"}
    opt["val"] |= {"val_freq": often, "comparison": False}
    opt["logger"] |= {"print_freq": hundredth, "save_checkpoint_freq": often}
    return opt


def stamp(record: logging.LogRecord) -> bool:
    """End a line of the log with the seconds that the process has computed (GPU: with the time)."""
    now = time.perf_counter() if torch.cuda.is_available() else time.process_time()
    record.msg = f"{record.msg} [{now:.3f} s]"
    return True


def train_network(peer: Peer, opt: Options) -> int:
    """Train what is left to train, below the current directory; the status of ``basicsr train``."""
    if (RUNS / opt["name"] / "models" / "net_g_latest.pth").exists():
        return 0  # it is written at the end alone
    if peer.type not in ARCH_REGISTRY:
        ARCH_REGISTRY.register(getattr(importlib.import_module(peer.module), peer.type))
    file = Path(f"{opt['name']}.yml")
    file.write_text(yaml.safe_dump(opt, sort_keys=False), encoding="utf-8")
    logger = logging.getLogger("basicsr")
    logger.handlers.clear()  # BasicSR opens one log for a process, not for a run
    initialized_logger.clear()
    logger.addFilter(stamp)
    try:
        return basicsr(["train", "-opt", str(file), "--auto_resume"])
    finally:
        logger.removeFilter(stamp)


def read_trained(name: str) -> Trained:
    """Read the curves of a run, and its time from its logs."""
    _, curves = read_run(str(TB_LOGGER / run_name(name)))
    seconds = []
    for log in (RUNS / run_name(name)).glob("train_*.log"):
        lines = LINE.findall(log.read_text(encoding="utf-8"))
        points = [(int(count.replace(",", "")), float(clock)) for count, clock in lines]
        seconds += [(after[1] - p[1]) / (after[0] - p[0]) for p, after in pairwise(points)]
    psnr, ssim = (curves.get(f"metrics/Set5/{metric}", {}) for metric in ("psnr", "ssim"))
    return Trained(statistics.median(seconds) if seconds else float("nan"), psnr, ssim)


SHOWN = 4  # dB below the best: how networks start is not what is compared


def plot(trained: Mapping[str, Trained], file: Path) -> None:
    """PSNR against iterations and against training time."""
    with paper_style() as figure_of:
        figure = figure_of(figsize=(6.9, 3.1), layout="constrained")
        left, right = figure.subplots(1, 2, sharey=True)
        for (name, (seconds, psnr, _)), color in zip(trained.items(), PALETTE, strict=False):
            style: Any = {"color": color, "label": name, "linewidth": 1.2, "markersize": 2.5}
            left.plot(list(psnr), list(psnr.values()), "-o", **style)
            right.plot([n * seconds / 60 for n in psnr], list(psnr.values()), "-o", **style)
        left.set_ylabel("Set5, PSNR (dB)")
        best = max(max(psnr.values()) for _, psnr, _ in trained.values())
        left.set_ylim(best - SHOWN, best + 0.3)
        for axes, label in ((left, "Iteration"), (right, "Training time (min)")):
            axes.set_xlabel(label)
            axes.set_xlim(left=0)
            axes.grid(True, color="0.92", linewidth=0.6)
            axes.spines[["top", "right"]].set_visible(False)
        legend: Any = {"loc": "outside upper center", "ncols": 3, "fontsize": 8, "frameon": False}
        figure.legend(*left.get_legend_handles_labels(), **legend)
        save_figure(figure, file)


def report(names: Sequence[str]) -> str:
    """The table of the runs that were validated; draws ``budget.png``."""
    begun = {name: read_trained(name) for name in names if (TB_LOGGER / run_name(name)).is_dir()}
    trained = {name: run for name, run in begun.items() if run.psnr}
    if not trained:
        raise UserError(f"no network was validated below {Path.cwd()}")
    rows = []
    for name, (seconds, psnr, ssim) in trained.items():
        last, size = max(psnr), f"{find(name).parameters / 1e3:,.0f}"
        reached = f"{psnr[last]:.2f}", f"{ssim[last]:.4f}"
        rows.append((name, size, f"{last:,}", f"{seconds * last / 60:.1f}", *reached))
    plot(trained, Path("budget.png"))
    return f"{markdown(HEAD, rows)}\n\n{MACHINE.read_text(encoding='utf-8')}; Set5, x2, on Y."


def main(argv: Sequence[str] | None = None) -> int:
    """Train, report."""
    argv = sys.argv[1:] if argv is None else argv
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--report", action="store_true", help="train nothing, tell what is there")
    for flag, text in {
        "--gt": "training images, a folder or a raw store",
        "--lq": "their LR images, of the same kind",
        "--set5-gt": "folder of Set5",
        "--set5-lq": "folder of its LR images",
    }.items():
        parser.add_argument(flag, type=Path, required="--report" not in argv, help=text)
    parser.add_argument("--iterations", type=positive, default=1000, help="default: 1000")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="of the runs")
    parser.add_argument("--seed", type=int, default=0, help="of weights and patches (default: 0)")
    parser.add_argument("--rate", type=float, default=5e-4, help="of Adam (default: 5e-4)")
    parser.add_argument("--batch", type=positive, default=8, help="patches (default: 8)")
    parser.add_argument(
        "--warmup", type=int, default=-1, help="iterations until the rate is reached (default: 0)"
    )
    parser.add_argument("--validations", type=positive, default=10, help="default: 10")
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--choices", action="store_true", help="designs of Compacter")
    group.add_argument("--starts", action="store_true", help="initialisations of Compacter")
    parser.add_argument("--only", nargs="+", choices=[*NETWORKS, *CHOICES, *STARTS], metavar="NAME")
    args = parser.parse_args(argv)
    chosen = CHOICES if args.choices else STARTS if args.starts else NETWORKS
    args.only = args.only or list(chosen)
    runs = {} if args.report else {name: options(name, args) for name in args.only}
    if missing := [name for name in runs if not find(name).installed]:
        raise UserError(f"{', '.join(missing)}: not installed, {INSTALL}")
    args.output.mkdir(parents=True, exist_ok=True)
    os.chdir(args.output)  # BasicSR's root
    if runs:
        device = "cuda" if torch.cuda.is_available() else "cpu"
        MACHINE.write_text(describe_device(device), encoding="utf-8")
    for name, opt in runs.items():
        if status := train_network(find(name), opt):
            return status
    print(report(args.only))
    return 0


if __name__ == "__main__":
    run(main)
