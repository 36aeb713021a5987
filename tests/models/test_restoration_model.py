"""SRModel to the bit until a key is set; then what the key says, and nothing else."""

from __future__ import annotations

import shutil
from typing import Any

import pytest
import torch

from compacter_arch.execution.kernels import train_by_kernels as by_kernels
from compacter_arch.models import restoration_model

from ..conftest import Project

EVERYTHING = {
    "train.total_iter": 4,
    "train.ema_decay": 0.9,
    "datasets.train.batch_size_per_gpu": 4,
    "datasets.train.dataset_enlarge_ratio": 4,
}

SGD = {"train__optim_g": {"type": "SGD", "lr": 0.1}}  # Adam would enlarge roundings


def train(project: Project, name: str, **changes: Any) -> dict[str, torch.Tensor]:
    """The weights after four iterations."""
    keys = {key.replace("__", "."): value for key, value in changes.items()}
    options = {"model_type": "RestorationModel", "name": name, **EVERYTHING, **keys}
    result = project.run("train", "-opt", project.write(options))
    assert result.status == 0, result.err
    return project.weights(name=name) | {
        f"ema.{key}": value for key, value in project.weights(name=name, key="params_ema").items()
    }


def distance(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> float:
    """The largest difference of any weight."""
    return max((a[key].float() - b[key].float()).abs().max().item() for key in b)


@pytest.fixture
def plain(project: Project) -> dict[str, torch.Tensor]:
    """What BasicSR's SRModel ends with."""
    return train(project, "plain", model_type="SRModel")


def test_is_srmodel_without_its_keys(project: Project, plain: dict[str, torch.Tensor]):
    assert distance(train(project, "ours"), plain) == 0
    idle = {"train__amp": None, "train__grad_clip": None, "train__accum_iter": 1}
    switched_off = {"train__compile": False, "train__channels_last": False}
    assert distance(train(project, "idle", **idle, **switched_off), plain) == 0


def test_its_own_step_is_srmodel_s(project: Project, plain: dict[str, torch.Tensor]):
    """A clip that cuts nothing takes the step of this class: the same to the bit."""
    assert distance(train(project, "ours", train__grad_clip=1e9), plain) == 0


def test_parts_of_a_batch_give_the_gradient_of_the_batch(project: Project):
    whole = train(project, "whole", **SGD)
    assert 0 < distance(train(project, "two", train__accum_iter=2, **SGD), whole) < 1e-5
    assert 0 < distance(train(project, "four", train__accum_iter=4, **SGD), whole) < 1e-5


def test_clips_the_gradient(project: Project):
    """One step of SGD moves the weights by lr x the clipped norm."""
    steps = {}
    for name, clip in (("free", None), ("cut", 1e-3)):
        keys = {"train__grad_clip": clip, "train__total_iter": 1, "train__ema_decay": 0.0}
        options = {f"{key.replace('__', '.')}": value for key, value in keys.items()}
        options |= {
            "name": name,
            "model_type": "RestorationModel",
            "logger.save_checkpoint_freq": 1,
        }
        sgd = {"type": "SGD", "lr": 1.0}
        opt = project.write(options | {"train.optim_g": sgd})
        assert project.run("train", "-opt", opt).status == 0
        steps[name] = project.weights(name=name)
    zero = project.write(
        {"name": "start", "model_type": "RestorationModel", "train.total_iter": 1}
        | {"train.optim_g": {"type": "SGD", "lr": 0.0}}
    )
    assert project.run("train", "-opt", zero).status == 0
    start = project.weights(name="start")

    def norm(name: str) -> float:
        moves = [(steps[name][key].float() - start[key].float()).square().sum() for key in start]
        return float(torch.stack(moves).sum().sqrt())

    assert norm("cut") == pytest.approx(1e-3, rel=1e-2) and norm("free") > 10e-3


def test_mixed_precision_is_near_and_not_the_same(project: Project, plain):
    mixed = train(project, "mixed", train__amp="bf16")
    assert 0 < distance(mixed, plain) < 0.01
    assert all(value.dtype in (torch.float32, torch.uint8) for value in mixed.values())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["bf16", "fp16"])
def test_mixed_precision_on_a_gpu(project: Project, amp: str):
    gpu = {"num_gpu": 1, "train__grad_clip": 1.0, "train__accum_iter": 2}
    exact = train(project, "exact", **gpu)
    mixed = train(project, amp, train__amp=amp, **gpu)
    assert 0 < distance(mixed, exact) < 0.01


def test_memory_format_changes_nothing_but_roundings(project: Project):
    usual = train(project, "usual", **SGD)
    assert distance(train(project, "last", train__channels_last=True, **SGD), usual) < 1e-4


KNOWN = {"network_g__dim": 16, "network_g__num_heads": 1}  # to the kernels


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
@pytest.mark.parametrize("amp", [None, "bf16"])
def test_compiled_training(project: Project, monkeypatch: pytest.MonkeyPatch, amp: str | None):
    """Compacter on a CPU is trained by the kernels, to the same weights; EMA stays plain."""
    changed = []
    monkeypatch.setattr(
        restoration_model, "train_by_kernels", lambda net: changed.append(net) or by_kernels(net)
    )
    keys = {**KNOWN, **SGD, "train__amp": amp}
    usual = train(project, "usual", **keys)
    compiled = train(project, "compiled", train__compile=True, **keys)
    assert len(changed) == 2  # a trial step first
    assert compiled.keys() == usual.keys()
    assert 0 < distance(compiled, usual) < (1e-5 if amp is None else 1e-3)


def test_compiled_training_without_kernels(project: Project, monkeypatch: pytest.MonkeyPatch):
    """The plain network is trained, and the log says why."""
    usual = train(project, "usual", train__total_iter=1)
    compiled = train(project, "compiled", train__compile=True, train__total_iter=1)
    assert distance(compiled, usual) < 1e-7  # the roundings of the fused optimizer
    (log,) = (project.root / "experiments/compiled").glob("train_*.log")
    assert "train: compile: the plain network is trained: the kernels need" in log.read_text()


@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler")
def test_the_backend_is_said(project: Project):
    """`check` says what would compute a step, and the log of a run says it once."""
    keys = {**KNOWN, "train.compile": "cpu", "train.total_iter": 1}
    options = {key.replace("__", "."): value for key, value in keys.items()}
    file = project.write({"model_type": "RestorationModel", "name": "said", **options})
    checked = project.run("check", "-opt", file)
    assert checked.status == 0 and "by compiled kernels\n" in checked.out, checked.err
    assert project.run("train", "-opt", file).status == 0
    (log,) = (project.root / "experiments/said").glob("train_*.log")
    assert log.read_text().count("network_g is trained by compiled kernels.") == 1


def test_the_kernels_alone_never_call_pytorchs_compiler(
    project: Project, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.nn.Module, "compile", None)  # fails when it is called
    other = {"type": "MSRResNet", "upscale": 2, "num_feat": 8, "num_block": 1}
    train(project, "plain", network_g=other, train__compile="cpu", train__total_iter=1)


def test_other_networks_are_compiled_by_pytorch(project: Project, monkeypatch: pytest.MonkeyPatch):
    """The names of the weights stay, EMA is not compiled."""
    compiled = []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, **_: compiled.append(self))
    other = {"type": "MSRResNet", "upscale": 2, "num_feat": 8, "num_block": 1}
    weights = train(project, "compiled", network_g=other, train__compile=True)
    assert [type(net).__name__ for net in compiled] == ["MSRResNet"] * 2  # a trial step first
    assert not any("_orig_mod" in key for key in weights)


@pytest.mark.parametrize(
    "scheduler",
    [
        {"type": "CosineAnnealingLR", "eta_min": 1e-7},
        {"type": "CosineAnnealingLR", "T_max": 4, "eta_min": 1e-7},
        {
            "type": "CosineAnnealingRestartLR",
            "periods": [4],
            "restart_weights": [1],
            "eta_min": 1e-7,
        },
    ],
)
def test_cosine_fills_the_run_and_resumes(project: Project, scheduler: dict[str, Any]):
    """After 0, 1, 2, 3 of 4 iterations: (1 + cos(pi i / 4)) / 2 of the rate."""
    keys = {"train.scheduler": scheduler, "logger.save_checkpoint_freq": 2, "name": "cosine"}
    keys |= {"model_type": "RestorationModel", "train.optim_g": {"type": "AdamW", "lr": 1e-3}}
    opt = project.write(keys)
    assert project.run("train", "-opt", opt).status == 0
    rates = [
        line.split("lr:(")[1].split(",")[0]
        for line in project.log("cosine").splitlines()
        if "lr:(" in line
    ]
    assert [float(rate) for rate in rates] == pytest.approx(
        [1e-3, 8.536e-4, 5e-4, 1.465e-4], rel=1e-3
    )
    whole = project.weights(name="cosine")
    for leftover in ("training_states/4.state", "models/net_g_4.pth"):
        (project.root / "experiments/cosine" / leftover).unlink()
    assert project.run("train", "-opt", opt, "--auto_resume").status == 0
    assert distance(project.weights(name="cosine"), whole) == 0


def test_warm_up_before_a_cosine(project: Project):
    keys = {"train.scheduler": {"type": "CosineAnnealingLR"}, "train.warmup_iter": 2}
    opt = project.write(keys | {"model_type": "RestorationModel"})
    assert project.run("train", "-opt", opt).status == 0
    rates = [
        float(line.split("lr:(")[1].split(",")[0])
        for line in project.log().splitlines()
        if "lr:(" in line
    ]
    assert rates == pytest.approx([5e-4, 8.536e-4, 5e-4, 1.465e-4], rel=1e-3)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train.amp": "fp32"}, "amp: 'fp32' must be bf16 or fp16"),
        ({"train.amp": "fp16"}, "amp: fp16 needs a GPU"),
        ({"train.grad_clip": 0}, "grad_clip: 0 must be a number above 0"),
        ({"train.grad_clip": "x"}, "grad_clip: 'x' must be"),
        ({"train.accum_iter": 3}, "accum_iter: 3 must divide batch_size_per_gpu: 2"),
        ({"train.compile": 1}, "compile: 1 must be true, false or cpu"),
        ({"train.compile": "gpu"}, "compile: 'gpu' must be true, false or cpu"),
        ({"train.channels_last": 1}, "channels_last: 1 must be true or false"),
        ({"train.optim_g.type": "AdamX"}, "'AdamX' is not known (did you mean"),
        ({"train.optim_g": {"type": "AdamW", "lr": 1e-3, "beta": 1}}, "unknown key 'beta'"),
        ({"train.scheduler": {"type": "CosineAnealingLR"}}, "did you mean 'CosineAnnealingLR'?"),
        ({"train.grad_clp": 0.1}, "unknown key 'grad_clp' (did you mean 'grad_clip'?)"),
    ],
)
def test_one_line_for_what_is_wrong(project: Project, changes: dict[str, Any], message: str):
    opt = project.write({"model_type": "RestorationModel", **changes})
    result = project.run("check", "-opt", opt)
    assert result.status == 2, result.out
    assert message in result.err and "Traceback" not in result.err


def test_srmodel_knows_none_of_its_keys(project: Project):
    result = project.run("check", "-opt", project.write({"train.grad_clip": 0.01}))
    assert "SRModel does not read 'grad_clip'" in result.err
    result = project.run("check", "-opt", project.write({"train.optim_g.type": "AdamW"}))
    assert result.status == 2 and "'AdamW' is not known" in result.err
