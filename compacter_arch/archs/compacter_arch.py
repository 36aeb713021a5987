"""Compacter: a lightweight transformer for image restoration.

Source: Wu, Li, Hu, Huang, "Compacter: A Lightweight Transformer for Image Restoration", ACM MM
2024, pp. 3094-3103. From the paper's figures: the flat stack of blocks between two convolutions,
the long residual, the reconstruction that alone differs between tasks. Its parameter counts at x2,
x3 and x4 (393K, 399K, 408K) are met by the defaults below. Ours: the relative position bias (one
table for all blocks), the shifted windows, the padding, the optional bilinear skip.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .bands import Rows, in_bands, is_compiling, rows_per_band, with_halo
from .casa_arch import CASA
from .dsgm_arch import DSGM, MLP
from .window_attention import (
    AttentionMask,
    RelativePositionBias,
    as_window,
    attention_mask,
    padding_to_windows,
)

FLAGS = "flags (input_skip, shift, spatial, interaction, num_heads, window height, window width)"


class CompacterBlock(nn.Module):
    """``x = x + CASA(LN(x)); x = x + DSGM(LN(x))``, the paper's CTL."""

    def __init__(self, dim: int, casa: CASA, ffn: nn.Module) -> None:
        super().__init__()
        self.norm1, self.casa = nn.LayerNorm(dim), casa
        self.norm2, self.ffn = nn.LayerNorm(dim), ffn

    def forward(self, x: Tensor, attn_mask: AttentionMask | None) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W)."""
        x = self.casa(x, attn_mask, self.norm1).permute(0, 2, 3, 1)  # (B, H, W, C)
        n, ffn = self.norm2(x), cast(Any, self.ffn)

        def fed(rows: Rows) -> Tensor:
            return cast(Tensor, ffn.gate(*with_halo(ffn.branches, n, rows)))

        return in_bands(fed, x, rows_per_band(x, 8)).permute(0, 3, 1, 2)


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

    flags: Tensor
    position_bias: RelativePositionBias | None

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
        if upscale not in (1, 2, 3, 4):
            raise ValueError(f"CompacterArch: upscale must be 1, 2, 3 or 4, got {upscale}")
        if in_chans not in (1, 3):
            raise ValueError(f"CompacterArch: in_chans must be 1 or 3, got {in_chans}")
        if ffn not in ("dsgm", "mlp"):
            raise ValueError(f"CompacterArch: ffn must be 'dsgm' or 'mlp', got {ffn!r}")
        self.upscale, self.use_checkpoint = upscale, use_checkpoint
        self.shifts = [shift and spatial and i % 2 == 1 for i in range(num_blocks)]
        self.window = as_window(window_size)
        self.input_skip = input_skip or upscale == 1
        make_ffn = DSGM if ffn == "dsgm" else MLP

        self.conv_first = nn.Conv2d(in_chans, dim, 3, padding=1)
        owns_table = spatial and position_bias
        self.position_bias = RelativePositionBias(self.window, num_heads) if owns_table else None
        self.blocks = nn.ModuleList(
            CompacterBlock(
                dim,
                CASA(
                    dim,
                    num_heads,
                    self.window,
                    shift=shifted,
                    position_bias=False,
                    spatial=spatial,
                    channel=channel,
                    local=local,
                    interaction=interaction,
                    shared_projection=shared_projection,
                ),
                make_ffn(dim, expansion_ratio),
            )
            for shifted in self.shifts
        )
        self.conv_last = nn.Conv2d(dim, dim, 3, padding=1)
        self.reconstruct = nn.Conv2d(dim, in_chans * upscale**2, 3, padding=1)

        # What no shape in a state dict tells, for `deduce_options`.
        flags = [input_skip, shift, spatial, interaction, num_heads, *self.window]
        self.register_buffer("flags", torch.tensor(flags, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale)."""
        check_images(x, self.conv_first.in_channels)
        height, width = x.shape[2:]
        x = pad_image(x, self.window)
        shallow = self.conv_first(x.contiguous(memory_format=torch.channels_last))
        features = self.conv_last(self.body(shallow)) + shallow
        y = F.pixel_shuffle(self.reconstruct(features), self.upscale)
        if self.input_skip:
            y = y + self.enlarge(x)
        return y[:, :, : height * self.upscale, : width * self.upscale].contiguous()

    def body(self, features: Tensor) -> Tensor:
        """The blocks: (B, dim, H, W) -> (B, dim, H, W), whole windows."""
        masks = self.attention_masks(features)
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            mask = masks[shift]
            if self.use_checkpoint and self.training:
                features = checkpoint(block, features, mask, use_reentrant=False)
            else:
                features = block(features, mask)
        return features

    def attention_masks(self, features: Tensor) -> list[AttentionMask]:
        """What the blocks add to their attention logits: the unshifted ones, the shifted ones."""
        bias = None if self.position_bias is None else self.position_bias()
        return [attention_mask(bias, s, self.window, features.device) for s in (False, True)]

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

    def enlarge(self, x: Tensor) -> Tensor:
        """The input at the size of the output, by bilinear interpolation."""
        if self.upscale == 1:
            return x
        return F.interpolate(x, scale_factor=self.upscale, mode="bilinear", align_corners=False)


def check_images(x: Tensor, in_chans: int) -> None:
    """Refuse what is no (B, in_chans, H, W) with pixels; not while the network is traced."""
    traced = is_compiling() or torch.jit.is_tracing()
    if not traced and (x.ndim != 4 or x.shape[1] != in_chans or 0 in x.shape[2:]):
        raise ValueError(f"expected images (B, {in_chans}, H, W), got {tuple(x.shape)}")


def pad_image(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Pad (B, C, H, W) to whole windows: mirrored; the border repeated where too small for that."""
    pad_h, pad_w = padding_to_windows(x, window)
    small = x.shape[2] <= pad_h or x.shape[3] <= pad_w
    return F.pad(x, (0, pad_w, 0, pad_h), "replicate" if small else "reflect")


def deduce_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The constructor's arguments that a state dict was saved with, from its keys and shapes alone.

    Args:
        state: parameters by name, as ``CompacterArch.state_dict()`` gives them.

    Returns:
        Keyword arguments for :class:`CompacterArch`; ``load_state_dict(state, strict=True)`` fits.

    Raises:
        KeyError: the state dict is not a Compacter's.
    """
    dim, in_chans = state["conv_first.weight"].shape[:2]
    input_skip, shift, spatial, interaction, num_heads, height, width = state["flags"].tolist()
    ffn = "dsgm" if "blocks.0.ffn.dwconv.weight" in state else "mlp"
    hidden = state["blocks.0.ffn.fc_out.weight"].shape[1]
    return {
        "upscale": round((state["reconstruct.weight"].shape[0] / in_chans) ** 0.5),
        "in_chans": in_chans,
        "dim": dim,
        "num_blocks": 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks.")),
        "num_heads": num_heads,
        "window_size": (height, width),
        "expansion_ratio": hidden / dim,
        "input_skip": bool(input_skip),
        "shift": bool(shift),
        "position_bias": "position_bias.table" in state,
        "spatial": bool(spatial),
        "channel": "blocks.0.casa.temperature" in state,
        "local": "blocks.0.casa.local.weight" in state,
        "interaction": bool(interaction),
        "shared_projection": "blocks.0.casa.qkv_channel.weight" not in state,
        "ffn": ffn,
    }
