"""The network: parameter counts, sizes, gradients, export, and what its state dict tells."""

from __future__ import annotations

import pytest
import torch
from basicsr.utils.registry import ARCH_REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch import CASA, DSGM, CompacterArch
from compacter_arch.archs.compacter_arch import deduce_options

from .reference import HALF_TYPES, OLD_TORCH

SMALL = {"dim": 12, "num_blocks": 2, "num_heads": 2, "window_size": 4}


@pytest.mark.parametrize(
    ("upscale", "count"), [(1, 389_012), (2, 392_909), (3, 399_404), (4, 408_497)]
)
def test_parameter_counts_are_the_papers(upscale, count):
    assert sum(p.numel() for p in CompacterArch(upscale=upscale).parameters()) == count


@pytest.mark.parametrize("cls", [CompacterArch, CASA, DSGM])
def test_is_registered(cls):
    assert ARCH_REGISTRY.get(cls.__name__) is cls


@pytest.mark.parametrize("in_chans", [1, 3])
@pytest.mark.parametrize("upscale", [1, 2, 3, 4])
def test_shapes_and_gradients(upscale, in_chans):
    net = CompacterArch(upscale, in_chans, **SMALL)
    y = net(torch.rand(2, in_chans, 9, 14))
    assert y.shape == (2, in_chans, 9 * upscale, 14 * upscale)
    y.square().mean().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None and parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().sum() > 0, name


@settings(deadline=None, max_examples=40)
@given(height=st.integers(1, 40), width=st.integers(1, 40), upscale=st.sampled_from([1, 2, 3, 4]))
def test_any_size(height, width, upscale):
    net = CompacterArch(upscale, **SMALL).eval()
    with torch.no_grad():
        y = net(torch.rand(1, 3, height, width))
    assert y.shape == (1, 3, height * upscale, width * upscale)
    assert y.isfinite().all()


def test_padding_is_that_of_a_padded_image():
    net = CompacterArch(2, **SMALL).eval()
    x = torch.rand(1, 3, 9, 14)
    padded = torch.nn.functional.pad(x, (0, 2, 0, 3), "reflect")
    with torch.no_grad():
        torch.testing.assert_close(net(x), net(padded)[:, :, :18, :28])


def test_images_of_a_batch_do_not_mix():
    net = CompacterArch(2, **SMALL).eval()
    x = torch.rand(3, 3, 12, 12)
    with torch.no_grad():
        together, alone = net(x), torch.cat([net(image[None]) for image in x])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_checkpointing_changes_memory_and_nothing_else():
    torch.manual_seed(0)
    plain = CompacterArch(2, **SMALL)
    saving = CompacterArch(2, **SMALL, use_checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    x = torch.rand(1, 3, 8, 8)
    for net in (plain, saving):
        net(x).square().mean().backward()
    for ours, theirs in zip(plain.parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_the_shift_is_in_every_second_block():
    net = CompacterArch(2, **SMALL | {"num_blocks": 5})
    assert [block.casa.shift for block in net.blocks] == [False, True, False, True, False]


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_autocast_is_close_to_float32(dtype):
    net = CompacterArch(2).eval()
    x = torch.rand(1, 3, 24, 24)
    with torch.no_grad():
        exact = net(x)
        with torch.autocast("cpu", dtype=dtype):
            mixed = net(x)
    torch.testing.assert_close(mixed.float(), exact, rtol=0, atol=0.02)


def test_autocast_trains():
    net = CompacterArch(2, **SMALL)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = net(torch.rand(2, 3, 8, 8)).float().square().mean()
    loss.backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_torch_export_takes_any_size():
    net = CompacterArch(2, **SMALL).eval()
    size = getattr(getattr(torch.export, "Dim", None), "AUTO", None)
    if size is None:
        pytest.skip("torch.export.Dim.AUTO needs torch >= 2.6")
    program = torch.export.export(
        net, (torch.rand(1, 3, 24, 17),), dynamic_shapes=({2: size, 3: size},)
    )
    for shape in ((24, 17), (40, 31), (19, 55)):
        x = torch.rand(1, 3, *shape)
        with torch.no_grad():
            torch.testing.assert_close(program.module()(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.skipif(OLD_TORCH, reason="its compiler needs pkg_resources, gone from setuptools")
def test_torch_compile_agrees():
    net = CompacterArch(2, **SMALL).eval()
    compiled = torch.compile(net)
    for shape in ((12, 16), (9, 21)):
        x = torch.rand(1, 3, *shape)
        with torch.no_grad():
            torch.testing.assert_close(compiled(x), net(x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"upscale": 4, "in_chans": 1, "window_size": (2, 6), "expansion_ratio": 1.5},
        {"upscale": 1, "shift": False, "interaction": False},
        {"input_skip": True, "position_bias": False, "local": False},
        {"spatial": False, "num_heads": 3},
        {"channel": False, "ffn": "mlp", "upscale": 3},
        {"shared_projection": False, "num_blocks": 3},
    ],
)
def test_a_state_dict_tells_its_options(options):
    net = CompacterArch(**SMALL | options).eval()
    rebuilt = CompacterArch(**deduce_options(net.state_dict())).eval()
    rebuilt.load_state_dict(net.state_dict(), strict=True)
    x = torch.rand(1, net.conv_first.in_channels, 9, 9)
    with torch.no_grad():
        assert torch.equal(rebuilt(x), net(x))


def test_a_state_dict_of_another_network_is_refused():
    weights = CompacterArch(2, **SMALL, input_skip=True).state_dict()
    net = CompacterArch(2, **SMALL)
    with pytest.raises(RuntimeError, match="input_skip"):
        net.load_state_dict(weights)
    net.load_state_dict(weights, strict=False)
    assert not deduce_options(net.state_dict())["input_skip"], "kept what it is"


@pytest.mark.parametrize(
    ("options", "message"),
    [({"upscale": 5}, "upscale"), ({"in_chans": 4}, "in_chans"), ({"ffn": "x"}, "ffn")],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        CompacterArch(**options)


@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 1, 8, 8), (1, 3, 0, 8), (2, 3)])
def test_what_is_no_batch_of_images_is_refused(shape: tuple[int, ...]):
    network = CompacterArch(dim=12, num_blocks=1, num_heads=3, window_size=4)
    with pytest.raises(ValueError, match=r"expected images \(B, 3, H, W\), got \("):
        network(torch.zeros(shape))


def test_a_batch_of_no_images_gives_none():
    network = CompacterArch(upscale=2, dim=12, num_blocks=2, num_heads=3, window_size=4).eval()
    with torch.no_grad():
        assert network(torch.zeros(0, 3, 8, 6)).shape == (0, 3, 16, 12)
