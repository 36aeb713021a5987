"""What an option file would do, found out before anything is created."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import default_collate

from ...archs import CompacterArch
from ...errors import UserError
from ...messages import as_line
from ..options import Options, complete_options
from .data import check_data
from .findings import Findings
from .keys import check_keys, check_sections
from .limits import bounded_memory
from .quiet import quiet_logger
from .weights import check_weights

LARGEST_EPOCH = 20_000_000  # images; BasicSR makes a list of their order, of 1 GB here


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
            raise UserError("\n".join(as_line(f"{file}: {text}") for text in found.problems))

    check_sections(opt, is_train, found)
    stop_at_problems()
    check_keys(opt, is_train, found)
    stop_at_problems()
    check_output(opt, root, is_train, found)
    with found.blame("datasets"):
        opt = complete_options(opt, root, is_train)
    stop_at_problems()
    datasets = check_data(opt, is_train, found)
    networks = check_weights(opt, found)
    check_fit(networks.get("network_g"), datasets, found)
    stop_at_problems()
    check_metrics(opt, datasets, found)
    if is_train:
        check_epoch(opt, datasets["train"], found)
        stop_at_problems()
        check_step(opt, datasets["train"], found)
    stop_at_problems()
    found.warnings = list(map(as_line, found.warnings))
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


def check_fit(network: Any, datasets: Mapping[str, Any], found: Findings) -> None:
    """A Compacter has the channels of the images and enlarges them as they want it.

    The first data set that it does not fit is told.
    """
    if not isinstance(network, CompacterArch):
        return
    chans, upscale = network.conv_first.in_channels, network.upscale
    for phase, dataset in datasets.items():
        sample = dataset[0]
        if "lq" not in sample:
            continue
        lq = sample["lq"]
        scale = sample["gt"].shape[1] / lq.shape[1] if "gt" in sample else upscale
        if lq.shape[0] != chans:
            problem = f"in_chans: {chans}, but datasets.{phase} has {lq.shape[0]} channels"
        elif round(scale) != upscale:
            problem = f"upscale: {upscale}, but datasets.{phase} is of scale {scale:g}"
        else:
            continue
        found.problems.append(f"network_g.{problem}")
        return


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


def check_epoch(opt: Options, dataset: Any, found: Findings) -> None:
    """The order of the images of an epoch has room in memory."""
    ratio = opt["datasets"]["train"].get("dataset_enlarge_ratio", 1)
    if (images := len(dataset) * ratio) > LARGEST_EPOCH:
        found.problems.append(
            f"datasets.train.dataset_enlarge_ratio: {ratio} makes an epoch of {images:.3g} images; "
            f"at most {LARGEST_EPOCH:,} are possible"
        )


def check_step(opt: Options, dataset: Any, found: Findings) -> None:
    """Build the model and do one step of training on one batch; the result is thrown away."""
    from basicsr.models import build_model

    on_gpu = opt["num_gpu"] != 0
    batch_size = opt["datasets"]["train"]["batch_size_per_gpu"]
    batch, model = None, None
    memory = nullcontext() if on_gpu else bounded_memory()
    with found.blame("datasets.train"), bounded_memory():
        batch = default_collate([dataset[i % len(dataset)] for i in range(batch_size)])
    with found.blame("train"), quiet_logger():
        model = build_model(opt)
    if batch is None or model is None:
        return
    with found.blame("train"), quiet_logger(), memory:
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
        if backend := getattr(model, "backend", None):
            fact += f", by {backend}"
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
