"""What the tests of the repairs share: released functions, processes, small models and files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from basicsr.models import lr_scheduler
from basicsr.models.base_model import BaseModel

from compacter_arch.compat import imports
from compacter_arch.compat.patching import repairs_of

ROOT = Path(imports.__file__).parents[2]
# The beginning of a script in which BasicSR stays as released: only these shims are loaded.
IMPORTS_ALONE = f"""
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location("imports_alone", {imports.__file__!r})
imports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(imports)
"""

TORCHVISION = tuple(map(int, version("torchvision").split(".")[:2]))
needs_the_defect = pytest.mark.skipif(
    TORCHVISION < (0, 17), reason="this torchvision still has what BasicSR asks it for"
)
needs_no_cuda = pytest.mark.skipif(torch.cuda.is_available(), reason="the defect needs a CPU")


def original(repaired: Any) -> Any:
    """The function as BasicSR released it."""
    while repairs_of(repaired):
        repaired = repaired.__wrapped__
    return repaired


def run_python(script: str, *arguments: str | Path) -> dict[str, Any]:
    """Run a script without an importable main module and read its last line as JSON."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=180,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.strip().splitlines()[-1])


def within(seconds: float, call: Callable[[], Any]) -> Any:
    """The result of a call that must not hang."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(call()), daemon=True)
    thread.start()
    thread.join(seconds)
    assert not thread.is_alive(), "hangs"
    return results[0]


def write_state(path: Path, iteration: int) -> None:
    path.parent.mkdir(exist_ok=True)
    torch.save({"epoch": 1, "iter": iteration, "optimizers": [], "schedulers": []}, path)


def base_model(folder: Path, dist: bool = False) -> BaseModel:
    paths = {"models": str(folder), "training_states": str(folder)}
    return BaseModel({"num_gpu": 0, "is_train": True, "dist": dist, "path": paths})


def multi_step(milestones: list[int]) -> Any:
    optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    return lr_scheduler.MultiStepRestartLR(optimizer, milestones=milestones)


def png(size: tuple[int, int] = (16, 16)) -> bytes:
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    return cv2.imencode(".png", image)[1].tobytes()
