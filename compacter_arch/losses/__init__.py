"""Losses, registered in BasicSR's ``LOSS_REGISTRY``."""

from .frequency_loss import L1FrequencyLoss

__all__ = ["L1FrequencyLoss"]
