"""Compacter trained on a CPU with its blocks, and their gradients, computed by compiled kernels."""

from __future__ import annotations

import ctypes
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from ...archs import CASA, DSGM, CompacterArch
from ...archs.compacter_arch import CompacterBlock
from ..stock import find_modified, is_transformed
from .compiler import load_library
from .inference import Pointers, check_design, kernel_constants, pointer


def train_by_kernels(network: CompacterArch) -> None:
    """Let compiled kernels compute the blocks of a network in training.

    Results and gradients are those of the plain network to 1e-5, in float32. Parameters and state
    dict stay as they are. The plain network is used without gradients, on a GPU, for other types
    than float32 and bfloat16, and once a hook or a wrapped layer is found in the network. Under
    autocast the blocks are computed in float32.

    The kernels are compiled for the sizes of the network once, in about six seconds.

    Args:
        network: changed in place.

    Raises:
        UnavailableError: the network was changed after it was built; no compiler, or one without
            OpenMP; a design or size of network that the kernels were not written for.
    """
    check_design(network)
    kernels = TrainingKernels(tuple(kernel_constants(network).items()))
    kernels.library()
    network.training_kernels = kernels  # type: ignore[assignment]


@dataclass(frozen=True)
class TrainingKernels:
    """The functions of ``training.cpp`` for networks of one size.

    Args:
        sizes: see :func:`~.inference.kernel_constants`.
    """

    sizes: tuple[tuple[str, int], ...]

    def library(self) -> ctypes.CDLL:
        """The functions, compiled when they are needed for the first time."""
        return training_library(self.sizes)

    def apply_to(self, network: CompacterArch, x: Tensor) -> bool:
        """Whether they compute what the plain network would compute for ``x``."""
        if not torch.is_grad_enabled() or is_transformed():
            return False
        plain = x.device.type == "cpu" and x.dtype in (torch.float32, torch.bfloat16)
        return plain and find_modified(network) is None

    def body(self, network: CompacterArch, x: Tensor) -> Tensor:
        """``network.body(x)``: (B, C, H, W) -> (B, C, H, W), in float32."""
        with torch.autocast("cpu", enabled=False):
            x = x.permute(0, 2, 3, 1).float()
            # Of an image of two by two windows: elsewhere, in the last column, in the last row, and
            # in both.
            corners = x.new_zeros(1, 1, *(2 * side for side in network.window))
            masks = [
                mask.float().expand(-1, dict(self.sizes)["HEADS"], -1, -1).contiguous()
                for mask in network.attention_masks(corners)
            ]
            for block, shifted in zip(network.blocks, network.shifts, strict=True):
                run = partial(self.block, cast(CompacterBlock, block))
                if network.use_checkpoint and network.training:
                    x = checkpoint(run, x, masks[shifted], use_reentrant=False)
                else:
                    x = run(x, masks[shifted])
            return x.permute(0, 3, 1, 2)

    def block(self, block: CompacterBlock, x: Tensor, masks: Tensor) -> Tensor:
        """A block of the network: (B, H, W, C) -> (B, H, W, C)."""
        casa, ffn = cast(CASA, block.casa), cast(DSGM, block.ffn)
        step = tuple(side // 2 if casa.shift else 0 for side in casa.window)
        rest = [casa.temperature, masks, *weights(casa.local), *weights(casa.proj)]
        x = Mix.apply(self, step, x, *weights(block.norm1), *weights(casa.qkv), *rest)
        rest = [*weights(ffn.fc_in), *weights(ffn.dwconv), *weights(ffn.fc_out)]
        y: Tensor = Feed.apply(self, x, *weights(block.norm2), *rest)
        return y


@cache
def training_library(sizes: tuple[tuple[str, int], ...]) -> ctypes.CDLL:
    """``training.cpp`` compiled for one size of network."""
    return load_library("training.cpp", dict(sizes), "-fopenmp")


def weights(layer: Any) -> tuple[Tensor, Tensor]:
    """Weight and bias of a layer."""
    return layer.weight, layer.bias


class MixWeights(Pointers):
    """``struct Mix`` of ``training.cpp``."""

    names = ("norm_w", "norm_b", "w", "b", "temperature", "masks", "taps", "b_local", "w_o", "b_o")
    _fields_ = [(name, ctypes.c_void_p) for name in names]


class FeedWeights(Pointers):
    """``struct Feed`` of ``training.cpp``."""

    names = ("norm_w", "norm_b", "w_in", "b_in", "taps", "b_conv", "w_out", "b_out")
    _fields_ = [(name, ctypes.c_void_p) for name in names]


class Kept(Pointers):
    """``struct Kept`` of ``training.cpp``."""

    names = ("qkv", "s", "t", "u", "sums", "channels")
    _fields_ = [(name, ctypes.c_void_p) for name in names]


class Size(ctypes.Structure):
    """``struct Size`` of ``training.cpp``."""

    names = ("batch", "height", "width", "step_h", "step_w", "variants", "threads")
    _fields_ = [(name, ctypes.c_int64) for name in names]


def structure(kind: Any, tensors: Iterable[Tensor]) -> Any:
    """A reference to a structure of pointers to tensors, in the order of its fields."""
    return ctypes.byref(kind(**dict(zip(kind.names, tensors, strict=True))))


def size_of(x: Tensor, step: tuple[int, int] = (0, 0), variants: int = 1) -> Any:
    """A reference to the sizes of images (B, H, W, C)."""
    return ctypes.byref(Size(*x.shape[:3], *step, variants, torch.get_num_threads()))


class Mix(torch.autograd.Function):
    """``x + casa(norm(x))``.

    Takes the kernels; by how much the windows are moved; x (B, H, W, C); weight and bias of the
    norm and of Q, K, V; the temperature; masks (1 or 4, heads, N, N); weight and bias of the
    convolution and of the last projection. Of four masks, those of windows elsewhere, in the last
    column, in the last row, and in both. They differ by constants alone: the gradient of what they
    share is that of the first.
    """

    @staticmethod
    def forward(
        ctx: Any, kernels: TrainingKernels, step: tuple[int, int], x: Tensor, *weights: Tensor
    ) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x, weights = x.contiguous(), tuple(w.contiguous() for w in weights)
        masks, library = weights[5], kernels.library()
        (*shape, c), n = x.shape, masks.shape[-1]
        windows = x[..., 0].numel() // n
        y, qkv = torch.empty_like(x), x.new_empty(*shape, 3 * c)
        s, t, u = (x.new_empty(windows, n, c) for _ in range(3))
        sums = x.new_empty(windows, masks.shape[1], 2, n)
        channels = x.new_empty(len(x), library.channels_size(), dtype=torch.uint8)
        kept = qkv, s, t, u, sums, channels
        ctx.library, ctx.size = library, (step, len(masks))
        library.mix(
            structure(MixWeights, weights),
            *(pointer(x), pointer(y), structure(Kept, kept), size_of(x, *ctx.size)),
        )
        ctx.save_for_backward(x, *kept, *weights)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x and of the weights."""
        x, *saved = ctx.saved_tensors
        kept, weights = saved[: len(Kept.names)], saved[len(Kept.names) :]
        dy, dx, grads = dy.contiguous(), torch.empty_like(x), [torch.empty_like(w) for w in weights]
        ctx.library.mix_backward(
            *(structure(MixWeights, weights), structure(MixWeights, grads)),
            *(pointer(x), pointer(dy), pointer(dx), structure(Kept, kept), size_of(x, *ctx.size)),
        )
        return None, None, dx, *grads


class Feed(torch.autograd.Function):
    """``x + dsgm(norm(x))``.

    Takes the kernels; x (B, H, W, C); weight and bias of the norm, of the first projection, of the
    convolution and of the last projection.
    """

    @staticmethod
    def forward(ctx: Any, kernels: TrainingKernels, x: Tensor, *weights: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x, weights = x.contiguous(), tuple(w.contiguous() for w in weights)
        y, (b, height, width, _) = torch.empty_like(x), x.shape
        h = x.new_empty(b, height, width | 1, len(weights[3]))
        ctx.library = kernels.library()
        ctx.library.feed(
            structure(FeedWeights, weights), pointer(x), pointer(y), pointer(h), size_of(x)
        )
        ctx.save_for_backward(x, h, *weights)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of x and of the weights."""
        x, h, *weights = ctx.saved_tensors
        dy, dx, grads = dy.contiguous(), torch.empty_like(x), [torch.empty_like(w) for w in weights]
        ctx.library.feed_backward(
            *(structure(FeedWeights, weights), structure(FeedWeights, grads)),
            *(pointer(x), pointer(dy), pointer(dx), pointer(h), size_of(x)),
        )
        return None, dx, *grads
