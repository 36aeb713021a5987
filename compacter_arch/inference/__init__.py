"""Networks loaded from files, ready to restore images."""

from .acceleration import PRECISIONS, accelerate
from .loading import load_model

__all__ = ["PRECISIONS", "accelerate", "load_model"]
