"""Networks of any size, type and content of images: right, or refused in one line; never stuck."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compacter_arch import restore
from compacter_arch.errors import UserError
from compacter_arch.execution import UnavailableError
from compacter_arch.inference import accelerate

from ..inference.tools import tiny

EXAMPLES = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
SIDES = st.integers(1, 70)
SCALES = st.sampled_from([1, 2, 3, 4])
CHANNELS = st.sampled_from([1, 3])
NETWORKS = {
    (scale, channels): tiny(scale, channels) for scale in (1, 2, 3, 4) for channels in (1, 3)
}
# How far a result in each type may be from that in float64; values are about 1.
TOLERANCES = {torch.float64: 0.0, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.15}
try:
    torch.nn.ReflectionPad2d(1)(torch.zeros(1, 3, 3, dtype=torch.float16))
except RuntimeError:  # torch 2.1 has no float16 on a CPU
    del TOLERANCES[torch.float16]


@pytest.fixture(scope="module")
def fast() -> Any:
    """The compiled networks, by scale and channels."""
    try:
        return {key: accelerate(network) for key, network in NETWORKS.items()}
    except UnavailableError as error:
        pytest.skip(str(error))


def images(batch: int, channels: int, height: int, width: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(height * 1000 + width)
    return torch.rand(batch, channels, height, width, generator=generator, dtype=torch.float64)


def as_seen_through(x: torch.Tensor, view: str) -> torch.Tensor:
    """The same values, not side by side in memory."""
    if view == "channels last":
        return x.contiguous(memory_format=torch.channels_last)
    if view == "turned":
        return x.transpose(2, 3).contiguous().transpose(2, 3)
    if view == "every second":
        return x.repeat_interleave(2, 3)[..., ::2]
    return x


VIEWS = st.sampled_from(["plain", "channels last", "turned", "every second"])


@EXAMPLES
@given(SCALES, CHANNELS, st.integers(1, 3), SIDES, SIDES, st.sampled_from(list(TOLERANCES)), VIEWS)
@torch.no_grad()
def test_any_size_type_and_layout(
    scale: int, channels: int, batch: int, height: int, width: int, dtype: torch.dtype, view: str
):
    network, x = NETWORKS[scale, channels], images(batch, channels, height, width)
    double, typed = (deepcopy(network).to(kind) for kind in (torch.float64, dtype))
    y = typed(as_seen_through(x.to(dtype), view))
    assert y.shape == (batch, channels, height * scale, width * scale)
    assert y.dtype == dtype and y.is_contiguous()
    assert (y.double() - double(x)).abs().max() <= TOLERANCES[dtype]


@EXAMPLES
@given(SCALES, CHANNELS, st.integers(0, 3), SIDES, SIDES, VIEWS)
def test_compiled_kernels_take_the_same(
    fast: Any, scale: int, channels: int, batch: int, height: int, width: int, view: str
):
    x = as_seen_through(images(max(batch, 1), channels, height, width).float(), view)[:batch]
    y = fast[scale, channels](x)
    assert y.shape == (batch, channels, height * scale, width * scale)
    if batch:
        with torch.no_grad():
            assert (y - NETWORKS[scale, channels](x)).abs().max() < 1e-4


@EXAMPLES
@given(
    st.booleans(),
    st.sampled_from([float("nan"), float("inf"), float("-inf"), 1e38, -1e38]),
    SIDES,
    SIDES,
    st.data(),
)
@torch.no_grad()
def test_what_is_no_number(
    fast: Any, compiled: bool, value: float, height: int, width: int, data: st.DataObject
):
    """It stays in its image: the other one of the batch is as it would be alone."""
    network = fast[1, 3] if compiled else NETWORKS[1, 3]
    x = images(2, 3, height, width).float()
    row, column = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    alone = network(x[1:])
    x[0, 1, row, column] = value
    y = network(x)
    assert y.shape == x.shape and torch.allclose(y[1:], alone, atol=1e-5)
    if not np.isfinite(value):
        assert not y[0, :, row, column].isfinite().all()


@pytest.mark.parametrize("shape", [(3, 9, 7), (9, 7), (2, 1, 3, 9, 7), ()])
@pytest.mark.parametrize("compiled", [False, True])
def test_wrong_rank(fast: Any, compiled: bool, shape: tuple[int, ...]):
    network = fast[2, 3] if compiled else NETWORKS[2, 3]
    with pytest.raises((ValueError, RuntimeError)) as caught:
        network(torch.zeros(shape))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("channels", [1, 2, 4])
@pytest.mark.parametrize("compiled", [False, True])
def test_wrong_channels(fast: Any, compiled: bool, channels: int):
    network = fast[2, 3] if compiled else NETWORKS[2, 3]
    with pytest.raises((ValueError, RuntimeError), match=rf"\(B, 3, H, W\), got \(1, {channels}, "):
        network(torch.zeros(1, channels, 9, 7))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.float64, torch.float16])
@pytest.mark.parametrize("compiled", [False, True])
def test_wrong_type(fast: Any, compiled: bool, dtype: torch.dtype):
    network = fast[2, 3] if compiled else NETWORKS[2, 3]
    with pytest.raises((ValueError, RuntimeError), match="(?i)float|'Half'") as caught:
        network(torch.zeros(1, 3, 9, 7, dtype=dtype))
    assert "\n" not in str(caught.value)


KINDS = ["uint8", "uint16", "float16", "float32", "float64", ">u2", ">f4"]


@EXAMPLES
@given(
    CHANNELS,
    st.sampled_from(KINDS),
    st.sampled_from([None, 1, 2, 3, 4]),
    SIDES,
    SIDES,
    st.sampled_from([(1, 1), (-1, 1), (1, -1), (2, 2)]),
)
def test_restore_takes_any_image(
    channels: int,
    kind: str,
    count: int | None,
    height: int,
    width: int,
    steps: tuple[int, int],
):
    """Also those that are views of others; the result is that of a copy."""
    rows, columns = (size * abs(step) for size, step in zip((height, width), steps, strict=True))
    values = np.random.default_rng(height).random(
        (rows, columns, *(() if count is None else [count]))
    )
    whole = np.iinfo(kind).max if np.dtype(kind).kind == "u" else 1
    image = (values * whole).astype(kind)[:: steps[0], :: steps[1]]
    result = restore(image, NETWORKS[2, channels])
    assert result.shape == (2 * height, 2 * width, *image.shape[2:])
    assert result.dtype == image.dtype.newbyteorder("=")
    copy = np.ascontiguousarray(image, image.dtype.newbyteorder("="))
    assert np.array_equal(result, restore(copy, NETWORKS[2, channels]))


WRONG = {
    "empty": np.zeros((0, 3, 3), np.uint8),
    "no column": np.zeros((3, 0), np.uint8),
    "five channels": np.zeros((3, 3, 5), np.uint8),
    "a row": np.zeros(3, np.uint8),
    "a batch": np.zeros((1, 3, 3, 3), np.uint8),
    "integers": np.zeros((3, 3, 3), np.int64),
    "booleans": np.zeros((3, 3), bool),
    "complex": np.zeros((3, 3), complex),
    "objects": np.zeros((3, 3), object),
    "text": np.zeros((3, 3), "U1"),
    "NaN": np.full((3, 3), np.nan),
    "infinite": np.full((3, 3, 3), np.inf, np.float16),
    "a list": [[1, 2], [3, 4]],
    "nothing": None,
    "a tensor": torch.zeros(3, 3),
    "a name that is none": "a\0b.png",
    "a long name": "x" * 5000,
    "a folder": ".",
}


@pytest.mark.parametrize("case", WRONG)
def test_restore_refuses(case: str):
    with pytest.raises(UserError) as caught:
        restore(WRONG[case], NETWORKS[2, 3])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("tile", ["large", 2.5, -1, None, 3])
def test_tile_that_is_none(tile: Any):
    with pytest.raises(UserError, match="tile"):
        restore(np.zeros((9, 9), np.uint8), NETWORKS[2, 3], tile=tile)
