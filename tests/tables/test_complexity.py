"""What a network costs: counts by hand and by papers, memory of a known size, the plot."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from compacter_arch.archs import Bicubic, CompacterArch
from compacter_arch.errors import UserError
from compacter_arch.tables import complexity
from compacter_arch.tables.complexity import (
    Cost,
    count_multi_adds,
    count_parameters,
    describe_device,
    measure_latency,
    measure_peak_memory,
    published_input_size,
    top_level_blocks,
)
from compacter_arch.tables.plots import check_plot_file, plot_profile

MIB = 2**20


def swinir_light(**changes) -> nn.Module:
    """SwinIR-light x2 of the released weights."""
    arguments = {
        "upscale": 2,
        "img_size": 64,
        "window_size": 8,
        "img_range": 1.0,
        "depths": [6] * 4,
        "embed_dim": 60,
        "num_heads": [6] * 4,
        "mlp_ratio": 2,
        "upsampler": "pixelshuffledirect",
        **changes,
    }
    return ARCH_REGISTRY.get("SwinIR")(**arguments)


class Around(nn.Module):
    """Another network, with something that a test wants to happen in the forward pass."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


class NeedsValues(Around):
    def forward(self, x: Tensor) -> Tensor:
        return self.network(x) + x.sum().item()


class AllocatesMemory(nn.Module):
    """128 MiB for a moment."""

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.ones(32 * MIB).mul_(2).max()


class Dies(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        os._exit(1)


@pytest.mark.parametrize(
    ("upscale", "parameters"), [(1, 389_012), (2, 392_909), (3, 399_404), (4, 408_497)]
)
def test_parameters_of_the_default_networks(upscale: int, parameters: int):
    assert count_parameters(CompacterArch(upscale)) == parameters


def multi_adds_by_hand(
    height: int,
    width: int,
    upscale: int,
    in_chans: int,
    dim: int,
    num_blocks: int,
    num_heads: int,
    window_size: tuple[int, int],
    expansion_ratio: float,
) -> int:
    """From the description of the architecture, part by part."""
    h, w = window_size
    while height % h:
        height += 1
    while width % w:
        width += 1
    pixels, windows = height * width, (height // h) * (width // w)
    hidden = round(dim * expansion_ratio)
    total = pixels * 3 * 3 * in_chans * dim  # conv_first
    for _ in range(num_blocks):
        total += 2 * 5 * pixels * dim  # two LayerNorms
        total += pixels * dim * 3 * dim  # Q, K, V
        total += 2 * pixels * dim * dim  # Q^T K and A V of the channels
        for _ in range(windows * num_heads):
            total += (h * w) * (h * w) * (dim // num_heads)  # Q K^T of a window
            total += (h * w) * (h * w) * (dim // num_heads)  # A V of a window
        total += pixels * 3 * 3 * dim  # depth-wise convolution of V
        total += pixels * dim * dim  # the projection after CASA
        total += pixels * dim * 2 * hidden  # DSGM: both branches
        total += pixels * 3 * 3 * 2 * hidden
        total += pixels * hidden * dim
    total += pixels * 3 * 3 * dim * dim  # conv_last
    return total + pixels * 3 * 3 * dim * in_chans * upscale**2  # reconstruct


@settings(max_examples=25, deadline=None)
@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    upscale=st.integers(1, 4),
    in_chans=st.sampled_from([1, 3]),
    num_blocks=st.integers(1, 3),
    num_heads=st.integers(1, 3),
    window_size=st.sampled_from([(4, 4), (8, 8), (2, 6)]),
    expansion_ratio=st.sampled_from([1, 1.5, 2]),
)
def test_multi_adds_are_those_by_hand(size: tuple[int, int], **arguments):
    arguments["dim"] = 4 * arguments["num_heads"]
    counted = count_multi_adds(CompacterArch(**arguments), size, arguments["in_chans"])
    assert counted.total == multi_adds_by_hand(*size, **arguments)
    assert sum(counted.blocks.values()) == counted.total
    assert counted.output == tuple(side * arguments["upscale"] for side in size)


def test_multi_adds_of_each_block():
    dim, height, width = 12, 8, 24
    network = CompacterArch(2, dim=dim, num_blocks=2, window_size=8)
    counted = count_multi_adds(network, (height, width)).blocks
    assert list(counted) == [
        "conv_first",
        "position_bias",
        "blocks.0",
        "blocks.1",
        "conv_last",
        "reconstruct",
    ]
    assert counted["conv_first"] == height * width * 9 * 3 * dim
    assert counted["position_bias"] == 0
    assert counted["blocks.0"] == counted["blocks.1"] > 0
    assert counted["reconstruct"] == height * width * 9 * dim * 3 * 4


def test_multi_adds_are_linear_in_the_pixels():
    network = CompacterArch(num_blocks=2)
    small = count_multi_adds(network, (48, 64)).total
    # But for the channel attention's products of C x C matrices, once an image.
    assert count_multi_adds(network, (96, 64)).total == pytest.approx(2 * small, rel=5e-3)
    assert count_multi_adds(network, (480, 640)).total == pytest.approx(100 * small, rel=5e-3)
    assert count_multi_adds(network, (41, 57)).total == small  # padded to whole windows


def test_a_network_that_needs_values_is_counted_too():
    """Really computed, where PyTorch takes a fused attention that its counter may not know."""
    network = CompacterArch(dim=48, num_blocks=2)
    expected = count_multi_adds(network, (20, 30))
    counted = count_multi_adds(NeedsValues(network), (20, 30))
    assert (counted.total, counted.output) == (expected.total, expected.output)
    assert counted.blocks == {"network": expected.total}


def test_shared_blocks_and_loose_operations():
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 1, bias=False)
            self.outer = nn.ModuleDict({"twice": nn.Sequential(self.conv, self.conv)})

        def forward(self, x: Tensor) -> Tensor:
            y = self.outer["twice"](self.conv(x))
            return y @ y.transpose(2, 3)

    counted = count_multi_adds(Shared(), (10, 20), in_chans=2)
    one = 10 * 20 * 2 * 2
    assert counted.blocks == {"conv": one, "outer.twice": 2 * one}
    assert counted.total == 3 * one + 2 * 10 * 20 * 10


def test_counting_leaves_the_network_as_it_is():
    network = CompacterArch(dim=12, num_blocks=1).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    count_multi_adds(network, (16, 16))
    measure_latency(network, (16, 16), rounds=1)
    assert network.training
    assert all((value == before[key]).all() for key, value in network.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in network.modules())


def test_what_is_not_counted_and_wrong_input():
    assert count_multi_adds(Bicubic(2), (16, 16)).total == 0
    assert count_multi_adds(nn.Sequential(nn.Flatten(), nn.ReLU()), (4, 4)).output is None
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\)"):
        count_multi_adds(CompacterArch(num_blocks=1), (16, 16), in_chans=1)


def test_published_multi_adds_of_edsr_baseline():
    """EDSR-baseline at x2 and x4 for 1280 x 720: 316.3 G and 114.2 G (CARN, table 1)."""
    for scale, published in ((2, 316.3e9), (4, 114.2e9)):
        network = ARCH_REGISTRY.get("EDSR")(3, 3, num_feat=64, num_block=16, upscale=scale)
        counted = count_multi_adds(network, published_input_size(scale))
        assert counted.total == pytest.approx(published, rel=5e-4)
        assert counted.output == (720, 1280)


def test_published_multi_adds_of_swinir_light():
    """244.2 G at 1280 x 720, of many papers."""
    network = swinir_light()
    assert count_parameters(network) == 910_152
    assert count_multi_adds(network, (360, 640)).total == pytest.approx(244.2e9, rel=1e-3)


def test_norms_without_weights_count_less():
    for affine, count in ((True, 5), (False, 4)):
        network = nn.Sequential(nn.LayerNorm([8, 8], elementwise_affine=affine))
        assert count_multi_adds(network, (8, 8)).total == count * 3 * 8 * 8


@pytest.mark.parametrize(("scale", "published"), [(2, 195.6e9), (3, 87.2e9), (4, 49.6e9)])
def test_multi_adds_of_the_paper_of_swinir_light(scale: int, published: float):
    """195.6, 87.2, 49.6 G are `SwinIR.flops()` for 1024 x 720, with a window more on each side.

    Its formula counts the convolution after the body as if it had 3 taps instead of 9, the last one
    as if it had no pixel shuffle behind it, and 1 instead of 5 per value of the norms, of which it
    leaves out the last. With these put right it is our count to the last digit.
    """
    size = ((1024 // scale // 8 + 1) * 8, (720 // scale // 8 + 1) * 8)
    network = swinir_light(upscale=scale, img_size=size)
    assert network.flops() == pytest.approx(published, rel=1e-3)
    pixels, dim = size[0] * size[1], 60
    right = network.flops() + (50 * 5 - 49) * dim * pixels
    right += (9 - 3) * dim * dim * pixels + 9 * dim * 3 * (scale**2 - 1) * pixels
    assert count_multi_adds(network, size).total == right


def test_latency_is_the_median_after_the_warm_up(monkeypatch: pytest.MonkeyPatch):
    calls = []
    network = nn.Identity()
    network.register_forward_hook(lambda *_: calls.append(torch.is_inference_mode_enabled()))
    durations = iter([50, 40, 3, 1, 20])  # two for the warm-up
    clock = [0.0]

    def perf_counter() -> float:
        if len(calls) > perf_counter.seen:
            perf_counter.seen += 1
            clock[0] += next(durations)
        return clock[0]

    perf_counter.seen = 0
    monkeypatch.setattr(time, "perf_counter", perf_counter)
    assert measure_latency(network, (4, 4), rounds=3) == 3
    assert calls == [True] * 5


def test_peak_memory_is_that_of_the_pass_alone():
    """Neither hidden nor raised by what this process has taken before."""
    earlier = torch.ones(100 * MIB)  # 400 MiB
    del earlier
    memory = measure_peak_memory(AllocatesMemory(), (8, 8))
    assert 128 * MIB <= memory < 144 * MIB


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_peak_memory_and_latency_on_a_gpu():
    memory = measure_peak_memory(AllocatesMemory(), (8, 8), device="cuda")
    assert 128 * MIB <= memory < 132 * MIB
    assert measure_latency(AllocatesMemory(), (8, 8), device="cuda") > 0
    assert torch.cuda.get_device_name() in describe_device("cuda")


def test_a_network_that_cannot_be_measured():
    with pytest.raises(MemoryError):
        measure_peak_memory(Dies(), (8, 8))
    network = nn.Identity()
    network.function = lambda: None  # cannot be pickled
    with pytest.raises(UserError, match="Identity: cannot be sent to the process"):
        measure_peak_memory(network, (8, 8))


def test_the_device_in_words(monkeypatch: pytest.MonkeyPatch):
    text = describe_device()
    assert text.endswith(f" thread, float32, PyTorch {torch.__version__}")
    monkeypatch.setattr(Path, "read_text", lambda _: "model name\t: A CPU @ 3 GHz\n")
    assert describe_device().startswith("A CPU @ 3 GHz, ")
    assert complexity._resident("VmRSS") is not None  # by getrusage


def test_names_of_blocks():
    network = ARCH_REGISTRY.get("EDSR")(3, 3, num_block=2, upscale=4)
    names = [
        *(f"body.{i}" for i in range(2)),
        "conv_after_body",
        *(f"upsample.{i}" for i in range(4)),
    ]
    assert list(top_level_blocks(network)) == ["conv_first", *names, "conv_last"]


@pytest.mark.parametrize("suffix", ["png", "pdf", "svg"])
@pytest.mark.parametrize("memory", [0, 50 * MIB, None])
def test_plot_of_a_profile(tmp_path: Path, suffix: str, memory: int | None):
    file = tmp_path / f"plot.{suffix}"
    check_plot_file(file)
    costs = [Cost((64, 64), 0.1, memory), Cost((32, 48), 0.02, memory)]
    for shown in (costs, costs[:1]):
        plot_profile(shown, file, "A network", "a caption")
        assert file.stat().st_size > 1000


def test_a_plot_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(UserError, match="must end in one of .pdf, .png, .svg"):
        check_plot_file(tmp_path / "plot.txt")
    with pytest.raises(UserError, match="absent does not exist"):
        check_plot_file(tmp_path / "absent" / "plot.png")
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(UserError, match=r'pip install "compacter-arch\[table\]"'):
        check_plot_file(tmp_path / "plot.png")
