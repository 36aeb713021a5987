"""The one list of what this package registers with BasicSR."""

from __future__ import annotations

from . import archs, losses


def register() -> None:
    """Put our parts into BasicSR's registries, once."""
    from basicsr.utils.registry import ARCH_REGISTRY, LOSS_REGISTRY

    parts = {
        ARCH_REGISTRY: [archs.CompacterArch, archs.CASA, archs.DSGM, archs.Bicubic],
        LOSS_REGISTRY: [losses.L1FrequencyLoss],
    }
    for registry, classes in parts.items():
        for cls in classes:
            if cls.__name__ not in registry:
                registry.register(cls)
