"""A trained network by name, as fast as it can be had here."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

from ..execution import UnavailableError
from .acceleration import accelerate
from .loading import load_model


def load_fast(
    source: str | Path, device: str | torch.device = "cpu", precision: str = "fp32"
) -> tuple[nn.Module, str]:
    """A network from its file or name, accelerated where that is possible.

    Args:
        source, device: see :func:`~compacter_arch.inference.load_model`.
        precision: see :func:`~compacter_arch.inference.accelerate`.

    Returns:
        The network, and why it is the plain one in fp32; empty if it is not.

    Raises:
        UserError: no such task or file; damaged; not a Compacter's.
    """
    model = load_model(source, device)
    try:
        return accelerate(model, precision), ""
    except UnavailableError as error:
        return model, f"plain network, in fp32: {error}"
