"""The one list of what this package registers with BasicSR."""

from __future__ import annotations

from . import archs, losses


def register() -> None:
    """Put our parts into BasicSR's registries, once."""
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

    parts = [
        (ARCH_REGISTRY, archs.CompacterArch),
        (ARCH_REGISTRY, archs.CASA),
        (ARCH_REGISTRY, archs.DSGM),
        (ARCH_REGISTRY, archs.Bicubic),
        (LOSS_REGISTRY, losses.L1FrequencyLoss),
    ]
    for registry, part in parts:
        if part.__name__ not in registry:
            registry.register(part)
