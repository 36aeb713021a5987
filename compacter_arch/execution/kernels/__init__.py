"""The blocks of the network as compiled kernels for a CPU.

A network of 400K parameters on a CPU spends most of its time on moving intermediate images. The
kernels are compiled on the user's machine when they are first needed, in about two seconds, for its
instructions and for the network's sizes; nothing but a C++ compiler is needed. ``block.cpp`` is a
whole block, for inference; ``training.cpp`` has the parts that PyTorch trains slowly.
"""

from .inference import FusedCompacter
from .training import train_by_kernels

__all__ = ["FusedCompacter", "train_by_kernels"]
