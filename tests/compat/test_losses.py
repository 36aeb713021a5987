"""The perceptual loss, with a VGG of random weights."""

from __future__ import annotations

import socket
import warnings
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from basicsr.losses import build_loss
from basicsr.losses.basic_loss import PerceptualLoss
from torchvision.models import vgg

from .tools import original

OPTIONS = {"type": "PerceptualLoss", "layer_weights": {"conv2_1": 1.0}, "vgg_type": "vgg11"}


@pytest.fixture
def random_vgg(monkeypatch: pytest.MonkeyPatch) -> None:
    layers = vgg.make_layers(vgg.cfgs["A"])
    monkeypatch.setattr(vgg, "vgg11", lambda pretrained: SimpleNamespace(features=layers))


@pytest.mark.usefixtures("random_vgg")
def test_squared_perceptual_loss() -> None:
    x, gt = torch.rand(2, 1, 3, 16, 16)
    loss = build_loss({**OPTIONS, "criterion": "l2", "style_weight": 1.0})
    features, wanted = loss.vgg(x)["conv2_1"], loss.vgg(gt)["conv2_1"]
    perceptual, style = loss(x, gt)
    assert torch.isclose(perceptual, (features - wanted).square().mean())
    assert style > 0 and loss.criterion_type == "l2"
    assert isinstance(build_loss({**OPTIONS, "criterion": "l1"}).criterion, torch.nn.L1Loss)
    arguments = {key: value for key, value in OPTIONS.items() if key != "type"}
    with pytest.raises(AttributeError, match="L2loss"):
        original(PerceptualLoss.__init__)(loss, **arguments, criterion="l2")


def test_weights_that_cannot_be_downloaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def no_network(*args: object, **kwargs: object) -> None:
        raise OSError("there is no network")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    with warnings.catch_warnings(), pytest.raises(OSError) as caught:
        warnings.simplefilter("ignore")  # of torchvision: BasicSR asks for them in an old way
        build_loss(OPTIONS)
    message = str(caught.value)
    assert "/vgg11-8a719046.pth cannot be downloaded" in message and "no network" in message
    assert f"needs it in {tmp_path}/hub/checkpoints." in message and "\n" not in message
