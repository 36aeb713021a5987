"""The import of BasicSR, in processes of their own where it is as released."""

from __future__ import annotations

import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from .tools import IMPORTS_ALONE, needs_the_defect, run_python

FAKE_TORCHVISION = """
import torch
register = getattr(torch.library, "register_fake", None) or torch.library.impl_abstract
register("torchvision::nms")(lambda dets, scores, iou_threshold: dets.new_empty(0))
register("torchvision::qnms")(lambda dets, scores, iou_threshold: dets.new_empty(0))
"""
IMPORT_SCRIPT = """
sys.path.insert(0, sys.argv[1])
report = {}

def attempt(key, name):
    try:
        importlib.import_module(name)
        report[key] = "fine"
    except Exception as error:
        report[key] = f"{type(error).__name__}: {error}"

attempt("torchvision as released", "torchvision")
imports.shim_torchvision_ops()
attempt("torchvision repaired", "torchvision")

import scipy.ndimage
class WithoutFilters:
    @staticmethod
    def find_spec(name, *rest):
        if name == "scipy.ndimage.filters":
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, WithoutFilters)
sys.modules.pop("scipy.ndimage.filters", None)
vars(scipy.ndimage).pop("filters", None)
attempt("filters as released", "scipy.ndimage.filters")
imports.shim_scipy_filters()
attempt("filters repaired", "scipy.ndimage.filters")
from scipy.ndimage import filters
report["gaussian"] = filters.gaussian_filter is scipy.ndimage.gaussian_filter
print(json.dumps(report))
"""


@pytest.fixture(scope="session")
def import_report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("fake")
    (folder / "torchvision").mkdir()
    (folder / "torchvision" / "__init__.py").write_text(FAKE_TORCHVISION)
    return run_python(IMPORTS_ALONE + IMPORT_SCRIPT, folder)


@needs_the_defect
def test_torchvision_operators(import_report: dict[str, Any]) -> None:
    assert "torchvision::nms does not exist" in import_report["torchvision as released"]
    assert import_report["torchvision repaired"] == "fine"


@needs_the_defect
def test_scipy_without_filters(import_report: dict[str, Any]) -> None:
    assert "ModuleNotFoundError" in import_report["filters as released"]
    assert import_report["filters repaired"] == "fine" and import_report["gaussian"]


@needs_the_defect
def test_functional_tensor(spawn_report: dict[str, Any]) -> None:
    assert "functional_tensor" in spawn_report["import as released"]
    assert spawn_report["repaired although imported before"]


def test_clone_that_was_never_installed(tmp_path: Path) -> None:
    installed = Path(find_spec("basicsr").origin).parent
    shutil.copytree(installed, tmp_path / "basicsr", ignore=shutil.ignore_patterns("version.py"))
    (tmp_path / "VERSION").write_text("1.4.2\n")
    report = run_python(
        """
import json, sys
sys.path.insert(0, sys.argv[1])
import compacter_arch.compat.imports as imports
import basicsr
from basicsr.train import load_resume_state
repaired = hasattr(load_resume_state, "__wrapped__")
print(json.dumps({"file": basicsr.__file__, "version": basicsr.__version__, "repaired": repaired}))
""",
        tmp_path,
    )
    assert report["file"] == str(tmp_path / "basicsr" / "__init__.py")
    assert report["version"] == "1.4.2" and report["repaired"]
