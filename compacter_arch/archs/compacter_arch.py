"""Compacter: a lightweight transformer for image restoration.

Source: Wu, Li, Hu, Huang, "Compacter: A Lightweight Transformer for Image Restoration", ACM MM
2024, pp. 3094-3103. From the paper's figures: the flat stack of blocks (CTL in the paper) between
two convolutions, the long residual, the reconstruction that alone differs between tasks. Its counts
of parameters at x2, x3 and x4 (393K, 399K, 408K) are met by the defaults below. Ours: the position
bias (one table for all blocks), the shifted windows, the padding, the optional input skip.

    image -> conv_first -+-> 14 x [CASA, DSGM] -> conv_last -> (+) -> reconstruct -> (+) -> image
               |         +--------------------------------------+                     |
               +-> enlarged bilinearly (at scale 1, or with input_skip) --------------+
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .casa_arch import CASA, RelativePositionBias, as_window, attention_mask, padding_to_windows
from .dsgm_arch import DSGM, MLP

FLAGS = "flags (input_skip, shift, spatial, interaction, num_heads, window height, window width)"


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CompacterBlock(nn.Module):
    """CASA and DSGM, each on the normalised image and added to the image."""

    def __init__(self, dim: int, casa: CASA, ffn: nn.Module) -> None:
        super().__init__()
        self.norm1, self.casa = ChannelNorm(dim), casa
        self.norm2, self.ffn = ChannelNorm(dim), ffn

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W); ``mask`` as for :class:`CASA`."""
        x = x + self.casa(self.norm1(x), mask)
        return x + self.ffn(self.norm2(x))


class CompacterArch(nn.Module):
    """The network. Images of any height and width >= 1, values in [0, 1], output not clipped.

    Args:
        upscale: 1 (denoising, deraining, ...: the input image is added to the output), 2, 3 or 4.
        in_chans: channels of input and output, 3 (RGB) or 1 (gray).
        dim: channels of the body.
        num_blocks: transformer blocks; the windows of every second one are shifted.
        num_heads: heads of the window attention.
        window_size: side of the attention window, or [height, width].
        expansion_ratio: width of each DSGM branch over ``dim``.
        input_skip: add the bilinearly enlarged input to the output when ``upscale`` > 1. Not in the
            paper; short schedules gain by it.
        use_checkpoint: recompute each block in the backward pass: less memory, more time.
        shift, position_bias, spatial, channel, local, interaction, shared_projection: designs of
            CASA, each can be switched off (ablation); see :class:`CASA`.
        ffn: ``dsgm``, or ``mlp`` for a plain MLP (ablation).
    """

    def __init__(
        self,
        upscale: int = 2,
        in_chans: int = 3,
        dim: int = 48,
        num_blocks: int = 14,
        num_heads: int = 3,
        window_size: int | tuple[int, int] = 8,
        expansion_ratio: float = 2,
        input_skip: bool = False,
        use_checkpoint: bool = False,
        *,
        shift: bool = True,
        position_bias: bool = True,
        spatial: bool = True,
        channel: bool = True,
        local: bool = True,
        interaction: bool = True,
        shared_projection: bool = True,
        ffn: str = "dsgm",
    ) -> None:
        super().__init__()
        for name, value, known in (
            ("upscale", upscale, (1, 2, 3, 4)),
            ("in_chans", in_chans, (1, 3)),
            ("ffn", ffn, ("dsgm", "mlp")),
        ):
            if value not in known:
                raise ValueError(f"CompacterArch: {name} must be one of {known}, got {value!r}")
        self.upscale, self.use_checkpoint = upscale, use_checkpoint
        self.window, self.input_skip = as_window(window_size), input_skip or upscale == 1
        self.shifts = [shift and spatial and i % 2 == 1 for i in range(num_blocks)]
        owns_table = spatial and position_bias

        self.conv_first = nn.Conv2d(in_chans, dim, 3, padding=1)
        self.position_bias = RelativePositionBias(self.window, num_heads) if owns_table else None
        self.blocks = nn.ModuleList()
        for shifted in self.shifts:
            casa = CASA(
                *(dim, num_heads, self.window, shifted, False),
                spatial=spatial,
                channel=channel,
                local=local,
                interaction=interaction,
                shared_projection=shared_projection,
            )
            feed_forward = (DSGM if ffn == "dsgm" else MLP)(dim, expansion_ratio)
            self.blocks.append(CompacterBlock(dim, casa, feed_forward))
        self.conv_last = nn.Conv2d(dim, dim, 3, padding=1)
        self.reconstruct = nn.Conv2d(dim, in_chans * upscale**2, 3, padding=1)

        # What no shape in a state dict tells, for `deduce_options`.
        flags = [input_skip, shift, spatial, interaction, num_heads, *self.window]
        self.register_buffer("flags", torch.tensor(flags, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale)."""
        check_images(x, self.conv_first.in_channels)
        padding = padding_to_windows(x, self.window)
        y = self.restore(self.pad(x, padding))
        return F.pad(y, [-self.upscale * size for size in padding])  # crops

    def restore(self, x: Tensor) -> Tensor:
        """As :meth:`forward`, of an image of whole windows."""
        shallow = self.conv_first(x.contiguous(memory_format=torch.channels_last))
        y = self.conv_last(self.execute(shallow)) + shallow
        y = F.pixel_shuffle(self.reconstruct(y), self.upscale)
        if self.input_skip:
            y = y + F.interpolate(x, scale_factor=float(self.upscale), mode="bilinear")
        return y

    def body(self, x: Tensor) -> Tensor:
        """The blocks: (B, C, H, W) -> (B, C, H, W), H and W in whole windows."""
        masks = self.attention_masks(x)
        for block, shifted in zip(self.blocks, self.shifts, strict=True):
            if self.use_checkpoint and self.training:
                x = checkpoint(block, x, masks[shifted], use_reentrant=False)
            else:
                x = block(x, masks[shifted])
        return x

    execute = body  # called by `forward`; `compacter_arch.execution` sets a faster equal here

    def attention_masks(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The masks of the windows of (B, C, H, W): of unshifted blocks, and of shifted ones."""
        bias = None if self.position_bias is None else self.position_bias()
        x, shift = x.permute(0, 2, 3, 1), any(self.shifts)
        return tuple(attention_mask(bias, s, x, self.window) for s in (False, shift))

    def pad(self, x: Tensor, padding: Sequence[int]) -> Tensor:
        """Pad (B, C, H, W) by its mirror image, or by its border where it is too small for that."""
        small = 2 * x.shape[2] <= self.window[0] or 2 * x.shape[3] <= self.window[1]
        return F.pad(x, padding, "replicate" if small else "reflect")

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """Load weights; refuse, if strict, those of a network that differs where no shape shows it.

        Raises:
            RuntimeError: keys, shapes or flags do not fit.
        """
        saved = state_dict.get("flags", self.flags).tolist()
        if strict and saved != self.flags.tolist():
            raise RuntimeError(f"{FLAGS} of the weights are {saved}, here {self.flags.tolist()}")
        own_flags = {"flags": self.flags} if "flags" in state_dict else {}
        return super().load_state_dict({**state_dict, **own_flags}, strict, assign)


def check_images(x: Tensor, in_chans: int) -> None:
    """Refuse what is no (B, in_chans, H, W) with pixels; not while the network is traced."""
    traced = torch.jit.is_tracing() or torch.compiler.is_compiling()
    if not traced and (x.ndim != 4 or x.shape[1] != in_chans or 0 in x.shape[2:]):
        raise ValueError(f"expected images (B, {in_chans}, H, W), got {tuple(x.shape)}")


def deduce_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keyword arguments of the :class:`CompacterArch` that a state dict was saved from.

    Raises:
        KeyError: the state dict is not a Compacter's.
    """
    dim, in_chans = state["conv_first.weight"].shape[:2]
    input_skip, shift, spatial, interaction, num_heads, *window = state["flags"].tolist()
    return {
        "upscale": round((state["reconstruct.weight"].shape[0] / in_chans) ** 0.5),
        "in_chans": in_chans,
        "dim": dim,
        "num_blocks": 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks.")),
        "num_heads": num_heads,
        "window_size": tuple(window),
        "expansion_ratio": state["blocks.0.ffn.fc_out.weight"].shape[1] / dim,
        "input_skip": bool(input_skip),
        "shift": bool(shift),
        "position_bias": "position_bias.table" in state,
        "spatial": bool(spatial),
        "channel": "blocks.0.casa.temperature" in state,
        "local": "blocks.0.casa.local.weight" in state,
        "interaction": bool(interaction),
        "shared_projection": "blocks.0.casa.qkv_channel.weight" not in state,
        "ffn": "dsgm" if "blocks.0.ffn.dwconv.weight" in state else "mlp",
    }
