"""The networks. They depend on torch alone and can be read, copied or exported by themselves."""

from .bicubic_arch import Bicubic
from .casa_arch import CASA
from .compacter_arch import CompacterArch
from .dsgm_arch import DSGM

__all__ = ["CASA", "DSGM", "Bicubic", "CompacterArch"]
