"""Fixtures of the tests of the repairs."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import pytest

from .tools import IMPORTS_ALONE, run_python

SPAWN_SCRIPT = """
import multiprocessing
multiprocessing.set_start_method("spawn")
report = {}
imports.shim_torchvision_ops()
try:
    import basicsr
except ImportError as error:
    report["import as released"] = str(error)
imports.shim_functional_tensor()
imports.shim_scipy_filters()
import basicsr
from basicsr.data.single_image_dataset import SingleImageDataset

dataset = SingleImageDataset({"dataroot_lq": sys.argv[1], "io_backend": {"type": "disk"}})
options = {"phase": "train", "batch_size_per_gpu": 1, "num_worker_per_gpu": 1}

def load():
    try:
        loader = basicsr.data.build_dataloader(dataset, options, num_gpu=0, seed=0)
        return [list(batch["lq"].shape) for batch in loader]
    except RuntimeError as error:
        return str(error)

stock = basicsr.data.build_dataloader
report["workers as released"] = load()
import compacter_arch
report["repaired although imported before"] = basicsr.data.build_dataloader is not stock
report["workers repaired"] = load()
print(json.dumps(report))
"""


@pytest.fixture(scope="session")
def spawn_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a spawned run sees with BasicSR as released, then with the repairs."""
    folder = tmp_path_factory.mktemp("images")
    cv2.imwrite(str(folder / "a.png"), np.zeros((4, 6, 3), np.uint8))
    return run_python(IMPORTS_ALONE + SPAWN_SCRIPT, folder)
