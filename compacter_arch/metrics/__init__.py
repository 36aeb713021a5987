"""Metrics, registered in BasicSR's ``METRIC_REGISTRY``."""

from .psnrb import calculate_psnrb

__all__ = ["calculate_psnrb"]
