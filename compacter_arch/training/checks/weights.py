"""Checks of the networks of an option file and of the weights that they start from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ...compat.checkpoints import UNREADABLE, load_safely
from ..options import Options
from .findings import Findings
from .keys import networks_of
from .limits import bounded_network
from .quiet import quiet_logger

STATE_KEYS = {"epoch", "iter", "optimizers", "schedulers"}


def check_weights(opt: Options, found: Findings) -> dict[str, torch.nn.Module]:
    """Networks can be built, pretrained weights exist and fit, a state to resume from exists.

    Returns:
        The networks by key, without those that have a problem.
    """
    from basicsr.archs import build_network

    paths, networks = opt["path"], {}
    state = paths.get("resume_state")
    if state and not Path(state).is_file():
        found.problems.append(f"path.resume_state: {state} does not exist")
    elif state:
        with found.blame("path.resume_state"):
            content = read_checkpoint(Path(state))
            if not isinstance(content, dict) or not content.keys() >= STATE_KEYS:
                raise ValueError(f"{state} holds no training state")
    for key in networks_of(opt):
        network = None
        with found.blame(key), quiet_logger(), bounded_network():
            network = build_network(opt[key])
        if network is None:
            continue
        networks[key] = network
        if empty := [name for name, p in network.named_parameters() if p.numel() == 0]:
            found.problems.append(f"{key}: a size of 0 leaves {empty[0]} empty")
        count = sum(p.numel() for p in network.parameters())
        found.facts.append(f"{key}: {opt[key]['type']}, {count:,} parameters")
        file, where = paths.get(f"pretrain_{key}"), f"path.pretrain_{key}"
        if file is None:
            continue
        if not Path(file).is_file():
            found.problems.append(f"{where}: {file} does not exist")
            continue
        label = key.removeprefix("network_")
        with found.blame(where):
            weights = read_weights(Path(file), paths.get(f"param_key_{label}", "params"))
            reason = misfit(network, weights)
            if not reason:
                network.load_state_dict(weights)  # a network may refuse more than shapes
                found.facts.append(f"{where}: {file} fits")
            elif paths.get(f"strict_load_{label}", True):
                found.problems.append(f"{where}: {file} does not fit {key}: {reason}")
            else:
                found.warnings.append(f"{where}: {file} fits {key} in part: {reason}")
    return networks


def read_checkpoint(file: Path) -> Any:
    """What a file written by ``torch.save`` holds; nothing in it is executed.

    Raises:
        ValueError: damaged, or not of plain tensors; names the file.
    """
    try:
        return load_safely(file, map_location="cpu")
    except (OSError, *UNREADABLE) as error:
        raise ValueError(f"{file} is damaged, or not a checkpoint of plain tensors") from error


def read_weights(file: Path, param_key: str | None) -> dict[str, torch.Tensor]:
    """The parameters that would be loaded from a checkpoint, or from a file of nothing else.

    Raises:
        ValueError: not a checkpoint of tensors, or without the key; names the file.
    """
    content = read_checkpoint(file)
    if not isinstance(content, Mapping):
        raise ValueError(f"{file} holds no weights of a network")
    if param_key is not None and not all(map(torch.is_tensor, content.values())):
        names = dict.fromkeys((param_key, "params"))
        key = next((name for name in names if name in content), None)
        if key is None:
            raise ValueError(f"{file} holds no {' and no '.join(map(repr, names))}")
        content = content[key]
    return {key.removeprefix("module."): value for key, value in content.items()}


def misfit(network: torch.nn.Module, weights: Mapping[str, torch.Tensor]) -> str:
    """Why weights do not fit a network, in one line; empty if they do."""
    own = network.state_dict()
    shapes = [key for key in own if key in weights and own[key].shape != weights[key].shape]
    missing = [key for key in own if key not in weights]
    extra = [key for key in weights if key not in own]
    reasons = []
    if shapes:
        key = shapes[-1]
        there, here = tuple(weights[key].shape), tuple(own[key].shape)
        reasons.append(
            f"{len(shapes)} of another shape, e.g. {key} {there} in the file and {here} in the "
            "network (another scale or width?)"
        )
    if missing:
        reasons.append(f"{len(missing)} missing in the file, e.g. {missing[0]}")
    if extra:
        reasons.append(f"{len(extra)} unknown to the network, e.g. {extra[0]}")
    return "; ".join(reasons)
