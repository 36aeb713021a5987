"""`apply` as a whole."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from basicsr.utils import img_util

from compacter_arch import compat
from compacter_arch.compat.patching import repairs_of

from .tools import original


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
