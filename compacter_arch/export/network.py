"""Compacter written for exporters: any size in one graph, and few operations.

The same weights and the same results as :class:`~compacter_arch.archs.CompacterArch` to 1e-5. What
differs is the form: sizes are never turned into numbers, padding, windows and shift are gathers by
an index that is computed from the size, and nothing is done in bands. The rest is what ONNX Runtime
does fast on a CPU: projections of pixels as rows of one matrix, with their bias in one operation;
keys transposed by the product itself; the projections into the depth-wise convolutions as 1 x 1
convolutions, whose memory layout they share; one gather for shift, windows and heads, which threads
share, where a transposition has one thread and a roll several copies.

Images are (B, H, W, C) here, H and W whole windows, except where the network begins and ends.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..archs import CompacterArch
from ..archs.casa_arch import NORM_EPS
from ..archs.compacter_arch import deduce_options

FORBIDDEN = -1e4  # on logits between pixels that wrapped; twice that is a float16 still

Options = Mapping[str, Any]  # of the constructor of `CompacterArch`
State = Mapping[str, Tensor]


class Windows(NamedTuple):
    """The (shifted) windows of an image of some size.

    Attributes:
        masks: what is added to the logits, each broadcast to (nH, nW, heads, N, N); N pixels of a
            window.
        forth: for each pixel of each head of each window in order, (nH * nW * heads * N,), which
            one of (H * W * heads,) it is.
        back: the inverse.
    """

    masks: Sequence[Tensor]
    forth: Tensor
    back: Tensor


class ExportedCompacter(nn.Module):
    """The network for exporters. The weights are those of now.

    Args:
        network: in float32.
        dtype: of weights and computation; the second moments of the channel attention, which
            exceed float16, and the images at both ends are float32.
    """

    bias: Tensor

    def __init__(self, network: CompacterArch, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        state = {name: value.detach().clone() for name, value in network.state_dict().items()}
        options = deduce_options(state)
        self.window, self.upscale = options["window_size"], options["upscale"]
        self.skip = options["input_skip"] or self.upscale == 1
        self.heads, self.dtype = options["num_heads"], dtype
        self.shifts = [
            options["shift"] and options["spatial"] and i % 2 == 1
            for i in range(options["num_blocks"])
        ]
        bias = torch.zeros(1, 1, 1)
        if network.position_bias is not None:
            bias = network.position_bias().detach().clone()
        self.register_buffer("bias", bias)  # (heads or 1, N, N)

        self.conv_first = convolution(state, "conv_first")
        self.blocks = nn.ModuleList(
            Block(section(state, f"blocks.{i}."), options) for i in range(len(self.shifts))
        )
        self.conv_last = convolution(state, "conv_last")
        self.reconstruct = convolution(state, "reconstruct")
        self.to(dtype).eval().requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_chans, H, W) -> (B, in_chans, H * upscale, W * upscale), float32, not clipped."""
        height, width = x.shape[2:]
        x = pad_to_windows(x.to(self.dtype), self.window)
        shallow = self.conv_first(x)
        features = shallow.permute(0, 2, 3, 1)
        windows = [self.windows(features, shift) for shift in (False, any(self.shifts))]
        for block, shift in zip(self.blocks, self.shifts, strict=True):
            features = block(features, windows[shift])
        features = self.conv_last(features.permute(0, 3, 1, 2)) + shallow
        y = F.pixel_shuffle(self.reconstruct(features), self.upscale)
        if self.skip:
            y = y + enlarge(x, self.upscale)
        return crop(y, height * self.upscale, width * self.upscale).float()

    def windows(self, x: Tensor, shift: bool) -> Windows:
        """The windows of (B, H, W, C), shifted by half their size or not."""
        h, w = self.window
        height, width = x.shape[1:3]
        dy, dx = (h // 2, w // 2) if shift else (0, 0)
        rows, columns, heads = (
            torch.arange(n, device=x.device) for n in (height, width, self.heads)
        )
        y = ((rows + dy) % height).reshape(-1, 1, 1, h, 1)
        z = ((columns + dx) % width).reshape(-1, 1, 1, w)  # with y: (nH, nW, 1, h, w)
        forth = (y * width + z) * self.heads + heads[:, None, None]
        y, z = (rows + height - dy) % height, (columns + width - dx) % width
        window = (y // h)[:, None] * (width // w) + z // w  # (H, W)
        inside = (y % h)[:, None] * w + z % w
        back = (window[..., None] * self.heads + heads) * (h * w) + inside[..., None]
        masks = self.shifted_masks(x) if shift else [self.bias]
        return Windows(masks, forth.flatten(), back.flatten())

    def shifted_masks(self, x: Tensor) -> list[Tensor]:
        """Bias and last column, (nW, heads or 1, N, N); last row, (nH, 1, 1, N, N)."""
        h, w = self.window
        y = (torch.arange(h, device=x.device) * 2 // h).repeat_interleave(w)  # (N,), 1: lower half
        z = (torch.arange(w, device=x.device) * 2 // w).repeat(h)  # 1: right half
        forbidden_y, forbidden_z = ((half[:, None] != half).to(x) * FORBIDDEN for half in (y, z))
        last_row, last_column = (
            (torch.arange(n, device=x.device) == n - 1).to(x)[:, None, None, None]
            for n in (x.shape[1] // h, x.shape[2] // w)
        )
        return [last_column * forbidden_z + self.bias, (last_row * forbidden_y)[:, None]]


class Block(nn.Module):
    """``x = x + CASA(LN(x)); x = x + DSGM(LN(x))``.

    Args:
        state: of the block.
        options: of the network.
    """

    def __init__(self, state: State, options: Options) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(state, "norm1"), norm(state, "norm2")
        self.casa = Mixer(section(state, "casa."), options)
        make_ffn = GatedFeedForward if options["ffn"] == "dsgm" else FeedForward
        self.ffn = make_ffn(section(state, "ffn."))

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x + self.casa(self.norm1(x), windows)
        return x + self.ffn(self.norm2(x))


class Mixer(nn.Module):
    """CASA, see :class:`~compacter_arch.archs.CASA`."""

    def __init__(self, state: State, options: Options) -> None:
        super().__init__()
        self.window, self.heads = options["window_size"], options["num_heads"]
        self.interaction = options["interaction"]
        q, k, v = projections(state, "qkv")
        scale = (options["dim"] // self.heads) ** -0.5
        spatial, channel = options["spatial"], options["channel"]
        self.q = PixelLinear(q[0] * scale, q[1] * scale) if spatial else None
        self.k = PixelLinear(*k) if spatial else None
        self.v = PixelLinear(*v)
        name = "qkv" if options["shared_projection"] else "qkv_channel"
        self.channel = ChannelAttention(state, name) if channel else None
        self.local = convolution(state, "local", depthwise=True) if options["local"] else None
        self.proj = linear(state, "proj")

    def forward(self, x: Tensor, windows: Windows) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        v = self.v(x)
        parts = []
        if self.q is not None:
            parts.append(self.spatial(x, v, windows))
        if self.channel is not None:
            parts.append(self.channel(x, v))
        if len(parts) == 2 and self.interaction:
            s, t = parts
            parts = [s * torch.sigmoid(t) + t * torch.sigmoid(s)]
        if self.local is not None:
            parts.append(self.local(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
        y = parts[0]
        for part in parts[1:]:
            y = y + part
        out: Tensor = self.proj(y)
        return out

    def spatial(self, x: Tensor, v: Tensor, windows: Windows) -> Tensor:
        """SWSA: attention inside (shifted) windows; (B, H, W, C) -> (B, H, W, C)."""
        assert self.q is not None and self.k is not None
        (b, height, width, c), (h, w) = x.shape, self.window
        d = c // self.heads
        q, k, v = (
            y.reshape(b, -1, d)
            .index_select(1, windows.forth)
            .reshape(b, height // h, width // w, self.heads, h * w, d)
            for y in (self.q(x), self.k(x), v)
        )
        logits = q @ k.transpose(-1, -2)  # (B, nH, nW, heads, N, N)
        for mask in windows.masks:
            logits = logits + mask
        y = logits.softmax(-1) @ v
        return y.reshape(b, -1, d).index_select(1, windows.back).reshape(x.shape)


class ChannelAttention(nn.Module):
    """CWSA from the second moments of the image, see ``casa_arch.channel_projection``.

    Args:
        state: of CASA.
        name: of the projection, ``qkv``, or one of its own.
    """

    weight_q: Tensor
    weight_k: Tensor
    temperature: Tensor

    def __init__(self, state: State, name: str) -> None:
        super().__init__()
        q, k, v = projections(state, name)
        # (C, C + 1), the biases last.
        self.register_buffer("weight_q", torch.cat([q[0], q[1][:, None]], 1))
        self.register_buffer("weight_k", torch.cat([k[0], k[1][:, None]], 1))
        self.register_buffer("temperature", state["temperature"])
        self.v = None if name == "qkv" else PixelLinear(*v)

    def forward(self, x: Tensor, v: Tensor) -> Tensor:
        """Normed image and its V, both (B, H, W, C) -> (B, H, W, C)."""
        m = moments(x.float())
        q, k = self.weight_q.float(), self.weight_k.float()
        qm, km = q @ m, k @ m  # (B, C, C + 1)
        q_norm = (qm * q).sum(-1, keepdim=True).clamp_min(NORM_EPS**2).sqrt()  # (B, C, 1)
        k_norm = (km * k).sum(-1, keepdim=True).clamp_min(NORM_EPS**2).sqrt()
        cosine = qm @ k.T / (q_norm * k_norm.transpose(1, 2))
        attention = (cosine * self.temperature.float()).softmax(-1).to(x.dtype)  # (B, C, C)
        v = v if self.v is None else self.v(x)
        return (v.flatten(1, 2) @ attention.transpose(1, 2)).reshape(x.shape)


class GatedFeedForward(nn.Module):
    """DSGM, see :class:`~compacter_arch.archs.DSGM`; a convolution pair for each branch."""

    a: nn.Module
    b: nn.Module

    def __init__(self, state: State) -> None:
        super().__init__()
        hidden = state["fc_out.weight"].shape[1]
        for branch, part in (("a", slice(hidden)), ("b", slice(hidden, None))):
            own = {name: value[part] for name, value in state.items() if "fc_out" not in name}
            own["fc_in.weight"] = own["fc_in.weight"][:, :, None, None]
            pair = convolution(own, "fc_in"), convolution(own, "dwconv", depthwise=True)
            self.add_module(branch, nn.Sequential(*pair))
        self.fc_out = linear(state, "fc_out")

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        x = x.permute(0, 3, 1, 2)
        a, b = self.a(x).permute(0, 2, 3, 1), self.b(x).permute(0, 2, 3, 1)
        y: Tensor = self.fc_out(torch.sigmoid(a) * b + F.gelu(b) * a)
        return y


class FeedForward(nn.Module):
    """The plain MLP of an ablation."""

    def __init__(self, state: State) -> None:
        super().__init__()
        self.fc_in, self.fc_out = linear(state, "fc_in"), linear(state, "fc_out")

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C)."""
        y: Tensor = self.fc_out(F.gelu(self.fc_in(x)))
        return y


class PixelLinear(nn.Linear):
    """A projection of the channels of (B, H, W, C), as one matrix product with its bias."""

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.shape[1], weight.shape[0])
        self.load_state_dict({"weight": weight, "bias": bias})

    def forward(self, x: Tensor) -> Tensor:
        """(B, H, W, C) -> (B, H, W, C')."""
        y = F.linear(x.flatten(0, 2), self.weight, self.bias)
        return y.reshape(*x.shape[:3], self.out_features)


def has_half() -> bool:
    """Whether this version of PyTorch, 2.3 or so, computes in float16 on a CPU, as tracing does."""
    x = torch.zeros(1, 1, 3, 3, dtype=torch.float16)
    try:
        F.conv2d(x, x)
    except RuntimeError:
        return False
    return True


def section(state: State, prefix: str) -> State:
    """What begins with ``prefix``, without it."""
    start = len(prefix)
    return {name[start:]: value for name, value in state.items() if name.startswith(prefix)}


def projections(state: State, name: str) -> list[tuple[Tensor, Tensor]]:
    """Weight and bias, (C, C) and (C,), to Q, K and V."""
    pairs = zip(state[f"{name}.weight"].chunk(3), state[f"{name}.bias"].chunk(3), strict=True)
    return list(pairs)


def linear(state: State, name: str) -> PixelLinear:
    """A projection from its weights."""
    return PixelLinear(state[f"{name}.weight"], state[f"{name}.bias"])


def norm(state: State, name: str) -> nn.LayerNorm:
    """A norm over the channels from its weights."""
    layer = nn.LayerNorm(len(state[f"{name}.weight"]))
    layer.load_state_dict(section(state, f"{name}."))
    return layer


def convolution(state: State, name: str, depthwise: bool = False) -> nn.Conv2d:
    """A convolution that keeps the size, from its weights."""
    c_out, c_in, side, _ = state[f"{name}.weight"].shape
    groups = c_out if depthwise else 1
    layer = nn.Conv2d(c_in * groups, c_out, side, padding=side // 2, groups=groups)
    layer.load_state_dict(section(state, f"{name}."))
    return layer


def pad_to_windows(x: Tensor, window: tuple[int, int]) -> Tensor:
    """Pad (B, C, H, W) below and right: mirrored; the border repeated where too small for that."""
    last_y, last_x = x.shape[2] - 1, x.shape[3] - 1
    (rows, columns), sides = x.shape[2:], window
    y, z = (
        torch.arange((size + side - 1) // side * side, device=x.device)
        for size, side in zip((rows, columns), sides, strict=True)
    )
    small = (y > 2 * last_y).any() | (z > 2 * last_x).any()
    for dim, i, last in ((2, y, last_y), (3, z, last_x)):
        mirrored = (last - (last - i).abs()).clamp_min(0)
        x = x.index_select(dim, torch.where(small, i.clamp_max(last), mirrored))
    return x


def crop(x: Tensor, height: int, width: int) -> Tensor:
    """The first rows and columns of (B, C, H, W).

    No slice: torch.export would record that it is smaller than the image, or that it is not.
    """
    for dim, size in ((2, height), (3, width)):
        x = x.index_select(dim, torch.arange(size, device=x.device))
    return x


def moments(x: Tensor) -> Tensor:
    """The sum over all pixels of [x, 1]^T [x, 1]: (B, H, W, C) -> (B, C + 1, C + 1).

    Row by row of the image first: exacter, and threads share the rows.
    """
    second = (x.transpose(2, 3) @ x).sum(1)  # (B, C, C)
    ones = torch.ones_like(x[:1, :1, :, :1])
    first = (ones.transpose(2, 3) @ x).sum(1)  # (B, 1, C)
    count = torch.ones_like(first[:, :, :1]) * (x.shape[1] * x.shape[2])
    upper, lower = torch.cat([second, first], 1), torch.cat([first.transpose(1, 2), count], 1)
    return torch.cat([upper, lower], 2)


def enlarge(x: Tensor, scale: int) -> Tensor:
    """(B, C, H, W) enlarged by bilinear interpolation."""
    if scale == 1:
        return x
    return F.interpolate(x, scale_factor=scale, mode="bilinear", align_corners=False)
