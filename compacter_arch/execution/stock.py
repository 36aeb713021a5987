"""Whether a network is still the one that :mod:`compacter_arch.archs` built.

What users add to a network (hooks, LoRA, quantised layers, methods of their own) is called by the
plain network alone. A faster way to compute the same must not pass it by, so it looks here first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as torch_module

from ..archs import CASA, DSGM, CompacterArch
from ..archs.casa_arch import RelativePositionBias
from ..archs.compacter_arch import ChannelNorm, CompacterBlock
from ..archs.dsgm_arch import MLP

LAYERS: set[type[nn.Module]] = {
    *(CompacterArch, CompacterBlock, CASA, DSGM, MLP, RelativePositionBias, ChannelNorm),
    *(nn.Linear, nn.Conv2d, nn.ModuleList),
}  # and their equals; subclasses are not stock
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
SETTINGS: dict[type[nn.Module], dict[str, Any]] = {
    nn.Conv2d: {
        "kernel_size": (3, 3),
        "stride": (1, 1),
        "padding": (1, 1),
        "dilation": (1, 1),
        "padding_mode": "zeros",
    },
    ChannelNorm: {"eps": 1e-5},
}


class UnavailableError(Exception):
    """A faster way to compute a network cannot be used here; says why in one line."""


def find_modified(module: nn.Module) -> str | None:
    """The first part of a network that is not as it was built, and what is different.

    Args:
        module: the network, or a part of it.

    Returns:
        For example ``blocks.0.casa.qkv has a forward hook``; None if every part is stock.
    """
    if torch_module._has_any_global_hook():
        return "a hook for all modules is registered"
    for name, part in module.named_modules():
        for difference in differences(part):
            return f"{name or 'the network'} {difference}"
    return None


def differences(part: nn.Module) -> Iterator[str]:
    """What is different in one module, without those inside of it."""
    if type(part) not in LAYERS:
        yield f"is a {type(part).__name__}"
    for hooks in HOOKS:
        if getattr(part, hooks):
            yield f"has a {hooks.strip('_').replace('_', ' ').removesuffix('s')}"
    for name, value in vars(part).items():
        if callable(value) and not name.startswith("_") and hasattr(type(part), name):
            yield f"has a {name} of its own"
    if getattr(part, "_compiled_call_impl", None) is not None:
        yield "is compiled"
    for name, setting in SETTINGS.get(type(part), {}).items():
        if getattr(part, name) != setting:
            yield f"has {name} {getattr(part, name)}"
    for name, parameter in part._parameters.items():
        if type(parameter) not in (nn.Parameter, Tensor):
            yield f"has no {name}" if parameter is None else f"has a {type(parameter).__name__}"


def is_transformed() -> bool:
    """Whether this is called inside of ``torch.vmap``, ``torch.func.grad`` and the like."""
    return torch._C._functorch.peek_interpreter_stack() is not None
