"""A trained network from its file alone."""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch

from ..archs import CompacterArch
from ..archs.compacter_arch import deduce_options
from ..errors import UserError

PARAM_KEYS = ("params_ema", "params")  # BasicSR's; the averaged weights if there are both


def load_model(file: str | Path, device: str | torch.device = "cpu") -> CompacterArch:
    """The Compacter in a checkpoint of BasicSR's format or in a bare state dict.

    Its options are deduced from the weights. Nothing in the file is executed.

    Args:
        file: ``net_g_*.pth``; of ``params_ema`` and ``params`` the former is taken.
        device: where it goes.

    Returns:
        The network in evaluation mode: (B, C, H, W) in [0, 1] -> (B, C, H * upscale, W * upscale),
        not clipped.

    Raises:
        UserError: no file, damaged, or not a Compacter's.
    """
    path = Path(file)
    if not path.is_file():
        raise UserError(f"{path}: no such file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, EOFError, OSError, pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise UserError(f"{path}: damaged, or not a checkpoint of plain tensors") from error
    key = next((key for key in PARAM_KEYS if isinstance(content, Mapping) and key in content), None)
    state = content if key is None else content[key]
    try:
        state = {name.removeprefix("module."): value for name, value in state.items()}
        network = CompacterArch(**deduce_options(state))
        network.load_state_dict(state)
    except (AttributeError, KeyError, RuntimeError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not the weights of a Compacter") from error
    return network.to(device).eval()
