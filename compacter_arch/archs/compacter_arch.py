"""Compacter: a lightweight transformer for image restoration.

Source: Wu, Li, Hu, Huang, "Compacter: A Lightweight Transformer for Image Restoration", ACM MM
2024, pp. 3094-3103. From the paper's figures: the flat stack of blocks (its CTL) between two
convolutions, the long residual, a reconstruction for each task. The defaults have its 393K, 399K
and 408K parameters at x2, x3 and x4. Ours: position bias, shifted windows, padding, input skip.

    image -> conv_first -+-> 14 x [CASA, DSGM] -> conv_last -> (+) -> reconstruct -> (+) -> image
               |         +--------------------------------------+                     |
               +-> enlarged bilinearly (at scale 1, or with input_skip) --------------+
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from .casa_arch import CASA, RelativePositionBias, attention_mask, padding_to_windows
from .dsgm_arch import DSGM, MLP

FLAGS = ("input_skip", "shift", "spatial", "interaction", "num_heads", "height", "width")


class ChannelNorm(nn.LayerNorm):
    """LayerNorm over the channels of (B, C, H, W)."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class CompacterBlock(nn.Module):
    """CASA and DSGM, each on the normalised image and added to the image."""

    def __init__(self, casa: CASA, ffn: nn.Module) -> None:
        super().__init__()
        dim = casa.proj.out_features
        self.norm1, self.casa = ChannelNorm(dim), casa
        self.norm2, self.ffn = ChannelNorm(dim), ffn

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = x + self.casa(self.norm1(x), mask)
        return x + self.ffn(self.norm2(x))


class CompacterArch(nn.Module):
    """The network. Images of any height and width >= 1, values in [0, 1], output not clipped.

    Args:
        upscale: 1 (denoising, deraining, ...: the input image is added to the output), 2, 3 or 4.
        in_chans: channels of input and output, 3 (RGB) or 1 (gray).
        dim: channels of the body.
        num_blocks: blocks; the windows of every second one are shifted.
        num_heads, window_size: as for :class:`CASA`.
        expansion_ratio: as for :class:`DSGM`.
        input_skip: add the bilinearly enlarged input to the output when ``upscale`` > 1. Not in the
            paper; short schedules gain by it.
        use_checkpoint: recompute each block in the backward pass: less memory, more time.
        shift, position_bias, spatial, ... shared_projection: as for :class:`CASA` (ablation).
        ffn: ``dsgm``, or ``mlp`` (ablation).
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
        known = {"upscale": (1, 2, 3, 4), "in_chans": (1, 3), "ffn": ("dsgm", "mlp")}
        for name, value in {"upscale": upscale, "in_chans": in_chans, "ffn": ffn}.items():
            if value not in known[name]:
                raise ValueError(f"CompacterArch: {name} must be in {known[name]}, got {value!r}")
        self.upscale, self.input_skip = upscale, input_skip or upscale == 1
        self.use_checkpoint = use_checkpoint
        self.shifts = [shift and spatial and i % 2 == 1 for i in range(num_blocks)]
        switches = {"spatial": spatial, "channel": channel, "local": local}
        switches |= {"interaction": interaction, "shared_projection": shared_projection}

        self.conv_first = nn.Conv2d(in_chans, dim, 3, padding=1)
        casas = [CASA(dim, num_heads, window_size, s, False, **switches) for s in self.shifts]
        self.window = casas[0].window
        own = spatial and position_bias
        self.position_bias = RelativePositionBias(self.window, num_heads) if own else None
        ffns = [(DSGM if ffn == "dsgm" else MLP)(dim, expansion_ratio) for _ in casas]
        self.blocks = nn.ModuleList(map(CompacterBlock, casas, ffns))
        self.conv_last = nn.Conv2d(dim, dim, 3, padding=1)
        self.reconstruct = nn.Conv2d(dim, in_chans * upscale**2, 3, padding=1)
        nn.init.trunc_normal_(
            self.reconstruct.weight, std=0.002
        )  # starts with the input skip alone
        nn.init.zeros_(self.reconstruct.bias)  # type: ignore[arg-type]
        # What no shape in a state dict tells, for `deduce_options`.
        flags = [input_skip, shift, spatial, interaction, num_heads, *self.window]
        self.register_buffer("flags", torch.tensor(flags, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale)."""
        c = self.conv_first.in_channels
        if (x.ndim != 4 or x.shape[1] != c or 0 in x.shape[2:]) and not torch.jit.is_tracing():
            raise ValueError(f"expected images (B, {c}, H, W), got {tuple(x.shape)}")
        padding = padding_to_windows(x, self.window)
        small = 2 * x.shape[2] <= self.window[0] or 2 * x.shape[3] <= self.window[1]
        y = self.restore(F.pad(x, padding, "replicate" if small else "reflect"))
        return F.pad(y, [-self.upscale * size for size in padding]).contiguous()  # crops

    def restore(self, x: Tensor) -> Tensor:
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
        x, w = x.permute(0, 2, 3, 1), self.window
        return attention_mask(bias, False, x, w), attention_mask(bias, any(self.shifts), x, w)

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        """As of any module; strictly, RuntimeError where the flags differ, as no shape shows it."""
        flags: Any = self.flags
        saved, own = state_dict.get("flags", flags).tolist(), flags.tolist()
        if strict and saved != own:
            raise RuntimeError(f"the flags {FLAGS} of the weights are {saved}, here {own}")
        state_dict = {k: self.flags if k == "flags" else v for k, v in state_dict.items()}
        return super().load_state_dict(state_dict, strict, assign)


def deduce_options(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The arguments of the :class:`CompacterArch` of a state dict; KeyError if it is another's."""
    dim, in_chans = state["conv_first.weight"].shape[:2]
    *switches, num_heads, height, width = state["flags"].tolist()
    return {
        **dict(zip(FLAGS[:4], map(bool, switches), strict=True)),
        **{"in_chans": in_chans, "dim": dim, "num_heads": num_heads},
        "window_size": (height, width),
        "upscale": round((state["reconstruct.weight"].shape[0] / in_chans) ** 0.5),
        "num_blocks": 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks.")),
        "expansion_ratio": state["blocks.0.ffn.fc_out.weight"].shape[1] / dim,
        "position_bias": "position_bias.table" in state,
        "channel": "blocks.0.casa.temperature" in state,
        "local": "blocks.0.casa.local.weight" in state,
        "shared_projection": "blocks.0.casa.qkv_channel.weight" not in state,
        "ffn": "dsgm" if "blocks.0.ffn.dwconv.weight" in state else "mlp",
    }
