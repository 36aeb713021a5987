"""CASA against its slow reference; what a shifted window may see."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch import CASA
from compacter_arch.archs.casa_arch import attention_mask, from_windows, to_windows

from .reference import HALF_TYPES, casa_reference

SWITCHES = ["spatial", "channel", "local", "interaction", "shared_projection", "position_bias"]


def randomised(module: torch.nn.Module, seed: int = 0) -> torch.nn.Module:
    """The module in float64 with parameters of order 0.3, so that every path matters."""
    generator = torch.Generator().manual_seed(seed)
    for parameter in module.double().parameters():
        parameter.data = 0.3 * torch.randn(parameter.shape, generator=generator).double()
    return module


@pytest.mark.parametrize("shift", [False, True])
@pytest.mark.parametrize(("window", "size"), [(4, (8, 8)), ((2, 4), (6, 8)), (4, (4, 12))])
def test_equals_reference_in_value_and_gradient(shift, window, size):
    casa = randomised(CASA(6, num_heads=2, window_size=window, shift=shift))
    x = torch.randn(2, 6, *size, dtype=torch.float64, requires_grad=True)
    probe = torch.randn(2, 6, *size, dtype=torch.float64)
    inputs = [x, *casa.parameters()]
    fast, slow = casa(x), casa_reference(casa, x)
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    fast_grads = torch.autograd.grad((fast * probe).sum(), inputs)
    slow_grads = torch.autograd.grad((slow * probe).sum(), inputs)
    for ours, reference in zip(fast_grads, slow_grads, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [False, True])
def test_fused_kernel_without_gradient_equals_reference(shift):
    casa = randomised(CASA(32, num_heads=2, window_size=4, shift=shift)).float()
    x = torch.randn(2, 32, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(casa(x), casa_reference(casa, x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("shift", [False, True])
def test_pixels_see_their_window_alone(shift):
    """The derivative of each output pixel by each input pixel is 0 exactly outside its window."""
    size, window = 8, 4
    casa = randomised(
        CASA(2, num_heads=1, window_size=window, shift=shift, channel=False, local=False)
    )
    x = torch.randn(1, 2, size, size, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(casa, x).abs().sum((0, 1, 4, 5))  # (H, W, H, W)
    start = window // 2 if shift else 0
    band = (torch.arange(size) - start).div(window, rounding_mode="floor")
    same = band[:, None] == band[None, :]
    seen = same[:, None, :, None] & same[None, :, None, :]  # (H, W, H, W)
    assert (jacobian[~seen] == 0).all()
    assert (jacobian[seen] > 0).all()


def test_mask_without_the_wrap_is_needed():
    """Half of the last windows is wrapped: the mask forbids exactly those pairs."""
    bias, x = torch.rand(2, 16, 16), torch.zeros(1, 12, 8, 6)
    mask = attention_mask(bias, True, x, (4, 4))
    assert mask.shape == (6, 2, 16, 16)
    share = (mask == -torch.inf).float().mean((1, 2, 3)).reshape(3, 2)
    assert share.tolist() == [[0, 0.5], [0, 0.5], [0.5, 0.75]]
    assert torch.equal(mask[0], bias)
    assert torch.equal(attention_mask(bias, False, x, (4, 4)), bias[None])


@given(
    h=st.integers(1, 4),
    w=st.integers(1, 4),
    rows=st.integers(1, 3),
    columns=st.integers(1, 3),
    batch=st.integers(1, 2),
    own_masks=st.booleans(),
)
def test_windows_and_back_are_inverse(h, w, rows, columns, batch, own_masks):
    x = torch.randn(batch, rows * h, columns * w, 12)
    masks = rows * columns if own_masks else 1
    windows = to_windows(x, (h, w), 3, masks)
    assert windows.shape == (batch * rows * columns // masks, masks * 3, h * w, 4)
    last = windows.reshape(batch, rows, columns, 3, h, w, 4)[0, -1, -1, 1]
    assert torch.equal(last, x[0, -h:, -w:, 4:8])
    assert torch.equal(from_windows(windows, x.shape[1:3], (h, w), 3), x)


@pytest.mark.parametrize("off", SWITCHES)
@pytest.mark.parametrize("shift", [False, True])
def test_each_design_can_be_switched_off(off, shift):
    torch.manual_seed(0)
    on = CASA(6, num_heads=2, window_size=4, shift=shift)
    casa = CASA(6, num_heads=2, window_size=4, shift=shift, **{off: False})
    x = torch.randn(1, 6, 8, 8)
    y = casa(x)
    y.sum().backward()
    assert y.shape == x.shape
    assert all(p.grad is not None and p.grad.isfinite().all() for p in casa.parameters())
    shared = {k: v for k, v in on.state_dict().items() if k in casa.state_dict()}
    casa.load_state_dict(shared, strict=False)
    assert not torch.allclose(casa(x), on(x)), f"{off} changes nothing"


@settings(deadline=None, max_examples=20)
@given(height=st.integers(1, 20), width=st.integers(1, 20), shift=st.booleans())
def test_any_size(height, width, shift):
    casa = CASA(6, num_heads=2, window_size=4, shift=shift).eval()
    with torch.no_grad():
        y = casa(torch.randn(1, 6, height, width))
    assert y.shape == (1, 6, height, width)
    assert y.isfinite().all()


@pytest.mark.parametrize("dtype", HALF_TYPES)
def test_channel_attention_stays_finite_in_half_precision(dtype):
    """65,504 is the largest float16: an un-normalised product over 512 x 512 pixels exceeds it."""
    casa = CASA(4, num_heads=1, spatial=False, local=False)
    x = torch.full((1, 4, 512, 512), 2.0)
    x[:, 2:] = torch.rand(1, 2, 512, 512)
    exact = casa(x)
    assert (x[0, 0].flatten() @ x[0, 1].flatten()) > 65504
    half = casa.to(dtype)(x.to(dtype))
    assert half.isfinite().all()
    torch.testing.assert_close(half.float(), exact, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"dim": 10, "num_heads": 3}, "multiple of num_heads"),
        ({"dim": 6, "window_size": 5, "shift": True}, "even sides"),
        ({"dim": 6, "window_size": 0}, "at least 1"),
        ({"dim": 6, "spatial": False, "channel": False, "local": False}, "nothing is left"),
    ],
)
def test_wrong_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        CASA(**arguments)
