"""What people build on the network: hooks, LoRA, quantisation, compilers, copies, transforms."""

from __future__ import annotations

import pickle
from collections import Counter
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from compacter_arch import CompacterArch, load_model

from .reference import OLD_TORCH

PROJECTIONS = ["qkv", "proj", "fc_in", "fc_out"]


@pytest.fixture(scope="module")
def network() -> CompacterArch:
    """A trained one; tests work on copies."""
    return load_model("sr_x2")


def train_step(network: nn.Module, x: Tensor) -> Tensor:
    network.train()
    y: Tensor = network(x)
    y.square().mean().backward()
    return y.detach()


@pytest.mark.parametrize("train", [False, True])
def test_hooks_fire_once_on_every_module(network: CompacterArch, train: bool):
    network, calls = deepcopy(network), Counter[str]()
    modules = {name: m for name, m in network.named_modules() if type(m) is not nn.ModuleList}
    for name, module in modules.items():
        module.register_forward_hook(lambda *_, name=name: calls.update([name]))
    x = torch.rand(1, 3, 20, 28)
    if train:
        train_step(network, x)
    else:
        with torch.no_grad():
            network(x)
    assert calls == dict.fromkeys(modules, 1)


def test_hooks_for_all_modules_fire(network: CompacterArch):
    calls = Counter[type]()
    handle = nn.modules.module.register_module_forward_hook(
        lambda module, *_: calls.update([type(module)])
    )
    try:
        with torch.no_grad():
            network(torch.rand(1, 3, 16, 16))
    finally:
        handle.remove()
    assert calls[nn.Linear] == 14 * 4


@pytest.mark.parametrize("target", PROJECTIONS)
def test_lora_changes_the_output_and_is_trained(network: CompacterArch, target: str):
    peft = pytest.importorskip("peft", reason="pip install compacter-arch[test]")
    x = torch.rand(1, 3, 16, 24)
    with torch.no_grad():
        before = network(x)
    # Both factors are random, so that the adapters change the output from the start.
    config = peft.LoraConfig(r=2, target_modules=[target], init_lora_weights=False)
    model: Any = peft.get_peft_model(deepcopy(network), config)
    with torch.no_grad():
        after = model(x)
    assert (after - before).abs().max() > 1e-3
    torch.testing.assert_close(train_step(model, x), after, rtol=0, atol=1e-5)
    adapters = {name: p for name, p in model.named_parameters() if "lora_" in name}
    assert len(adapters) == 2 * 14
    for name, parameter in adapters.items():
        assert parameter.grad is not None and parameter.grad.abs().sum() > 0, name
    merged = model.merge_and_unload()
    with torch.no_grad():
        torch.testing.assert_close(merged(x), after, rtol=0, atol=1e-4)


def test_dynamic_quantisation(network: CompacterArch):
    quantised = torch.ao.quantization.quantize_dynamic(deepcopy(network), {nn.Linear}, torch.qint8)
    assert type(quantised.blocks[0].casa.qkv) is not nn.Linear
    x = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), size=(64, 48), mode="bicubic")
    with torch.no_grad():
        y, exact = quantised(x.clamp(0, 1)), network(x.clamp(0, 1))
    psnr = -10 * (y - exact).square().mean().log10()
    assert 45 < psnr < 90  # it is quantised, and near


@pytest.mark.slow  # the compiler takes a minute
@pytest.mark.skipif(OLD_TORCH, reason="its compiler needs pkg_resources, gone from setuptools")
@pytest.mark.parametrize("amp", [False, True])
def test_torch_compile_forward_and_backward(amp: bool):
    """As near to float32 as the plain network is, under autocast too."""
    torch.manual_seed(0)
    network = CompacterArch(num_blocks=2)
    compiled: Any = torch.compile(network)
    x = torch.rand(2, 3, 16, 24)

    def step(forward: Any, amp: bool) -> list[Tensor]:
        network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, amp):
            y = forward(x)
            with torch.no_grad():
                again = forward(x)
        y.float().square().mean().backward()
        return [y.detach().float(), again.float(), *(p.grad.clone() for p in network.parameters())]

    def errors(results: list[Tensor]) -> list[float]:
        pairs = zip(results, exact, strict=True)
        return [float((a - b).norm() / b.norm().clamp_min(1e-12)) for a, b in pairs]

    exact = step(network, False)
    ours, theirs = errors(step(compiled, amp)), errors(step(network, amp))
    assert max(ours) < (2 * max(theirs) if amp else 1e-4)


@pytest.mark.slow
@pytest.mark.skipif(OLD_TORCH, reason="its compiler needs pkg_resources, gone from setuptools")
def test_torch_compile_trains_at_a_second_size():
    """With the option that `docs/extend.md` names, sizes become variables of the compiled code."""
    torch.manual_seed(0)
    network = CompacterArch(num_blocks=2)
    compiled: Any = torch.compile(network, options={"layout_optimization": False})
    for size in ((32, 32), (40, 40), (48, 56)):
        x = torch.rand(2, 3, *size)
        results = []
        for forward in (network, compiled):
            network.zero_grad()
            y = forward(x)
            y.square().mean().backward()
            gradients = [p.grad.clone() for p in network.parameters() if p.grad is not None]
            results.append([y.detach(), *gradients])
        for a, b in zip(*results, strict=True):
            assert (a - b).norm() <= 1e-4 * a.norm().clamp_min(1e-12)


def test_torch_export_from_16_pixels_on():
    size = getattr(getattr(torch.export, "Dim", None), "AUTO", None)
    if size is None:
        pytest.skip("torch.export.Dim.AUTO needs torch >= 2.6")
    network = CompacterArch(2, num_blocks=2, input_skip=True).eval()
    # Of whole windows, and not: neither may become a condition on other sizes.
    for height, width in ((24, 32), (21, 43)):
        program = torch.export.export(
            network,
            (torch.rand(1, 3, height, width),),
            dynamic_shapes=({2: size, 3: size},),
        ).module()
        for shape in ((16, 16), (24, 32), (17, 40), (33, 51)):
            x = torch.rand(1, 3, *shape)
            with torch.no_grad():
                torch.testing.assert_close(program(x), network(x), rtol=1e-4, atol=1e-5)


def test_onnx_by_tracing_takes_any_size_from_16_pixels_on():
    pytest.importorskip("onnx", reason="pip install compacter-arch[export]")
    runtime = pytest.importorskip("onnxruntime", reason="pip install compacter-arch[export]")
    import inspect
    import io
    import warnings

    network = CompacterArch(2, num_blocks=2, input_skip=True).eval()
    file: Any = io.BytesIO()
    choice = inspect.signature(torch.onnx.export).parameters
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.rand(1, 3, 21, 43),),
            file,
            opset_version=17,
            input_names=["input"],
            output_names=["output"],
            dynamic_axes={"input": {0: "b", 2: "h", 3: "w"}, "output": {0: "b", 2: "y", 3: "x"}},
            **({"dynamo": False} if "dynamo" in choice else {}),
        )
    session = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    for shape in ((1, 16, 16), (2, 24, 32), (1, 33, 51)):
        x = torch.rand(shape[0], 3, *shape[1:])
        (y,) = session.run(None, {"input": x.numpy()})
        with torch.no_grad():
            torch.testing.assert_close(torch.from_numpy(y), network(x), rtol=1e-4, atol=1e-5)


def test_copies_and_pickles(network: CompacterArch):
    x = torch.rand(1, 3, 16, 20)
    with torch.no_grad():
        expected = network(x)
        for other in (deepcopy(network), pickle.loads(pickle.dumps(network))):
            assert type(other) is CompacterArch
            assert torch.equal(other(x), expected)


def changed_by(network: nn.Module, x: Tensor, step: Tensor) -> Tensor:
    with torch.no_grad():
        y: Tensor = network(x + step)
    return y


def test_functional_calls_and_transforms():
    torch.manual_seed(0)
    network = CompacterArch(num_blocks=2).eval()
    x = torch.rand(3, 1, 3, 16, 16)
    other = {name: p.detach() * 1.1 for name, p in network.named_parameters()}
    changed = deepcopy(network)
    changed.load_state_dict({**network.state_dict(), **other})

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        y: Tensor = torch.func.functional_call(network, parameters, (x,))
        return y.square().mean()

    with torch.no_grad():
        y = torch.func.functional_call(network, other, (x[0],))
        torch.testing.assert_close(y, changed(x[0]))
        _, tangent = torch.func.jvp(network, (x[0],), (x[1],))
    slope = (changed_by(network, x[0], 1e-3 * x[1]) - changed_by(network, x[0], -1e-3 * x[1])) / 2
    torch.testing.assert_close(tangent, slope / 1e-3, rtol=0.05, atol=5e-3)
    gradients = torch.func.grad(loss)(other, x[0])
    changed(x[0]).square().mean().backward()
    for name, parameter in changed.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-4, atol=1e-6)


def test_data_parallel_without_a_gpu(network: CompacterArch):
    x = torch.rand(2, 3, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(nn.DataParallel(network)(x), network(x))
