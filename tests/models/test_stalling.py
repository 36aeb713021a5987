"""No step waits for numbers that nobody asks for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from ..conftest import Project
from .test_validation import build

SGD = {"train.optim_g": {"type": "SGD", "lr": 0.1}}  # Adam reads its own counter, on the CPU
OWN_STEP = {"train.grad_clip": 1e9}
PARTS = {"train.accum_iter": 2, "train.amp": "bf16", "train.channels_last": True}


class Reads(TorchDispatchMode):
    """Counts how often a tensor becomes a number, for which a GPU must be waited for."""

    count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def batch(device: str = "cpu") -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    sizes = {"lq": (2, 3, 8, 8), "gt": (2, 3, 16, 16)}
    images = {name: torch.rand(size, generator=generator) for name, size in sizes.items()}
    return {
        name: image.pin_memory() if device == "cuda" else image for name, image in images.items()
    }


@pytest.mark.parametrize("keys", [{}, OWN_STEP, PARTS], ids=["plain", "own", "parts"])
def test_losses_are_read_when_a_log_is_due(project: Project, keys: dict[str, Any]):
    model = build(project, "RestorationModel", True, **SGD, **keys)
    with Reads() as reads:
        for iteration in (1, 2, 3):
            model.feed_data(batch())
            model.optimize_parameters(iteration)
        assert reads.count == 0
        assert model.get_current_log()["l_pix"] > 0
        assert reads.count == 1


def test_srmodel_reads_them_in_every_step(project: Project):
    """So the test above sees it."""
    model = build(project, "SRModel", True)
    model.optimizer_g = torch.optim.SGD(model.net_g.parameters(), 0.1)
    model.feed_data(batch())
    with Reads() as reads:
        model.optimize_parameters(1)
    assert reads.count == 1


@pytest.mark.parametrize("keys", [{}, OWN_STEP], ids=["plain", "own"])
def test_logs_are_srmodel_s(project: Project, keys: dict[str, Any]):
    logs = []
    for kind in ("SRModel", "RestorationModel"):
        model = build(project, kind, True, **(keys if kind == "RestorationModel" else {}))
        logs.append([])
        for iteration in (1, 2, 3):
            model.feed_data(batch())
            model.optimize_parameters(iteration)
            logs[-1].append(list(model.get_current_log().items()))
    assert logs[0] == logs[1] and isinstance(logs[1][0][0][1], float)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_nothing_waits_for_a_gpu(project: Project):
    model = build(project, "RestorationModel", True, num_gpu=1)
    try:
        for iteration, mode in enumerate(("default", "error", "error"), 1):  # the first one plans
            images = batch("cuda")
            torch.cuda.set_sync_debug_mode(mode)
            model.feed_data(images)
            model.optimize_parameters(iteration)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert model.get_current_log()["l_pix"] > 0
