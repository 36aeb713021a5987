"""Compacter with its blocks computed by the compiled kernels."""

from __future__ import annotations

import ctypes
from typing import Any

import torch
from torch import Tensor, nn

from ...archs import DSGM, CompacterArch
from ...archs.compacter_arch import CompacterBlock, deduce_options
from ..moments import assemble, channel_map
from ..stock import UnavailableError, find_modified
from .compiler import has_bf16, load_library

MULTIPLE = 16  # channels and pixels of a vector, on the CPU with the widest ones
MAX_WINDOW = 256  # pixels of a window: all that is known of one lies on the stack of a thread
MIX = ("w_q", "w_k", "w_t", "w_o", "b_q", "b_k", "b_t", "b_o", "masks", "local", "b_local")
FEED_FORWARD = ("w_in", "w_out", "b_in", "b_out", "conv", "b_conv")
SPANS = 64  # parts of an image whose moments are summed one by one


class FusedCompacter(CompacterArch):
    """A network for inference on a CPU, several times as fast: the same results to 1e-5.

    The weights are taken over from ``network``; later changes of them are not seen.

    Args:
        network: as :mod:`compacter_arch.archs` built it, on any device, in any mode. It stays as it
            is.
        dtype: ``torch.float32``; or ``torch.bfloat16``, the type of the factors of all matrix
            products in the blocks, while sums, norms and images stay float32.

    Raises:
        UnavailableError: the network was changed after it was built, by a hook or a wrapped layer
            for example; no compiler; no bfloat16 on this CPU; a design or size of network that the
            kernels were not written for.
    """

    def __init__(self, network: CompacterArch, dtype: torch.dtype = torch.float32) -> None:
        check_design(network)
        state = network.state_dict()
        super().__init__(**deduce_options(state))
        if dtype not in (torch.float32, torch.bfloat16):
            raise UnavailableError(f"no kernels for {dtype}")
        if dtype == torch.bfloat16 and not has_bf16():
            raise UnavailableError("this CPU has no bfloat16 instructions that the kernels know")
        self.load_state_dict(state)
        self.eval().requires_grad_(False)
        constants = kernel_constants(self)
        if dtype == torch.bfloat16:
            constants["BF16"] = 1
        self.dtype, self.library = dtype, load_library("block.cpp", constants)
        blocks: Any = self.blocks
        with torch.no_grad():
            # Of an image of two by two windows: elsewhere, in the last column, in the last row, and
            # in both.
            sides = [2 * side for side in self.window]
            masks = [
                vector(mask.expand(-1, constants["HEADS"], -1, -1))
                for mask in self.attention_masks(torch.zeros(1, 1, *sides))
            ]
            self.kernels = [
                FusedBlock(block, masks[shift], dtype)
                for block, shift in zip(blocks, self.shifts, strict=True)
            ]

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles are made of the weights, and compiled where they are read."""
        return rebuild, (dict(self.state_dict()), self.dtype)

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        """As ``CompacterArch``: (B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale).

        Raises:
            ValueError: ``x`` is not in float32 on a CPU.
        """
        if x.dtype != torch.float32 or x.device.type != "cpu":
            raise ValueError(f"FusedCompacter needs float32 on a CPU, got {x.dtype} on {x.device}")
        return super().forward(x)

    def execute(self, x: Tensor) -> Tensor:
        """The blocks: (B, C, H, W) -> (B, C, H, W)."""
        x = x.permute(0, 2, 3, 1).clone(memory_format=torch.contiguous_format)
        v, y = torch.empty_like(x), torch.empty_like(x)
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # PyTorch's would go on looking for work, in the way of ours
        try:
            for kernel in self.kernels:
                kernel.run(self.library, threads, x, v, y)
                x, y = y, x
        finally:
            torch.set_num_threads(threads)
        return x.permute(0, 3, 1, 2)


def rebuild(state: dict[str, Tensor], dtype: torch.dtype) -> FusedCompacter:
    """A network from its weights."""
    network = CompacterArch(**deduce_options(state))
    network.load_state_dict(state)
    return FusedCompacter(network, dtype)


def check_design(network: CompacterArch) -> None:
    """Refuse what the kernels were not written for.

    Raises:
        UnavailableError: says what.
    """
    if difference := find_modified(network):
        raise UnavailableError(f"the network was changed: {difference}")
    for block, shift in zip(network.blocks, network.shifts, strict=True):
        casa: Any = block.casa
        complete = casa.spatial and casa.channel and casa.interaction and casa.local is not None
        if not complete or casa.qkv_channel is not None or not isinstance(block.ffn, DSGM):
            raise UnavailableError("the kernels know the complete CASA and DSGM alone")
        if casa.shift != shift or casa.window != network.window:
            raise UnavailableError("the kernels know the shifts of a stock network alone")
    pixels = network.window[0] * network.window[1]
    constants = kernel_constants(network)
    sizes = {
        "dim / num_heads": constants["DIM"] // constants["HEADS"],
        "dim x expansion_ratio": constants["HIDDEN"],
        "pixels of a window": pixels,
    }
    for name, size in sizes.items():
        if size % MULTIPLE:
            raise UnavailableError(f"the kernels need multiples of {MULTIPLE}, {name} is {size}")
    if pixels > MAX_WINDOW:
        raise UnavailableError(f"the kernels take windows of {MAX_WINDOW} pixels, not {pixels}")


def kernel_constants(network: CompacterArch) -> dict[str, int]:
    """The sizes that the kernels are compiled for."""
    block: Any = network.blocks[0]
    return {
        "DIM": block.casa.proj.out_features,
        "HEADS": block.casa.num_heads,
        "HIDDEN": block.ffn.fc_out.in_features,
        "WINDOW_H": network.window[0],
        "WINDOW_W": network.window[1],
    }


class Pointers(ctypes.Structure):
    """A structure of pointers to tensors, which it keeps alive."""

    def __init__(self, **tensors: Tensor) -> None:
        super().__init__(**{name: tensor.data_ptr() for name, tensor in tensors.items()})
        self.tensors = tensors


class Mix(Pointers):
    """``struct Mix`` of ``block.cpp``."""

    _fields_ = [(name, ctypes.c_void_p) for name in MIX]


class FeedForward(Pointers):
    """``struct FeedForward`` of ``block.cpp``."""

    _fields_ = [(name, ctypes.c_void_p) for name in FEED_FORWARD]


class FusedBlock:
    """The weights of a block as the kernels read them, and the calls.

    Args:
        block: in float32 on the CPU.
        masks: of windows elsewhere, in the last column, in the last row, and in both, or of all
            windows, (4 or 1, heads, N, N).
        dtype: of the factors of matrix products.
    """

    def __init__(self, block: CompacterBlock, masks: Tensor, dtype: torch.dtype) -> None:
        casa: Any = block.casa
        ffn: Any = block.ffn
        self.casa, self.dtype = casa, dtype
        # Q, K, V of the bare norm, in float64 as its moments are: (3C, C + 1), biases last.
        self.qkv = folded(casa.qkv, block.norm1)
        w_q, w_k, w_v = self.qkv.chunk(3)
        w_q = w_q * (len(w_q) // casa.num_heads) ** -0.5
        self.w_v, self.b_v = right_factor(w_v[:, :-1], dtype), vector(w_v[:, -1])
        self.mix = {
            "w_q": right_factor(w_q[:, :-1], dtype),
            "b_q": vector(w_q[:, -1]),
            "w_k": w_k[:, :-1].to(dtype).contiguous(),
            "b_k": vector(w_k[:, -1]),
            "w_o": right_factor(casa.proj.weight, dtype),
            "b_o": vector(casa.proj.bias),
            "masks": masks,
            "local": vector(casa.local.weight.permute(2, 3, 1, 0)),
            "b_local": vector(casa.local.bias),
        }
        w_in = folded(ffn.fc_in, block.norm2)
        self.feed_forward = FeedForward(
            w_in=right_factor(w_in[:, :-1], dtype),
            b_in=vector(w_in[:, -1]),
            w_out=right_factor(ffn.fc_out.weight, dtype),
            b_out=vector(ffn.fc_out.bias),
            conv=vector(ffn.dwconv.weight.permute(2, 3, 1, 0)),
            b_conv=vector(ffn.dwconv.bias),
        )

    def run(self, library: ctypes.CDLL, threads: int, x: Tensor, v: Tensor, y: Tensor) -> None:
        """The block of ``x``, (B, H, W, C) in whole windows, into ``y``.

        Args:
            library: compiled for the sizes of this block.
            threads: how many may be used.
            x, v: changed, ``v`` being a place to work in.
            y: the result.
        """
        b, height, width, c = x.shape
        workers = ctypes.c_int(threads)
        size = [ctypes.c_int64(n) for n in (b, height, width)]
        image, value, result = (pointer(t) for t in (x, v, y))

        second = torch.empty(b, SPANS, c, c, dtype=torch.float64)
        first = torch.empty(b, SPANS, 1, c, dtype=torch.float64)
        pixels, spans = ctypes.c_int64(height * width), ctypes.c_int64(SPANS)
        library.values(
            *(image, value, pointer(second), pointer(first), pointer(self.w_v), pointer(self.b_v)),
            *(size[0], pixels, spans, workers),
        )
        moments = assemble(second[:, 0], first[:, 0, 0], height * width)
        # The channel attention of V, a projection of n, is a projection of n too.
        w_t = channel_map(self.qkv, moments, self.casa.temperature) @ self.qkv.chunk(3)[2]

        mix = Mix(w_t=right_factor(w_t[..., :-1], self.dtype), b_t=vector(w_t[..., -1]), **self.mix)
        shifts = [side // 2 if self.casa.shift else 0 for side in self.casa.window]
        steps = [ctypes.c_int(shift) for shift in shifts]
        variants = ctypes.c_int(len(mix.tensors["masks"]))
        library.mix(image, value, ctypes.byref(mix), *size, *steps, variants, workers)
        library.feed_forward(image, result, ctypes.byref(self.feed_forward), *size, workers)


def folded(linear: nn.Linear, norm: nn.LayerNorm) -> Tensor:
    """``linear(norm(x))`` as a projection of the bare norm: (N, C + 1) in float64, bias last."""
    weight, bias = (
        linear.weight.double(),
        linear.bias.double() + linear.weight.double() @ (norm.bias.double()),
    )
    return torch.cat([weight * norm.weight.double(), bias[:, None]], 1)


def right_factor(weight: Tensor, dtype: torch.dtype) -> Tensor:
    """A projection (..., N, C) as a right factor: (..., C, N), or (..., C/2, N, 2) in bfloat16."""
    weight = weight.mT.to(dtype)
    if dtype == torch.bfloat16:
        weight = weight.unflatten(-2, (-1, 2)).transpose(-1, -2)
    return weight.contiguous()


def vector(x: Tensor) -> Tensor:
    """In float32, contiguous."""
    return x.float().contiguous()


def pointer(x: Tensor) -> ctypes.c_void_p:
    """To the first element."""
    return ctypes.c_void_p(x.data_ptr())
