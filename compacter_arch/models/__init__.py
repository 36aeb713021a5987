"""Models, registered in BasicSR's ``MODEL_REGISTRY``."""

from .restoration_model import RestorationModel

__all__ = ["RestorationModel"]
