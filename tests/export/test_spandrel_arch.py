"""Our weights in spandrel: every file of the zoo, the same pixels, and nobody else's files."""

from __future__ import annotations

import pytest
import torch

from compacter_arch import CompacterArch
from compacter_arch.inference import load_model
from compacter_arch.zoo import TASKS, weights_file

spandrel = pytest.importorskip("spandrel", reason="pip install compacter-arch[spandrel]")

from compacter_arch.export.spandrel_arch import SpandrelCompacter, install  # noqa: E402


@pytest.fixture
def registry() -> spandrel.ArchRegistry:
    registry = spandrel.MAIN_REGISTRY.copy()
    install(registry)
    return registry


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("task", TASKS)
def test_loads_every_file_with_the_same_pixels(registry, task: str, suffix: str):
    loader = spandrel.ModelLoader(registry=registry)
    model = loader.load_from_file(weights_file(task).with_suffix(suffix))
    network = load_model(task)
    assert isinstance(model.model, CompacterArch) and model.architecture.id == "Compacter"
    assert model.scale == network.upscale
    assert model.purpose == ("SR" if task.startswith("sr") else "Restoration")
    assert model.input_channels == network.conv_first.in_channels
    x = torch.rand(1, model.input_channels, 17, 21)
    with torch.inference_mode():
        assert torch.equal(model(x), network(x).clamp(0, 1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_supported_as_declared(registry, dtype: torch.dtype):
    loader = spandrel.ModelLoader(registry=registry)
    model = loader.load_from_file(weights_file("sr_x2"))
    x = torch.rand(1, 3, 24, 32)
    exact = model(x)
    half = model.to(dtype)(x.to(dtype))
    assert half.dtype == dtype and half.isfinite().all()
    assert (half.float() - exact).abs().mean() < 4e-3  # one grey level of 8 bits


def test_no_other_architecture_claims_our_weights():
    extra = pytest.importorskip("spandrel_extra_arches")
    registry = spandrel.MAIN_REGISTRY.copy()
    extra.install(ignore_duplicates=True)
    registry.add(*extra.EXTRA_REGISTRY, ignore_duplicates=True)
    for options in ({}, {"upscale": 1, "in_chans": 1}, {"ffn": "mlp", "channel": False}):
        state = CompacterArch(num_blocks=2, **options).state_dict()
        assert [a.architecture.id for a in registry if a.detect(state)] == []


def test_we_claim_no_weights_of_others():
    from spandrel.architectures.OmniSR import OmniSR
    from spandrel.architectures.SAFMN import SAFMN
    from spandrel.architectures.SwinIR import SwinIR

    for network in (SwinIR(window_size=8), SAFMN(dim=36), OmniSR(num_feat=44)):
        assert not SpandrelCompacter().detect(network.state_dict())


def test_installing_twice_does_no_harm(registry):
    assert len(install(registry)) <= 1
    assert sum(a.architecture.id == "Compacter" for a in registry) == 1
