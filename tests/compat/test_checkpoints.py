"""Checkpoints and resuming."""

from __future__ import annotations

import logging
import os
import pickle
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import basicsr
import numpy as np
import pytest
import torch
from basicsr.archs import spynet_arch, vgg_arch
from basicsr.models.base_model import BaseModel

from compacter_arch.compat.checkpoints import load_safely

from .tools import base_model, multi_step, needs_no_cuda, original, write_state


def resume_options(folder: Path, **path: Any) -> dict[str, Any]:
    paths = {"training_states": str(folder / "states"), "models": str(folder), **path}
    return {"auto_resume": not path, "name": "run", "path": paths}


@needs_no_cuda
def test_resume_on_a_cpu(tmp_path: Path) -> None:
    write_state(tmp_path / "states" / "7.state", 7)
    opt = resume_options(tmp_path, resume_state=str(tmp_path / "states" / "7.state"))
    assert basicsr.train.load_resume_state(opt)["iter"] == 7
    with pytest.raises((AssertionError, RuntimeError)):
        original(basicsr.train.load_resume_state)(opt)


def test_auto_resume_takes_the_newest_state_of_the_run(tmp_path: Path) -> None:
    for iteration in (9, 10):
        write_state(tmp_path / "states" / f"{iteration}.state", iteration)
    opt = resume_options(tmp_path)
    assert basicsr.train.load_resume_state(opt)["iter"] == 10
    assert opt["path"]["resume_state"] == str(tmp_path / "states" / "10.state")
    # the current directory is elsewhere, so as released the run would start anew
    assert original(basicsr.train.load_resume_state)(resume_options(tmp_path)) is None


def test_auto_resume_ignores_other_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = tmp_path / "experiments" / "run" / "training_states"
    states.mkdir(parents=True)
    write_state(states / "8.state", 8)
    write_state(states / "best.state", 3)
    monkeypatch.chdir(tmp_path)
    opt = resume_options(tmp_path)
    opt["path"]["training_states"] = str(states)
    assert basicsr.train.load_resume_state(opt)["iter"] == 8
    with pytest.raises(ValueError, match="could not convert string to float"):
        original(basicsr.train.load_resume_state)(opt)


@pytest.mark.parametrize("kept", [0, 100, 0.5, 0.98])
def test_auto_resume_skips_a_cut_file(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kept: float
) -> None:
    write_state(tmp_path / "states" / "5.state", 5)
    newest = tmp_path / "states" / "10.state"
    write_state(newest, 10)
    content = newest.read_bytes()
    newest.write_bytes(content[: int(kept if kept > 1 else kept * len(content))])
    with caplog.at_level(logging.WARNING):
        assert basicsr.train.load_resume_state(resume_options(tmp_path))["iter"] == 5
    assert "10.state cannot be read" in caplog.text


def test_auto_resume_refuses_to_start_anew(tmp_path: Path) -> None:
    assert basicsr.train.load_resume_state(resume_options(tmp_path)) is None
    write_state(tmp_path / "states" / "5.state", 5)
    (tmp_path / "states" / "5.state").write_bytes(b"")
    with pytest.raises(ValueError, match="none of its 1 training states"):
        basicsr.train.load_resume_state(resume_options(tmp_path))


class Payload:
    """What a hostile file would hold: unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


@pytest.fixture
def old_torch_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """`torch.load` as before torch 2.6: files are trusted unless the caller says otherwise."""
    load = torch.load

    def trusting(*args: Any, weights_only: bool = False, **kwargs: Any) -> Any:
        return load(*args, weights_only=weights_only, **kwargs)

    monkeypatch.setattr(torch, "load", trusting)


@pytest.mark.usefixtures("old_torch_default")
def test_files_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made, path = tmp_path / "made", tmp_path / "5.state"
    torch.save({"params": Payload(made), "iter": 5, "epoch": 0}, path)
    model, net = base_model(tmp_path), torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match="5.state is not a network file"):
        model.load_network(net, str(path))
    with pytest.raises(pickle.UnpicklingError):
        basicsr.train.load_resume_state(resume_options(tmp_path, resume_state=str(path)))
    assert not made.exists()

    monkeypatch.setitem(original(BaseModel.load_network).__globals__, "torch", torch)
    with pytest.raises(AttributeError):
        original(BaseModel.load_network)(model, net, str(path))
    assert made.exists()


class Program(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_programs_of_torchscript_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before 2.6, torch loads them even if it is asked for weights only."""
    path = tmp_path / "net.pth"
    torch.jit.script(Program()).save(path)
    monkeypatch.setattr(torch.jit, "load", lambda *args, **kwargs: pytest.fail("loaded"))
    with pytest.raises(pickle.UnpicklingError, match="TorchScript"):
        load_safely(path)
    with pytest.raises(ValueError, match="net.pth is not a network file .*TorchScript"):
        base_model(tmp_path).load_network(torch.nn.Linear(1, 1), str(path))


@pytest.mark.usefixtures("old_torch_default")
def test_weights_of_parts_run_no_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SpyNet's, from an option file, and VGG's, which are looked for below experiments/."""
    made, path = tmp_path / "made", tmp_path / vgg_arch.VGG_PRETRAIN_PATH
    path.parent.mkdir(parents=True)
    torch.save({"params": Payload(made)}, path)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(pickle.UnpicklingError):
        spynet_arch.SpyNet(str(path))
    monkeypatch.setattr(vgg_arch.vgg, "vgg11", lambda pretrained: torch.nn.Linear(1, 1))
    with pytest.raises(pickle.UnpicklingError):
        vgg_arch.VGGFeatureExtractor(["conv1_1"], "vgg11")
    assert not made.exists()
    monkeypatch.setattr(spynet_arch, "torch", torch)
    with pytest.raises(TypeError):
        spynet_arch.SpyNet(str(path))
    assert made.exists()


def test_every_file_is_read_safely() -> None:
    """All modules of BasicSR that call `torch.load` see the safe one."""
    for file in Path(basicsr.__file__).parent.rglob("*.py"):
        if "torch.load(" in file.read_text(encoding="utf-8") and file.name != "train.py":
            name = ".".join(["basicsr", file.parent.name, file.stem])
            assert sys.modules[name].torch.load is load_safely, name


@pytest.mark.parametrize(
    ("layout", "key"),
    [
        (lambda state: state, "params"),
        (lambda state: state, None),
        (lambda state: {"params": state}, "params"),
        (lambda state: {"params": state}, "params_ema"),
        (lambda state: {"params_ema": state, "params": {}}, "params_ema"),
        (lambda state: {"params": {f"module.{k}": v for k, v in state.items()}}, "params"),
    ],
)
def test_network_file_layouts(
    tmp_path: Path, layout: Callable[[dict], dict], key: str | None
) -> None:
    source, target = torch.nn.Linear(2, 3), torch.nn.Linear(2, 3)
    torch.save(layout(source.state_dict()), tmp_path / "net.pth")
    base_model(tmp_path).load_network(target, str(tmp_path / "net.pth"), param_key=key)
    assert torch.equal(source.weight, target.weight)


def test_bare_state_dict_was_a_key_error(tmp_path: Path) -> None:
    net = torch.nn.Linear(2, 3)
    torch.save(net.state_dict(), tmp_path / "net.pth")
    with pytest.raises(KeyError, match="params"):
        original(BaseModel.load_network)(base_model(tmp_path), net, str(tmp_path / "net.pth"))


@pytest.mark.parametrize(
    ("content", "key", "message"),
    [
        ({"params_ema": torch.nn.Linear(1, 1).state_dict()}, "params", "under: params_ema"),
        ({"params": torch.nn.Linear(1, 1).state_dict()}, None, "under: params"),
        ({"iter": 3}, "params", "holds none"),
        ([1, 2], "params", "holds a list"),
    ],
)
def test_refused_network_files_are_named(
    tmp_path: Path, content: Any, key: str | None, message: str
) -> None:
    path = tmp_path / "net.pth"
    torch.save(content, path)
    with pytest.raises(ValueError, match=message) as caught:
        base_model(tmp_path).load_network(torch.nn.Linear(1, 1), str(path), param_key=key)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_network_without_parameters(tmp_path: Path) -> None:
    model, net = base_model(tmp_path), torch.nn.Identity()
    model.save_network(net, "net_g", 5)
    model.load_network(net, str(tmp_path / "net_g_5.pth"))


def save_something(model: BaseModel, kind: str, save: Callable[..., None]) -> None:
    if kind == "save_network":
        save(model, torch.nn.Linear(2, 2), "net_g", 5)
    else:
        save(model, 1, 5)


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(time, "sleep", lambda seconds: None)


KINDS = {"save_network": "net_g_5.pth", "save_training_state": "5.state"}


@pytest.mark.usefixtures("no_waiting")
@pytest.mark.parametrize(("kind", "name"), KINDS.items())
def test_failed_save_raises_and_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    """A disk that is full half-way through the file."""
    model, repaired = base_model(tmp_path), getattr(BaseModel, kind)
    (tmp_path / name).write_bytes(b"old")

    def full_disk(obj: Any, target: Any, *args: Any, **kwargs: Any) -> None:
        file = open(target, "wb") if isinstance(target, str) else target  # noqa: SIM115
        file.write(b"half a")
        file.flush()
        raise OSError("No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", full_disk)
        with pytest.raises(OSError, match=f"Cannot save .*{name}: No space left"):
            save_something(model, kind, repaired)
        assert (tmp_path / name).read_bytes() == b"old"
        assert os.listdir(tmp_path) == [name]

        patch.setitem(original(BaseModel.load_network).__globals__, "torch", torch)
        save_something(model, kind, original(repaired))
        assert (tmp_path / name).read_bytes() == b"half a"

    save_something(model, kind, repaired)
    assert torch.load(tmp_path / name, weights_only=True)
    assert os.listdir(tmp_path) == [name]


@pytest.mark.usefixtures("no_waiting")
def test_save_that_succeeds_at_last_does_not_raise(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace, failures = os.replace, iter([True, True, False])

    def flaky(source: str, target: str) -> None:
        if next(failures):
            raise OSError("busy")
        replace(source, target)

    monkeypatch.setattr(os, "replace", flaky)
    save_something(base_model(tmp_path), "save_network", BaseModel.save_network)
    assert os.listdir(tmp_path) == ["net_g_5.pth"]


def with_metrics(folder: Path, **better: str) -> BaseModel:
    """A model that measures ``better`` in validation."""
    model = base_model(folder)
    model.opt["val"] = {"metrics": {name: {"better": value} for name, value in better.items()}}
    return model


def test_best_metrics_go_on_after_a_resume(tmp_path: Path) -> None:
    model = with_metrics(tmp_path, psnr="higher")
    model._initialize_best_metric_results("Set5")
    model._update_best_metric_result("Set5", "psnr", np.float64(30), 3)
    model.save_training_state(1, 5)
    state = torch.load(tmp_path / "5.state", weights_only=True)
    best = {"Set5": {"psnr": {"better": "higher", "val": 30.0, "iter": 3}}}
    assert state == {**state, "iter": 5, "best_metric_results": best}

    resumed = with_metrics(tmp_path, psnr="higher")
    resumed.resume_training(state)
    resumed._initialize_best_metric_results("Set5")
    resumed._update_best_metric_result("Set5", "psnr", 29.0, 6)
    assert resumed.best_metric_results == best

    for others in ({"psnr": "lower"}, {"psnr": "higher", "ssim": "higher"}, {}):
        changed = with_metrics(tmp_path, **others)
        changed.resume_training(state)
        assert not hasattr(changed, "best_metric_results")
    of_basicsr = {key: value for key, value in state.items() if key != "best_metric_results"}
    with_metrics(tmp_path, psnr="higher").resume_training(of_basicsr)
    original(BaseModel.resume_training)(with_metrics(tmp_path, psnr="higher"), state)

    model.save_network(torch.nn.Linear(1, 1), "net_g", 5)
    assert torch.load(tmp_path / "net_g_5.pth", weights_only=True).keys() == {"params"}


def test_scheduler_state_is_plain() -> None:
    scheduler = multi_step([2, 2])
    state = scheduler.state_dict()
    assert type(state["milestones"]) is dict
    assert type(original(type(scheduler).state_dict)(scheduler)["milestones"]) is Counter

    again = multi_step([9])
    again.load_state_dict(state)
    again.optimizer.step()
    for _ in range(2):
        again.step()
    assert again.get_last_lr() == pytest.approx([0.01])
