"""The blocks of the network as compiled kernels for a CPU, for inference.

A network of 400K parameters on a CPU spends most of its time on moving intermediate images. The
kernels (``block.cpp``) are compiled on the user's machine when they are first needed, in about two
seconds, for its instructions and for the network's sizes; nothing but a C++ compiler is needed.
"""

from .compiler import UnavailableError
from .network import FusedCompacter

__all__ = ["FusedCompacter", "UnavailableError"]
