"""Variants of a network trained alike, and what each reaches."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..errors import UserError
from ..inference import load_model
from ..training.options import Options, find_option_file, read_options
from .cache import Cache
from .complexity import count_multi_adds, count_parameters, published_input_size
from .measure import measure_once
from .protocols import Protocol
from .rows import Row, Table


def ablation_table(file: str, *, cache: Path | None = None) -> Table:
    """Train what is not trained yet, measure all, one row per variant.

    The option file is one for training with a section more:

        ablation:
          seeds: [0]
          variants:
            full: {}
            no interaction: {interaction: false}

    Each variant changes ``network_g`` and is trained by ``basicsr train`` as
    ``experiments/<name>_<variant>_seed<seed>``; one that was interrupted is resumed, one that is
    complete is read (remove its folder to train it anew). Scores are those of the averaged weights
    on the validation set, the mean over the seeds.

    Args:
        file: the option file.
        cache: folder of results that are known already; None measures anew.

    Raises:
        UserError: the file has no such section, or a training fails.
    """
    path = find_option_file(file)
    opt = read_options(path)
    seeds, variants = read_section(path, opt)
    data = next((d for phase, d in opt["datasets"].items() if phase.startswith("val")), None)
    if data is None:
        raise UserError(f"{path}: datasets: missing section 'val', on which variants are measured")
    scale = opt.get("scale", 1)
    metrics = opt["val"]["metrics"]
    protocol = Protocol("ablation", scale, scale, {data["name"]: data}, metrics)
    rows, spreads = [], []
    for variant, changes in variants.items():
        scores = []
        for seed in seeds:
            name = f"{opt['name']}_{variant.replace(' ', '_')}_seed{seed}"
            weights = train_variant(path, name, seed, changes)
            network = load_model(weights)
            scores.append(measure_once(network, protocol, data["name"], Cache(cache), variant))
        spreads += [max(s["psnr"] for s in scores) - min(s["psnr"] for s in scores)]
        mean = {metric: float(np.mean([score[metric] for score in scores])) for metric in metrics}
        count = count_multi_adds(network, published_input_size(scale), protocol.in_chans).total
        parameters = count_parameters(network)
        rows.append(Row(variant, "", "", parameters, count, scores={data["name"]: mean}))
    note = f"{opt['train']['total_iter']:,} iterations each, seed {', '.join(map(str, seeds))}"
    if len(seeds) > 1:
        note += f" (the mean; up to {max(spreads):.2f} dB between seeds)"
    return Table(f"Ablation, {opt['name']}", [data["name"]], list(metrics), rows, [note])


def read_section(path: Path, opt: Options) -> tuple[list[int], dict[str, Mapping[str, Any]]]:
    """Seeds and variants of an option file."""
    section = opt.get("ablation")
    if not isinstance(section, dict) or not isinstance(section.get("variants"), dict):
        raise UserError(f"{path}: missing section 'ablation' with 'variants', such as `full: {{}}`")
    variants = section["variants"]
    for variant, changes in variants.items():
        if not isinstance(changes, dict):
            raise UserError(f"{path}: ablation.variants.{variant}: expected keys of network_g")
    return list(section.get("seeds", [0])), variants


def train_variant(path: Path, name: str, seed: int, changes: Mapping[str, Any]) -> Path:
    """The weights of a variant; trains it, or the rest of it, if they are not complete.

    Raises:
        UserError: the training fails.
        KeyboardInterrupt: it was interrupted.
    """
    weights = Path("experiments") / name / "models" / "net_g_latest.pth"
    if weights.exists():  # written at the end alone
        return weights
    forced = [f"name={name}", f"manual_seed={seed}"]
    for key, value in changes.items():
        forced.append(f"network_g:{key}={yaml.safe_dump(value).splitlines()[0]}")
    command = [sys.executable, "-m", "compacter_arch", "train", "-opt", str(path)]
    status = subprocess.run([*command, "--auto_resume", "--force_yml", *forced]).returncode
    if status in (130, -2):
        raise KeyboardInterrupt
    if status:
        raise UserError(f"{path}: the training of {name} failed, see the lines above")
    return weights
