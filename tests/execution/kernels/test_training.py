"""Training by the compiled kernels against the plain network in float64."""

from __future__ import annotations

import pickle
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from compacter_arch import CompacterArch
from compacter_arch.execution import UnavailableError
from compacter_arch.execution.kernels import compiler, train_by_kernels, training

from .kernels import NETWORKS, SIZES, lively, needs_compiler, other_vectors

FLAGS = compiler.FLAGS


def by_kernels(network: CompacterArch) -> CompacterArch:
    """A copy that is trained by the kernels."""
    network = deepcopy(network)
    train_by_kernels(network)
    return network.train()


def step(network: CompacterArch, x: Tensor, amp: bool = False) -> dict[str, Tensor]:
    """The output and the gradients of input and parameters, for a fixed gradient of the output."""
    network.zero_grad()
    x = x.detach().clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, amp):
        y = network(x)
    generator = torch.Generator().manual_seed(1)
    y.backward(torch.randn(y.shape, generator=generator).to(y.dtype))
    gradients = {name: parameter.grad for name, parameter in network.named_parameters()}
    # One number each, and what it is the sum of cancels: told by the largest of all blocks.
    names = [name for name in gradients if "temperature" in name]
    gradients["temperatures"] = torch.stack([gradients.pop(name) for name in names])
    return {"output": y.detach(), "input": x.grad, **gradients}


def error(result: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """The largest difference of each tensor as a share of its largest element."""
    return {
        name: float((result[name] - value).abs().max() / value.abs().max().clamp_min(1e-30))
        for name, value in exact.items()
    }


def images(network: CompacterArch, size: tuple[int, ...]) -> Tensor:
    return torch.rand(size[0], network.conv_first.in_channels, *size[2:])


@needs_compiler
@pytest.mark.parametrize("options", NETWORKS.values(), ids=NETWORKS)
def test_gradients_are_those_of_the_plain_network(options: dict[str, Any]):
    network = lively(**options).train()
    kernels = by_kernels(network)
    for size in SIZES:
        x = images(network, size)
        exact = step(deepcopy(network).double(), x.double())
        errors = error(step(kernels, x), exact)
        assert errors.pop("temperatures") < 1e-3, size  # sums of what cancels
        plain = error(step(network, x), exact)  # what float32 itself costs
        for name, value in errors.items():
            assert value < max(1e-5, 2 * plain[name]), (size, name)


@needs_compiler
@other_vectors
def test_gradients_with_the_vectors_of_other_machines(
    flags: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(compiler, "FLAGS", (*FLAGS, *flags))
    training.training_library.cache_clear()
    network = lively(num_blocks=2).train()
    kernels, x = by_kernels(network), torch.rand(2, 3, 24, 40)
    exact = step(deepcopy(network).double(), x.double())
    try:
        assert max(error(step(kernels, x), exact).values()) < 2e-5
        check_mixed_precision(network, kernels, x, exact)
    finally:
        training.training_library.cache_clear()


def check_mixed_precision(
    network: CompacterArch, kernels: CompacterArch, x: Tensor, exact: dict[str, Tensor]
) -> None:
    """Blocks in float32 between convolutions in bfloat16: nearer to the truth than autocast."""
    ours, theirs = (error(step(n, x, amp=True), exact) for n in (kernels, network))
    assert ours["output"] > 1e-4  # the convolutions are computed in bfloat16
    assert sum(ours.values()) < sum(theirs.values())
    assert max(ours.values()) < 1.25 * max(theirs.values())


@needs_compiler
def test_mixed_precision():
    network = lively(num_blocks=4).train()
    x = torch.rand(2, 3, 24, 40)
    exact = step(deepcopy(network).double(), x.double())
    check_mixed_precision(network, by_kernels(network), x, exact)


@needs_compiler
def test_the_kernels_are_used_and_only_where_gradients_are_wanted(monkeypatch: pytest.MonkeyPatch):
    calls: list[Tensor] = []
    body = training.TrainingKernels.body
    monkeypatch.setattr(
        training.TrainingKernels,
        "body",
        lambda self, network, x: calls.append(x) or body(self, network, x),
    )
    network = lively(num_blocks=2)
    kernels, x = by_kernels(network), torch.rand(1, 3, 16, 16)
    with torch.no_grad():
        assert torch.equal(kernels.eval()(x), network(x))
    assert torch.equal(step(kernels.double(), x.double())["output"], network.double()(x.double()))
    assert not calls
    step(kernels.float(), x)
    assert len(calls) == 1


@needs_compiler
def test_a_network_that_is_changed_later_is_computed_by_its_own_modules():
    network = lively(num_blocks=2)
    kernels, x, seen = by_kernels(network), torch.rand(1, 3, 16, 16), []
    kernels.blocks[1].casa.qkv.register_forward_hook(lambda *args: seen.append(args))
    assert torch.equal(step(kernels, x)["output"], step(network, x)["output"])
    assert len(seen) == 1


@needs_compiler
def test_transforms_of_functions_see_the_plain_network():
    network = lively(num_blocks=2)
    kernels, x = by_kernels(network), torch.rand(1, 3, 16, 16)
    ours, theirs = (torch.func.grad(lambda y, n=n: n(y).sum())(x) for n in (kernels, network))
    assert torch.equal(ours, theirs)


@needs_compiler
@pytest.mark.parametrize("size", [(8, 32, 32), (3, 40, 24), (1, 8, 8)])
def test_the_number_of_threads_changes_no_bit_of_the_kernels(size: tuple[int, int, int]):
    kernels = by_kernels(lively(num_blocks=2))
    x = torch.randn(*size, kernels.conv_first.out_channels)
    masks = torch.randn(2, 4, 3, 64, 64)
    arguments = [t.requires_grad_() for t in (x, masks, *kernels.blocks.parameters())]
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 3, 8):
            torch.set_num_threads(count)
            y = x
            for block, mask in zip(kernels.blocks, (masks[0, :1], masks[1]), strict=True):
                y = kernels.training_kernels.block(block, y, mask)
            results.append([y, *torch.autograd.grad(y.sin().sum(), arguments)])
    finally:
        torch.set_num_threads(threads)
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@needs_compiler
def test_what_is_no_number_stays_seen():
    network = by_kernels(lively(num_blocks=2))
    x = torch.rand(1, 3, 16, 16)
    x[0, 0, 3, 3] = float("nan")
    for amp in (False, True):
        assert not step(network, x, amp)["output"].isfinite().all()


@needs_compiler
def test_recomputed_blocks_have_the_same_gradients():
    network = by_kernels(lively(num_blocks=2))
    x = torch.rand(1, 3, 24, 16)
    usual = step(network, x)
    network.use_checkpoint = True
    again = step(network, x)
    assert all(torch.equal(usual[name], again[name]) for name in usual)


@needs_compiler
def test_copies_pickles_and_state_dicts():
    network = lively(num_blocks=2)
    kernels, x = by_kernels(network), torch.rand(1, 3, 16, 24)
    assert kernels.state_dict().keys() == network.state_dict().keys()
    for other in (deepcopy(kernels), pickle.loads(pickle.dumps(kernels))):
        assert torch.equal(step(other, x)["input"], step(kernels, x)["input"])


@needs_compiler
def test_trains():
    """Both learn the same from the same: ten steps of Adam."""
    losses = []
    for kernels in (False, True):
        torch.manual_seed(0)
        network = CompacterArch(num_blocks=2)
        if kernels:
            train_by_kernels(network)
        optimizer = torch.optim.Adam(network.parameters(), 1e-3)
        x = torch.rand(2, 3, 16, 16)
        y = torch.nn.functional.interpolate(x, scale_factor=2)
        for _ in range(10):
            optimizer.zero_grad()
            loss = (network(x) - y).abs().mean()
            loss.backward()
            optimizer.step()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=1e-3) and losses[1] < 0.45


@pytest.mark.parametrize("options", [{"ffn": "mlp"}, {"dim": 60, "num_heads": 6}])
def test_networks_that_the_kernels_do_not_know(options: dict[str, Any]):
    network = CompacterArch(num_blocks=1, **options)
    with pytest.raises(UnavailableError, match="the kernels"):
        train_by_kernels(network)
    assert type(network) is CompacterArch


def test_no_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    training.training_library.cache_clear()
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CXX", raising=False)
    network = CompacterArch(num_blocks=1)
    with pytest.raises(UnavailableError, match=r"no C\+\+ compiler found"):
        train_by_kernels(network)
    assert type(network) is CompacterArch
