"""Metrics, registered in BasicSR's ``METRIC_REGISTRY``."""

from .psnrb import calculate_psnrb
from .ssim3d import calculate_ssim3d

__all__ = ["calculate_psnrb", "calculate_ssim3d"]
