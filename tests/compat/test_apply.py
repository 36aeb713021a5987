"""`apply` as a whole."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from basicsr.utils import img_util

from compacter_arch import compat
from compacter_arch.compat import imports
from compacter_arch.compat.patching import repairs_of

from .tools import original, run_python


def repaired_objects() -> dict[str, Any]:
    return {
        f"{name}.{key}": value
        for name, module in sorted(sys.modules.items())
        if name.partition(".")[0] == "basicsr" and module is not None
        for key, value in vars(module).items()
        if repairs_of(value)
    }


def test_apply_twice_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    before = repaired_objects()
    compat.apply()
    monkeypatch.setattr(compat, "_applied", False)
    compat.apply()
    assert repaired_objects() == before
    assert not repairs_of(original(img_util.imfrombytes))


def test_apply_without_basicsr_is_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compat, "_applied", False)
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(imports, "SHIMS", (lambda: pytest.fail("nothing to repair"),))
    compat.apply()


UNIMPORTABLE_SCRIPT = """
import contextlib, json, logging, sys
sys.path.insert(0, sys.argv[1])
warnings = []
handler = logging.Handler()
handler.emit = lambda record: warnings.append(record.getMessage())
logging.getLogger("compacter_arch.compat").addHandler(handler)
with contextlib.suppress(RuntimeError):
    import compacter_arch
print(json.dumps(warnings))
"""


def test_apply_tells_why_basicsr_cannot_be_imported(tmp_path: Path) -> None:
    (tmp_path / "torchvision.py").write_text("raise RuntimeError('built for another torch')")
    [warning] = run_python(UNIMPORTABLE_SCRIPT, tmp_path)
    assert "BasicSR cannot be imported" in warning and "built for another torch" in warning
