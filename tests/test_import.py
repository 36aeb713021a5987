"""What `import compacter_arch` imports, when, and in which order; each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .conftest import REPOSITORY

HEAVY = {"basicsr", "cv2", "lmdb", "matplotlib", "numpy", "PIL", "scipy", "torch", "torchvision"}


def run_python(script: str, *arguments: object, folder: Path | None = None) -> dict[str, Any]:
    """What a script leaves in its variable ``report``."""
    paths = [str(folder or ""), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore",
            "-c",
            SCRIPT.replace("BODY", script),
            *map(str, arguments),
        ],
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(filter(None, paths)),
            "OMP_NUM_THREADS": "1",
        },
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


SCRIPT = """
import json, sys
report = {}

def loaded():
    return sorted({name.partition(".")[0] for name in sys.modules})

def is_whole():
    from basicsr.data import build_dataloader
    from basicsr.train import load_resume_state
    from basicsr.utils import imfrombytes
    from basicsr.utils import registry
    repaired = (build_dataloader, load_resume_state, imfrombytes)
    return {
        "repaired": [hasattr(part, "__wrapped__") for part in repaired],
        "registered": [
            registry.ARCH_REGISTRY.get("CompacterArch").__module__,
            "Bicubic" in registry.ARCH_REGISTRY,
            "SubsetsDataset" in registry.DATASET_REGISTRY.keys(),
            "L1FrequencyLoss" in dict(iter(registry.LOSS_REGISTRY)),
            registry.METRIC_REGISTRY.get("calculate_psnrb").__module__,
            registry.MODEL_REGISTRY.get("RestorationModel").__module__,
        ],
    }

BODY
print(json.dumps(report))
"""
WHOLE = {
    "repaired": [True, True, True],
    "registered": [
        "compacter_arch.archs.compacter_arch",
        True,
        True,
        True,
        "compacter_arch.metrics.psnrb",
        "compacter_arch.models.restoration_model",
    ],
}


def test_import_alone_is_light():
    report = run_python(
        """
import compacter_arch
assert set(compacter_arch.__all__) <= set(dir(compacter_arch))
assert not hasattr(compacter_arch, "nothing_of_the_kind")
compacter_arch.__version__
report["loaded"] = loaded()
"""
    )
    assert HEAVY.isdisjoint(report["loaded"])


def test_archs_need_torch_alone():
    """They are used here where BasicSR and OpenCV do not exist."""
    report = run_python(
        """
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("basicsr", "cv2", "lmdb", "torchvision"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
import torch
before = loaded()
import compacter_arch.archs
report["more"] = sorted(set(loaded()) - set(before))
network = compacter_arch.archs.CompacterArch(dim=12, num_blocks=1, num_heads=3, window_size=4)
report["shape"] = list(network(torch.zeros(1, 3, 5, 6)).shape)
"""
    )
    assert HEAVY.isdisjoint(report["more"]) and "compacter_arch" in report["more"]
    assert report["shape"][:2] == [1, 3]


def test_names_of_the_package():
    report = run_python(
        """
from compacter_arch import CASA, DSGM, CompacterArch, accelerate, load_model, restore
report["loaded"] = loaded()
import compacter_arch
import compacter_arch.archs.compacter_arch as home, compacter_arch.inference as inference
assert compacter_arch.CompacterArch is CompacterArch is home.CompacterArch
assert compacter_arch.archs.CASA is CASA and compacter_arch.inference is inference
assert (inference.accelerate, inference.load_model, inference.restore) == (
    accelerate, load_model, restore
)
from compacter_arch import *
report["name"] = load_model("sr_x2").__class__.__name__
"""
    )
    assert report["name"] == "CompacterArch" and "basicsr" not in report["loaded"]


@pytest.mark.parametrize(
    "imports",
    [
        "import compacter_arch; from basicsr.train import train_pipeline",
        "from compacter_arch.models import RestorationModel",
        "from compacter_arch.data import SubsetsDataset",
        "import compacter_arch.training.nonfinite",
        "from compacter_arch import compat; compat.apply()",
    ],
)
def test_whatever_is_imported_first_basicsr_is_repaired_and_has_our_parts(imports: str):
    assert run_python(f"{imports}\nreport.update(is_whole())") == WHOLE


def test_basicsr_before_us():
    """As far as BasicSR can be imported, here with the help of our shims."""
    report = run_python(
        """
import importlib.util
spec = importlib.util.spec_from_file_location("imports_alone", sys.argv[1])
imports = importlib.util.module_from_spec(spec)
spec.loader.exec_module(imports)
for shim in imports.SHIMS:
    shim()
import basicsr
from basicsr.train import load_resume_state
report["before"] = hasattr(load_resume_state, "__wrapped__")
import compacter_arch
report["after"] = is_whole()
""",
        REPOSITORY / "compacter_arch/compat/imports.py",
    )
    assert report == {"before": False, "after": WHOLE}


def test_pickled_network():
    report = run_python(
        """
import pickle, subprocess
from compacter_arch import CompacterArch
data = pickle.dumps(CompacterArch(dim=12, num_blocks=1, num_heads=3, window_size=4))
code = "import pickle, sys; network = pickle.load(sys.stdin.buffer); print(type(network).__name__)"
done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
report["name"] = done.stdout.decode().strip()
"""
    )
    assert report["name"] == "CompacterArch"


def test_spawned_worker_gets_one_of_our_data_sets(tmp_path: Path):
    """It unpickles the data set first of all."""
    script = tmp_path / "spawned.py"
    script.write_text(
        """
import json, sys

def look(dataset, results):
    from basicsr.train import load_resume_state
    from basicsr.utils.registry import DATASET_REGISTRY
    own = DATASET_REGISTRY.get("SubsetsDataset") is type(dataset)
    results.put([len(dataset), hasattr(load_resume_state, "__wrapped__"), own])

if __name__ == "__main__":
    import multiprocessing, os
    import cv2, numpy
    from compacter_arch.data import SubsetsDataset
    for name in "ab":
        os.mkdir(name)
        cv2.imwrite(f"{name}/1.png", numpy.zeros((4, 6, 3), numpy.uint8))
    dataset = SubsetsDataset({
        "type": "SubsetsDataset", "subset_type": "SingleImageDataset", "subsets": ["a", "b"],
        "dataroot_lq": "{}", "io_backend": {"type": "disk"}, "name": "two", "phase": "val",
    })
    context = multiprocessing.get_context("spawn")
    results = context.Queue()
    process = context.Process(target=look, args=(dataset, results))
    process.start()
    process.join(200)
    print(json.dumps(results.get(timeout=10)))
"""
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", script],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == [2, True, True]


def test_basicsr_that_cannot_be_imported_says_so_itself(tmp_path: Path):
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('built for another torch')")
    report = run_python(
        """
from compacter_arch import load_model
report["name"] = type(load_model("sr_x2")).__name__
for _ in range(2):
    try:
        import basicsr
    except RuntimeError as error:
        report["error"] = str(error)
report["loaded"] = "basicsr" in sys.modules
""",
        folder=tmp_path,
    )
    assert report == {"name": "CompacterArch", "error": "built for another torch", "loaded": False}


def test_parts_that_cannot_be_imported_say_so_at_each_question():
    report = run_python(
        """
import compacter_arch
sys.modules["compacter_arch.models"] = None
from basicsr.utils.registry import ARCH_REGISTRY
report["errors"] = []
for _ in range(2):
    try:
        ARCH_REGISTRY.get("CompacterArch")
    except ImportError as error:
        report["errors"].append(type(error).__name__)
del sys.modules["compacter_arch.models"]
report.update(is_whole())
"""
    )
    assert len(report.pop("errors")) == 2
    assert report == WHOLE
