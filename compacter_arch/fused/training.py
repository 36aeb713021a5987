"""Compacter trained on a CPU with the slow parts of its blocks computed by compiled kernels."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from ..archs import CompacterArch
from ..archs.casa_arch import project
from ..archs.compacter_arch import CompacterBlock
from .compiler import load_library
from .network import block_masks, check_design, kernel_constants, pointer

TYPES = (torch.float32, torch.bfloat16)  # of images
PARTS = 16  # of an image batch, whose gradients of the position bias are summed one by one
Sizes = tuple[tuple[str, int], ...]


def train_by_kernels(network: CompacterArch) -> None:
    """Let the kernels compute what gradients are wanted of; what is evaluated stays as it is.

    The sizes are compiled for once, in about two seconds for each type of image.

    Parameters, state dict and options stay, results and gradients are the same to 1e-5. On a GPU,
    and in other types than float32 and bfloat16, the network goes on as before.

    Args:
        network: changed in place.

    Raises:
        UnavailableError: no compiler, or one without OpenMP; a design or size of network that the
            kernels were not written for.
    """
    check_design(network)
    sizes = tuple(kernel_constants(network).items())
    for dtype in TYPES:
        training_library(sizes, dtype)
    network.__class__ = TrainedCompacter
    blocks: Any = network.blocks
    for block in blocks:
        block.__class__, block.sizes = TrainedBlock, sizes


def wanted(x: Tensor) -> bool:
    """Whether the kernels are for what follows from ``x``."""
    return torch.is_grad_enabled() and x.device.type == "cpu" and x.dtype in TYPES


class TrainedCompacter(CompacterArch):
    """See :func:`train_by_kernels`."""

    def attention_masks(self, features: Tensor) -> list[Any]:
        """Those of windows elsewhere, in the last column, the last row, and both."""
        if not wanted(features):
            return super().attention_masks(features)
        bias = None if self.position_bias is None else self.position_bias()
        casa: Any = self.blocks[0].casa
        return [block_masks(bias, shift, casa) for shift in (False, any(self.shifts))]


class TrainedBlock(CompacterBlock):
    """See :func:`train_by_kernels`."""

    sizes: Sizes

    def forward(self, x: Tensor, attn_mask: Any) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        if not wanted(x) or attn_mask is None:
            return super().forward(x, attn_mask)
        casa: Any = self.casa
        ffn: Any = self.ffn
        x = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        n = self.norm1(x)
        to_t = casa.channel_attention(n, n.shape[1])
        n, v, local = casa.values(n)
        qk = F.linear(n, casa.qkv.weight[: 2 * casa.dim], casa.qkv.bias[: 2 * casa.dim])
        s = WindowAttention.apply(qk, v, attn_mask, casa.step, self.sizes)
        x = x + casa.proj(Interaction.apply(s, project(n, *to_t), local, self.sizes))
        ab = ffn.dwconv(ffn.fc_in(self.norm2(x)).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return (x + ffn.fc_out(Gates.apply(ab, self.sizes))).permute(0, 3, 1, 2)


class WindowAttention(torch.autograd.Function):
    """SWSA: qk (B, H, W, 2C), v (B, H, W, C) and masks, see :func:`block_masks`, to (B, H, W, C).

    The masks differ by constants alone: the gradient of what they share is that of the first.
    """

    @staticmethod
    def forward(
        ctx: Any, qk: Tensor, v: Tensor, masks: Tensor, step: tuple[int, int], sizes: Sizes
    ) -> Tensor:
        """The attention of windows that are moved by ``step``."""
        qk, v, masks = qk.contiguous(), v.contiguous(), masks.contiguous()
        window = masks.shape[-1]
        s = torch.empty_like(v)
        sums = masks.new_empty(v[..., 0].numel() // window, masks.shape[1], window)
        ctx.arguments = *v.shape[:3], *step, len(masks)
        call("attend", sizes, qk, v, masks, s, sums, *ctx.arguments)
        ctx.save_for_backward(qk, v, masks, sums)
        ctx.sizes = sizes
        return s

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, ds: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients of qk, v and masks."""
        qk, v, masks, sums = ctx.saved_tensors
        dqk, dv = torch.empty_like(qk), torch.empty_like(v)
        parts = masks.new_empty(PARTS, *masks.shape[1:])
        arguments = qk, v, masks, sums, ds.contiguous(), dqk, dv, parts, *ctx.arguments, PARTS
        call("attend_backward", ctx.sizes, *arguments)
        dmasks = torch.zeros_like(masks)
        dmasks[0] = parts.sum(0)
        return dqk, dv, dmasks, None, None


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
