"""Puts what a run has trained into the zoo: averaged weights in both formats, and its log as CSV.

python experiments/pack.py experiments/Compacter_SRx2 experiments/pretrained_models/Compacter_SRx2
"""

from __future__ import annotations

import argparse
import csv
import re
from pathlib import Path

import torch

from compacter_arch.export.formats import safetensors_bytes
from compacter_arch.inference import load_model

STEP = re.compile(r"iter: *([\d,]+), lr:\(([^,]+),\)\].* l_pix: (\S+)")
METRIC = re.compile(r"^\s+# (\w+): ([\d.]+)\tBest")
VALIDATED = re.compile(r"Validation (\S+)")


def read_logs(run: Path) -> list[dict[str, str]]:
    """The lines of BasicSR's logs: iteration, lr, l_pix, and metrics where it was validated."""
    rows: dict[int, dict[str, str]] = {}
    last: dict[str, str] = {}
    prefix = ""
    for log in sorted(run.glob("train_*.log")):
        for line in log.read_text(encoding="utf-8").splitlines():
            if step := STEP.search(line):
                iteration = int(step[1].replace(",", ""))
                last = {"iteration": str(iteration), "lr": step[2], "l_pix": step[3]}
                rows[iteration] = last
            elif name := VALIDATED.search(line):
                prefix = name[1].lower()
            elif metric := METRIC.search(line):
                last[f"{prefix}_{metric[1]}"] = metric[2]
    return [rows[iteration] for iteration in sorted(rows)]


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
    rows = read_logs(args.run)
    columns = list(dict.fromkeys(column for row in rows for column in row))
    with args.output.with_suffix(".csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{args.output}: {newest.name}; {len(rows)} lines of log; {rows[-1]}")


if __name__ == "__main__":
    main()
