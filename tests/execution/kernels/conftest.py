"""What the tests of the kernels have in common."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of this test run alone, shared by its tests."""
    home = tmp_path_factory.getbasetemp() / "kernels"
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    return home / "compacter_arch"
