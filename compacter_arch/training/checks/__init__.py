"""What an option file would do, found out before anything is created."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
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
    check_output(opt, root, is_train, found)
    with found.blame("datasets"):
        opt = complete_options(opt, root, is_train)
    stop_at_problems()
    datasets = check_data(opt, is_train, found)
    check_weights(opt, found)
    stop_at_problems()
    check_metrics(opt, datasets, found)
    if is_train:
        check_step(opt, datasets["train"], found)
    stop_at_problems()
    return found


def check_output(opt: Options, root: Path, is_train: bool, found: Findings) -> None:
    """The folders of the results can be written: tried out with a folder that vanishes again."""
    name = opt["name"]
    folders = [root / ("experiments" if is_train else "results")]
    if is_train and opt["logger"]["use_tb_logger"]:
        folders.append(root / "tb_logger")
    for folder in folders:
        existing = next(path for path in (folder / name, folder, root) if path.exists())
        try:
            with tempfile.TemporaryDirectory(prefix=".check_", dir=existing):
                pass
        except OSError as error:
            found.problems.append(
                f"name: {name}: cannot write into {existing} ({error.strerror}); "
                "change its permissions or the current directory"
            )
    output = folders[0] / name
    exists = " (exists; it is renamed unless you resume)" if output.exists() else ""
    found.facts.append(f"output: {output}{exists}")


def check_metrics(opt: Options, datasets: Mapping[str, Any], found: Findings) -> None:
    """The metrics can be computed: tried out on the first original of each data set."""
    from basicsr.metrics import calculate_metric
    from basicsr.utils import tensor2img

    for phase, dataset in datasets.items():
        sample = dataset[0] if phase != "train" else {}
        if "gt" not in sample:
            continue
        image = tensor2img([sample["gt"]])
        for name, metric in ((opt.get("val") or {}).get("metrics") or {}).items():
            with found.blame(f"val.metrics.{name}"):
                calculate_metric({"img": image, "img2": image}, metric)


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
        fact = f"step: forward and backward of a batch of {shape}: {log}"
        after = peak_memory(on_gpu)
        if before is not None and after is not None:
            kind = "GPU" if on_gpu else "CPU"
            fact += f", {(after - before) / 2**20:,.0f} MiB of {kind} memory"
        found.facts.append(fact)


def peak_memory(on_gpu: bool) -> int | None:
    """Bytes: the highest use of GPU memory so far, or of main memory by this process, if known."""
    if on_gpu:
        return torch.cuda.max_memory_allocated()
    if sys.platform == "win32":
        return None
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
