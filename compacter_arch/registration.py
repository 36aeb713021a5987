"""The one list of what this package registers with BasicSR."""

from __future__ import annotations

from typing import Any


def register() -> None:
    """Put our parts into BasicSR's registries; a name that is taken stays as it is."""
    from basicsr.utils import registry

    from . import data, losses, metrics, models, networks

    parts: dict[Any, list[Any]] = {
        registry.ARCH_REGISTRY: [
            networks.CompacterArch,
            networks.CASA,
            networks.DSGM,
            networks.Bicubic,
        ],
        registry.DATASET_REGISTRY: [
            data.GaussianNoiseDataset,
            data.JPEGCompressionDataset,
            data.RawPairedImageDataset,
            data.SubsetsDataset,
        ],
        registry.LOSS_REGISTRY: [losses.FrequencyLoss, losses.L1FrequencyLoss, losses.PSNRLoss],
        registry.METRIC_REGISTRY: [metrics.calculate_psnrb, metrics.calculate_ssim3d],
        registry.MODEL_REGISTRY: [models.RestorationModel],
    }
    for target, members in parts.items():
        for part in members:
            if part.__name__ not in target:
                target.register(part)


def register_when_asked() -> None:
    """Let BasicSR's registries get our parts before they answer for the first time."""
    from .compat.registry import fill_when_asked

    fill_when_asked(register)
