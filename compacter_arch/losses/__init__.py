"""Losses, registered in BasicSR's ``LOSS_REGISTRY``."""

from .frequency_loss import FrequencyLoss, L1FrequencyLoss
from .psnr_loss import PSNRLoss

__all__ = ["FrequencyLoss", "L1FrequencyLoss", "PSNRLoss"]
