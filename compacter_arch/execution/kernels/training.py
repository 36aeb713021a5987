"""Compacter trained on a CPU with the slow parts of its blocks computed by compiled kernels."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ...archs import CASA, DSGM, CompacterArch
from ..stock import LAYERS
from .compiler import load_library
from .inference import check_design, kernel_constants, pointer

TYPES = (torch.float32, torch.bfloat16)  # of images
PARTS = 16  # of an image batch, whose gradients of the position bias are summed one by one
Sizes = tuple[tuple[str, int], ...]


def train_by_kernels(network: CompacterArch) -> None:
    """Let compiled kernels compute the window attention and the gates of a network in training.

    Each block gets a CASA and a DSGM of the same layers and parameters, with some methods replaced.
    The state dict stays as it is, results and gradients are the same to 1e-5. Projections and
    convolutions are called as before, so that hooks and wrapped layers work. Without gradients, on
    a GPU, and in other types than float32 and bfloat16, the plain methods are used.

    The sizes are compiled for once, in about two seconds for each type of image.

    Args:
        network: changed in place.

    Raises:
        UnavailableError: the network was changed after it was built; no compiler, or one without
            OpenMP; a design or size of network that the kernels were not written for.
    """
    check_design(network)
    sizes = tuple(kernel_constants(network).items())
    for dtype in TYPES:
        training_library(sizes, dtype)
    for block in network.blocks:
        block.casa = TrainedCASA(block.casa, sizes)  # type: ignore[arg-type]
        block.ffn = TrainedDSGM(block.ffn, sizes)  # type: ignore[arg-type]


def wanted(x: Tensor) -> bool:
    """Whether the kernels are for what follows from ``x``."""
    return torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype in TYPES


class TrainedCASA(CASA):
    """A CASA whose window attention and interaction are kernels.

    Args:
        casa: whose layers and settings this one shares.
        sizes: of the network, see :func:`~.inference.kernel_constants`.
    """

    def __init__(self, casa: CASA, sizes: Sizes) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(vars(casa))
        self.sizes = sizes

    def spatial_attention(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None) -> Tensor:
        """As :meth:`CASA.spatial_attention`."""
        if mask is None or not wanted(q):
            return super().spatial_attention(q, k, v, mask)
        h, w = self.window
        if self.shift:  # the windows of the four corners stand for all
            rows, columns = q.shape[1] // h, q.shape[2] // w
            corners = [0, columns - 1, (rows - 1) * columns, rows * columns - 1]
            mask = mask[corners]
        mask = mask.expand(-1, self.num_heads, -1, -1).float()
        step = (h // 2, w // 2) if self.shift else (0, 0)
        s: Tensor = WindowAttention.apply(q, k, v, mask, step, self.sizes)
        return s

    def aggregate(self, s: Tensor | None, t: Tensor | None, local: Tensor | None) -> Tensor:
        """As :meth:`CASA.aggregate`."""
        if s is None or t is None or local is None or not wanted(s):
            return super().aggregate(s, t, local)
        return self.proj(Interaction.apply(s, t, local, self.sizes))


class TrainedDSGM(DSGM):
    """A DSGM whose gates are a kernel. Arguments as for :class:`TrainedCASA`."""

    def __init__(self, dsgm: DSGM, sizes: Sizes) -> None:
        nn.Module.__init__(self)
        self.__dict__.update(vars(dsgm))
        self.sizes = sizes

    def gate(self, ab: Tensor) -> Tensor:
        """As :meth:`DSGM.gate`."""
        if not wanted(ab):
            return super().gate(ab)
        g: Tensor = Gates.apply(ab, self.sizes)
        return g


LAYERS.update({TrainedCASA, TrainedDSGM})  # equal to those that they replace


class WindowAttention(torch.autograd.Function):
    """SWSA: q, k, v (B, H, W, C) and masks (1 or 4, heads, N, N) to (B, H, W, C).

    Of four masks, those of windows elsewhere, in the last column, in the last row, and in both.
    They differ by constants alone: the gradient of what they share is that of the first.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        masks: Tensor,
        step: tuple[int, int],
        sizes: Sizes,
    ) -> Tensor:
        """The attention of windows that are moved by ``step``."""
        if not q.stride() == k.stride() == v.stride() == row_strides(q):
            q, k, v = (x.contiguous() for x in (q, k, v))
        masks = masks.contiguous()
        window = masks.shape[-1]
        s = q.new_empty(q.shape)
        sums = masks.new_empty(v[..., 0].numel() // window, masks.shape[1], window)
        ctx.arguments = q.stride(2), *q.shape[:3], *step, len(masks)
        call("attend", sizes, q, k, v, masks, s, sums, *ctx.arguments)
        ctx.save_for_backward(q, k, v, masks, sums)
        ctx.sizes = sizes
        return s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ds: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of q, k, v and masks."""
        q, k, v, masks, sums = ctx.saved_tensors
        grads = [x.new_empty(x.shape) for x in (q, k, v)]
        parts = masks.new_empty(PARTS, *masks.shape[1:])
        inputs = q, k, v, masks, sums, ds.contiguous()
        call("attend_backward", ctx.sizes, *inputs, *grads, parts, *ctx.arguments, PARTS)
        dmasks = torch.zeros_like(masks)
        dmasks[0] = parts.sum(0)
        return *grads, dmasks, None, None


class Interaction(torch.autograd.Function):
    """``s * sigmoid(t) + t * sigmoid(s) + local``, each (B, H, W, C)."""

    @staticmethod
    def forward(ctx: Any, s: Tensor, t: Tensor, local: Tensor, sizes: Sizes) -> Tensor:
        """The sum."""
        s, t, local = s.contiguous(), t.contiguous(), local.contiguous()
        u = torch.empty_like(s)
        call("interact", sizes, s, t, local, u, s[..., 0].numel())
        ctx.save_for_backward(s, t)
        ctx.sizes = sizes
        return u

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, du: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of s, t and local."""
        s, t = ctx.saved_tensors
        ds, dt = torch.empty_like(s), torch.empty_like(t)
        call("interact_backward", ctx.sizes, s, t, du.contiguous(), ds, dt, s[..., 0].numel())
        return ds, dt, du, None


class Gates(torch.autograd.Function):
    """``sigmoid(a) * b + GELU(b) * a``: (B, H, W, 2rC) to (B, H, W, rC)."""

    @staticmethod
    def forward(ctx: Any, ab: Tensor, sizes: Sizes) -> Tensor:
        """The sum."""
        ab = ab.contiguous()
        g = ab.new_empty(*ab.shape[:3], ab.shape[3] // 2)
        call("open_gates", sizes, ab, g, g[..., 0].numel())
        ctx.save_for_backward(ab)
        ctx.sizes = sizes
        return g

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dg: Tensor) -> tuple[Tensor | None, ...]:
        """The gradient of ab."""
        (ab,) = ctx.saved_tensors
        dab = torch.empty_like(ab)
        call("open_gates_backward", ctx.sizes, ab, dg.contiguous(), dab, dg[..., 0].numel())
        return dab, None


def row_strides(x: Tensor) -> tuple[int, ...]:
    """Strides of (B, H, W, C) whose pixels follow each other at equal distances, as in ``x``."""
    _, height, width, _ = x.shape
    pixel = x.stride(2)
    return height * width * pixel, width * pixel, pixel, 1


@cache
def training_library(sizes: Sizes, dtype: torch.dtype) -> ctypes.CDLL:
    """The functions of ``training.cpp`` for one network and one type of its images."""
    half = {"HALF": 1} if dtype == torch.bfloat16 else {}
    return load_library("training.cpp", {**dict(sizes), **half}, "-fopenmp")


def call(name: str, sizes: Sizes, image: Tensor, *arguments: Tensor | int) -> None:
    """A function of ``training.cpp``, of images of the type of the first argument."""
    function = getattr(training_library(sizes, image.dtype), name)
    numbers = (*arguments, torch.get_num_threads())
    function(
        pointer(image),
        *(pointer(a) if isinstance(a, Tensor) else ctypes.c_int64(a) for a in numbers),
    )
