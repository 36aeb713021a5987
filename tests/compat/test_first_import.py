"""Functions around the first import of a package, with small packages that are written here."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from importlib.machinery import SourceFileLoader
from importlib.resources import files
from pathlib import Path

import pytest

from compacter_arch.compat.first_import import around_import

from .tools import within

NAME = "a_package_of_the_tests"


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Writes the code of an importable package, which is forgotten afterwards."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "meta_path", list(sys.meta_path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write_package(code: str) -> None:
        (tmp_path / NAME).mkdir(exist_ok=True)
        (tmp_path / NAME / "__init__.py").write_text(code)
        importlib.invalidate_caches()

    yield write_package
    for name in [name for name in sys.modules if name.partition(".")[0] == NAME]:
        del sys.modules[name]


def test_order_and_once(write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch) -> None:
    write("import sys\nsys.order.append('code')\n")
    order: list[str] = []
    monkeypatch.setattr(sys, "order", order, raising=False)
    around_import(NAME, lambda: order.append("before"), lambda: order.append("after"))
    around_import(NAME, pytest.fail, pytest.fail)
    assert order == []
    importlib.import_module(NAME)
    importlib.import_module(NAME)
    assert order == ["before", "code", "after"]


def test_code_after_may_import_the_package_and_its_modules(
    write: Callable[[str], None], tmp_path: Path
) -> None:
    write("value = 1\n")
    (tmp_path / NAME / "part.py").write_text(f"from {NAME} import value\n")
    around_import(NAME, int, lambda: setattr(importlib.import_module(f"{NAME}.part"), "value", 2))
    assert importlib.import_module(f"{NAME}.part").value == 2


def test_package_looks_as_usual(write: Callable[[str], None], tmp_path: Path) -> None:
    write("value = 1\n")
    (tmp_path / NAME / "data.txt").write_text("text")
    around_import(NAME, int, int)
    spec = importlib.util.find_spec(NAME)
    assert spec is not None and spec.origin == str(tmp_path / NAME / "__init__.py")
    assert NAME not in sys.modules
    assert spec.loader.get_source(NAME) == "value = 1\n"  # type: ignore[union-attr]
    module = importlib.import_module(NAME)
    assert type(module.__loader__) is type(module.__spec__.loader) is SourceFileLoader
    assert inspect.getsource(module) == "value = 1\n"
    assert (files(NAME) / "data.txt").read_text() == "text"


def test_errors_stay_the_original_ones(write: Callable[[str], None]) -> None:
    attempts: list[str] = []
    around_import(NAME, lambda: attempts.append("before"), lambda: attempts.append("after"))
    with pytest.raises(ModuleNotFoundError, match=f"No module named '{NAME}'"):
        importlib.import_module(NAME)
    assert importlib.util.find_spec(NAME) is None and attempts == []
    write("raise OSError('of the package')\n")
    with pytest.raises(OSError, match="of the package"):
        importlib.import_module(NAME)
    assert NAME not in sys.modules and attempts == ["before"]
    write("value = 'a corrected one'\n")
    assert importlib.import_module(NAME).value == "a corrected one"
    assert attempts == ["before", "before", "after"]


def test_folder_that_is_no_package_is_found_as_usual(
    write: Callable[[str], None], tmp_path: Path
) -> None:
    (tmp_path / NAME).mkdir()
    around_import(NAME, int, int)
    assert list(importlib.import_module(NAME).__path__) == [str(tmp_path / NAME)]


def test_package_that_is_imported_already(write: Callable[[str], None]) -> None:
    write("")
    importlib.import_module(NAME)
    order: list[str] = []
    around_import(NAME, lambda: order.append("before"), lambda: order.append("after"))
    assert order == ["before", "after"]


def test_package_that_is_blocked_stays_so(
    write: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, NAME, None)  # type: ignore[arg-type]
    around_import(NAME, pytest.fail, pytest.fail)
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module(NAME)


def test_package_that_imports_us_is_told(
    write: Callable[[str], None],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    order: list[str] = []
    monkeypatch.setattr(
        sys, "run", lambda: around_import(NAME, lambda: order.append("before"), pytest.fail), False
    )
    write("import sys\nsys.run()\n")
    with caplog.at_level(logging.WARNING):
        importlib.import_module(NAME)
    assert order == ["before"] and "import compacter_arch first" in caplog.text


@pytest.mark.parametrize("is_first", [True, False])
def test_other_threads_see_the_package_when_both_are_done(
    write: Callable[[str], None], is_first: bool
) -> None:
    """Whether the finder was there when their import began, or not."""
    write("import time\ntime.sleep(0.3)\nvalue = 1\n")
    order: list[str] = []

    def after() -> None:
        time.sleep(0.3)
        importlib.import_module(NAME).value = 2  # type: ignore[attr-defined]
        order.append("after")

    if is_first:
        around_import(NAME, int, after)
    thread = threading.Thread(target=importlib.import_module, args=(NAME,))
    thread.start()
    while NAME not in sys.modules:
        time.sleep(0.01)
    if not is_first:
        around_import(NAME, int, after)
    assert within(10, lambda: importlib.import_module(NAME)).value == 2
    thread.join()
    assert order == ["after"]
