"""A trained network from its file, or its name, alone."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..archs import CompacterArch
from ..archs.compacter_arch import deduce_options
from ..compat.checkpoints import UNREADABLE, load_safely
from ..errors import UserError
from ..zoo import TASKS, weights_file

PARAM_KEYS = ("params_ema", "params")  # BasicSR's; the averaged weights if there are both


def load_model(source: str | Path, device: str | torch.device = "cpu") -> CompacterArch:
    """The Compacter in a checkpoint of BasicSR's format or in a bare state dict.

    Its options are deduced from the weights. Nothing in the file is executed.

    Args:
        source: a task of :mod:`compacter_arch.zoo`, such as ``sr_x2``; or a file, ``.pth``, of
            whose ``params_ema`` and ``params`` the former is taken, or ``.safetensors``.
        device: where it goes.

    Returns:
        The network in evaluation mode: (B, C, H, W) in [0, 1] -> (B, C, H * upscale, W * upscale),
        not clipped.

    Raises:
        UserError: no such task or file; damaged; not a Compacter's.
    """
    path = weights_file(str(source)) if str(source) in TASKS else Path(source)
    if not path.is_file():
        raise UserError(f"{path}: no such file, and none of the tasks {', '.join(TASKS)}")
    content = read_tensors(path)
    key = next((key for key in PARAM_KEYS if isinstance(content, Mapping) and key in content), None)
    state = content if key is None else content[key]
    try:
        state = {name.removeprefix("module."): value for name, value in state.items()}
        network = CompacterArch(**deduce_options(state))
        network.load_state_dict(state)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the weights of a Compacter") from error
    return network.to(device).eval()


def read_tensors(path: Path) -> Any:
    """What a file of tensors holds; nothing in it is executed.

    Raises:
        UserError: damaged, or something else; a ``.safetensors`` without that package.
    """
    if path.suffix == ".safetensors":
        try:
            from safetensors import SafetensorError
            from safetensors.torch import load_file
        except ImportError as error:
            raise UserError(f"{path}: needs pip install safetensors") from error
        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path}: damaged, or not a file of safetensors") from error
    try:
        return load_safely(path, map_location="cpu")
    except (OSError, *UNREADABLE) as error:
        raise UserError(f"{path}: damaged, or not a checkpoint of plain tensors") from error
