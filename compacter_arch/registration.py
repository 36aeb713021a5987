"""The one list of what this package registers with BasicSR."""

from __future__ import annotations

from typing import Any

from . import archs, data, losses, metrics, models


def register() -> None:
    """Put our parts into BasicSR's registries, once."""
    from basicsr.utils import registry

    parts: dict[Any, list[Any]] = {
        registry.ARCH_REGISTRY: [archs.CompacterArch, archs.CASA, archs.DSGM, archs.Bicubic],
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
