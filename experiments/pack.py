"""Puts what a run has trained into the zoo: averaged weights in both formats, and its log as CSV.

python experiments/pack.py experiments/Compacter_SRx2 experiments/pretrained_models/Compacter_SRx2
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

import torch

from compacter_arch.export.formats import safetensors_bytes
from compacter_arch.inference import load_model


def main() -> None:
    """Load, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a training")
    parser.add_argument("output", type=Path, help="files to write, without their suffixes")
    args = parser.parse_args()
    checkpoints = list((args.run / "models").glob("net_g_*.pth"))
    newest = max(checkpoints, key=lambda file: file.stat().st_mtime)  # also of a run that goes on
    network = load_model(newest)  # the averaged weights
    args.output.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"params": network.state_dict()}, args.output.with_suffix(".pth"))
    args.output.with_suffix(".safetensors").write_bytes(safetensors_bytes(network, torch.float32))
    log = shutil.copyfile(
        args.run / f"train_{args.run.resolve().name}.csv", args.output.with_suffix(".csv")
    )
    print(f"{args.output}: {newest.name}; {log.read_text(encoding='utf-8').splitlines()[-1]}")


if __name__ == "__main__":
    main()
