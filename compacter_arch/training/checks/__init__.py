"""What an option file would do, found out before anything is created."""

from __future__ import annotations

import resource
import tempfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from ...errors import UserError
from ..options import Options, complete_options
from .data import check_data
from .findings import Findings
from .keys import check_keys, check_sections
from .quiet import quiet_logger
from .weights import check_weights


def check_options(opt: Options, file: Path, root: Path, is_train: bool) -> Findings:
    """Run all checks on options as read: keys, output folder, data, weights, one training step.

    Nothing is created below ``root`` and ``opt`` stays as it is.

    Raises:
        UserError: one line per problem, each naming the file and the key.
    """
    found = Findings()
    opt = deepcopy(opt)

    def stop_at_problems() -> None:
        if found.problems:
            raise UserError("\n".join(f"{file}: {problem}" for problem in found.problems))

    check_sections(opt, is_train, found)
    stop_at_problems()
    check_keys(opt, is_train, found)
    stop_at_problems()
    check_output(opt["name"], root, is_train, found)
    with found.blame("datasets"):
        opt = complete_options(opt, root, is_train)
    stop_at_problems()
    datasets = check_data(opt, is_train, found)
    check_weights(opt, found)
    stop_at_problems()
    if is_train:
        check_step(opt, datasets["train"], found)
        stop_at_problems()
    return found


def check_output(name: str, root: Path, is_train: bool, found: Findings) -> None:
    """The folder of the results can be written: tried out with a folder that vanishes again."""
    folder = root / ("experiments" if is_train else "results")
    existing = next(path for path in (folder / name, folder, root) if path.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".check_", dir=existing):
            pass
    except OSError as error:
        found.problems.append(
            f"name: {name}: cannot write into {existing} ({error.strerror}); "
            "change its permissions or the current directory"
        )
    exists = " (exists; it is renamed unless you resume)" if (folder / name).exists() else ""
    found.facts.append(f"output: {folder / name}{exists}")


def check_step(opt: Options, dataset: Any, found: Findings) -> None:
    """Build the model and do one step of training on one batch; the result is thrown away."""
    from basicsr.models import build_model

    on_gpu = opt["num_gpu"] != 0
    batch_size = opt["datasets"]["train"]["batch_size_per_gpu"]
    batch, model = None, None
    with found.blame("datasets.train"):
        batch = default_collate([dataset[i % len(dataset)] for i in range(batch_size)])
    with found.blame("train"), quiet_logger():
        model = build_model(opt)
    if batch is None or model is None:
        return
    with found.blame("train"):
        before = peak_memory(on_gpu)
        model.feed_data(batch)
        model.optimize_parameters(1)
        log = ", ".join(f"{key} {value:.4g}" for key, value in model.get_current_log().items())
        shape = "x".join(map(str, batch["lq"].shape)) if "lq" in batch else f"{batch_size} samples"
        memory = f"{(peak_memory(on_gpu) - before) / 2**20:,.0f} MiB"
        found.facts.append(
            f"step: forward and backward of a batch of {shape}: {log}, "
            f"{memory} of {'GPU' if on_gpu else 'CPU'} memory"
        )


def peak_memory(on_gpu: bool) -> int:
    """Bytes: the highest use of GPU memory so far, or of main memory by this process."""
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
