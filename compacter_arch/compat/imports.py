"""What BasicSR's import needs and current libraries no longer have."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import sys
from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

_torchvision_library: Any = None  # the operators live as long as this object


def shim_torchvision_ops() -> None:
    """Torchvision built for CUDA beside torch built for the CPU does not import.

    Its compiled part is then skipped, and `torchvision/_meta_registrations.py` describes operators
    that nobody defined: "operator torchvision::nms does not exist". BasicSR uses none of them; a
    bare definition is enough.
    """
    global _torchvision_library
    try:
        importlib.import_module("torchvision")
        return
    except ImportError:
        return
    except RuntimeError as error:
        if "torchvision::nms" not in str(error):
            return  # not ours to mend; BasicSR's import will say it again
    _torchvision_library = torch.library.Library("torchvision", "FRAGMENT")
    for operator in ("nms", "qnms"):
        schema = f"{operator}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
        _torchvision_library.define(schema)
    importlib.import_module("torchvision")


def _bring_back(name: str, source_name: str, content: Iterable[str] | None = None) -> None:
    """Make a dropped module importable again, with public names of one that has them now."""
    try:
        source = importlib.import_module(source_name)
    except (ImportError, RuntimeError):
        return  # BasicSR's import will say it again
    try:
        importlib.import_module(name)
        return
    except ImportError:
        module = ModuleType(name, "Brought back for BasicSR by compacter_arch.compat.")
    # find_spec refuses a loaded module without a spec, and libraries do ask
    module.__spec__ = importlib.machinery.ModuleSpec(name, loader=None)
    vars(module).update({key: getattr(source, key) for key in content or source.__all__})
    sys.modules[name] = module
    parent, _, child = name.rpartition(".")
    setattr(sys.modules[parent], child, module)


def shim_functional_tensor() -> None:
    """`data/degradations.py:8` imports a module that torchvision has dropped (0.17).

    `import basicsr` ends with "No module named 'torchvision.transforms.functional_tensor'".
    """
    functional = "torchvision.transforms.functional"
    _bring_back("torchvision.transforms.functional_tensor", functional, ["rgb_to_grayscale"])


def shim_scipy_filters() -> None:
    """`metrics/niqe.py:5`, `data/data_util.py:275` import a module that SciPy 2 drops.

    `import basicsr` would end with "No module named 'scipy.ndimage.filters'".
    """
    _bring_back("scipy.ndimage.filters", "scipy.ndimage")


def shim_version() -> None:
    """`__init__.py:12` imports a file that only an installation writes.

    In a clone of BasicSR, its folder comes before the installed package wherever the current
    directory is searched for modules (``python -m``, a script of the clone): `import basicsr` ends
    with "No module named 'basicsr.version'".
    """
    spec = importlib.util.find_spec("basicsr")
    if spec is None or not spec.submodule_search_locations:
        return
    folder = Path(spec.submodule_search_locations[0])
    number = folder.parent / "VERSION"
    if (folder / "version.py").exists() or not number.exists():
        return
    module = ModuleType("basicsr.version", "Made for a clone of BasicSR by compacter_arch.compat.")
    vars(module).update(__version__=number.read_text().strip(), __gitsha__="unknown")
    sys.modules[module.__name__] = module


SHIMS = (shim_torchvision_ops, shim_functional_tensor, shim_scipy_filters, shim_version)
