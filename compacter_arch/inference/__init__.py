"""Networks loaded from files, ready to restore images."""

from .loading import load_model

__all__ = ["load_model"]
