"""Networks loaded from files, and photographs restored with them."""

from .acceleration import PRECISIONS, accelerate
from .loading import load_model
from .restoration import restore

__all__ = ["PRECISIONS", "accelerate", "load_model", "restore"]
