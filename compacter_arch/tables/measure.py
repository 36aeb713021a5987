"""A network measured on a test set, under the protocol of its task."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from basicsr.data import build_dataset
from torch import nn
from tqdm import tqdm

import compacter_arch

from ..metrics.scoring import Scoring
from ..training.checks.quiet import quiet_logger
from .cache import Cache, fingerprint, hash_folder, hash_network
from .protocols import Protocol


def build_test_set(protocol: Protocol, name: str) -> Any:
    """The data set of a test set, as BasicSR builds it."""
    options = deepcopy(protocol.datasets[name]) | {"phase": "test", "scale": protocol.scale}
    with quiet_logger():
        return build_dataset(options)


def missing_folder(protocol: Protocol, name: str) -> str | None:
    """The folder of a test set that is not there, if one is not."""
    options = protocol.datasets[name]
    roots = [options[key] for key in ("dataroot_gt", "dataroot_lq") if key in options]
    return next((root for root in roots if not Path(root).exists()), None)


def measure_once(
    network: nn.Module,
    protocol: Protocol,
    name: str,
    cache: Cache,
    label: str,
    *,
    device: torch.device | str = "cpu",
    save_to: Path | None = None,
) -> dict[str, float]:
    """What :func:`measure` gives, from the cache if it is there, with a bar else.

    The same is: weights, structure, images, degradation, metrics and version of this package.
    Images that are to be saved and are not there are made anew.

    Args:
        network, protocol, name, device, save_to: see :func:`measure`.
        cache: of earlier results.
        label: of the network.
    """
    options = protocol.datasets[name]
    settings = {key: value for key, value in options.items() if not key.startswith("dataroot")}
    roots = [options[key] for key in ("dataroot_gt", "dataroot_lq") if key in options]
    key = fingerprint(
        [
            hash_network(network),
            protocol.scale,
            dict(protocol.metrics),
            settings,
            [hash_folder(Path(root)) for root in roots],
            compacter_arch.__version__,
        ]
    )
    result = cache.get(key)
    if result is None or (save_to is not None and not save_to.exists()):
        total = len(build_test_set(protocol, name))
        text = " ".join(filter(None, (label, protocol.title, name)))
        with tqdm(desc=text, total=total, unit="image", disable=None) as bar:
            result = measure(
                network, protocol, name, device=device, save_to=save_to, on_image=bar.update
            )
        cache.put(key, result, {"model": label, "task": protocol.title, "set": name})
    return result


def measure(
    network: nn.Module,
    protocol: Protocol,
    name: str,
    *,
    device: torch.device | str = "cpu",
    save_to: Path | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> dict[str, float]:
    """The mean of every metric over the images of a test set.

    Metrics and files of one image are made while the network restores the next, as far as that is
    faster: see :class:`Scoring`.

    Args:
        network: on ``device``, in evaluation mode.
        protocol: the task.
        name: of one of its test sets.
        save_to: folder for the restored images, as PNG.
        on_image: called after each image.

    Returns:
        The metrics by name.
    """
    dataset = build_test_set(protocol, name)
    with Scoring(protocol.metrics, device) as scoring:
        for index in range(len(dataset)):
            sample = dataset[index]
            with torch.inference_mode():
                output = network(sample["lq"][None].to(device))[0].cpu()
            file = save_to / f"{Path(sample['gt_path']).stem}.png" if save_to else None
            scoring.add(output, sample["gt"], file)
            on_image()
    scores = scoring.results()
    return {metric: float(np.mean([score[metric] for score in scores])) for metric in scores[0]}
