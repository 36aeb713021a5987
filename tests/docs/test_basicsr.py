"""The page on BasicSR and SECURITY.md name what there is."""

from __future__ import annotations

from pathlib import Path

import pytest

from ..conftest import REPOSITORY
from .pages import CODE, DOCS, LINK

SECURITY = REPOSITORY / "SECURITY.md"
TESTS = REPOSITORY / "tests"

WHAT_BECAME_OF_IT = ("Repaired", "Command", "Stays", "Refused", "Raw", "`RestorationModel`")

pytestmark = pytest.mark.skipif(not SECURITY.exists(), reason="the pages are not installed")


def test_every_row_names_its_tests_or_its_reason():
    rows = [
        line.strip("|").split("|")
        for line in (DOCS / "basicsr.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and not line.startswith("| BasicSR 1.4.2 |")
    ]
    assert len(rows) > 40
    for _, now, tests in rows:
        named = CODE.findall(tests)
        for name in named:
            assert (TESTS / name).is_file(), name
        assert named or "Stays" in now, now
        assert now.split()[0].rstrip(":,") in WHAT_BECAME_OF_IT, now


def test_every_module_of_repairs_is_in_the_page():
    text = (DOCS / "basicsr.md").read_text(encoding="utf-8")
    for file in (REPOSITORY / "compacter_arch" / "compat").glob("*.py"):
        if file.stem not in ("__init__", "first_import", "patching", "repairs"):
            assert f"`compat/test_{file.stem}.py`" in text, file.stem


def test_security_names_what_there_is():
    text = SECURITY.read_text(encoding="utf-8")
    for name in CODE.findall(text):
        if name.startswith(("tests/", "compacter_arch/")):
            assert (REPOSITORY / name).exists(), name
    for target in LINK.findall(text):
        assert target.startswith("http") or Path(REPOSITORY, target).exists(), target
