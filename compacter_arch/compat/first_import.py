"""Functions that run before and after the first import of a package.

A finder at the front of ``sys.meta_path`` waits for the package. It leaves the search to the
finders behind it and wraps the loader that they return, so that one function runs before the
package's own code and one after it. Both run inside the package's import lock: another thread that
imports the package waits for them. (A thread that imports a module of the package does not wait for
the second function, as it does not wait for the package's own code: Python only looks whether the
package is in ``sys.modules``.) An exception of the package's own code passes unchanged, and the
next attempt to import it runs both functions again.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

_logger = logging.getLogger(__name__)


class _Loader(Loader):
    """A loader that runs a function before and after the code of a module."""

    def __init__(
        self, loader: Loader, before: Callable[[], None], after: Callable[[], None]
    ) -> None:
        self._loader, self._before, self._after = loader, before, after

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The module, as the wrapped loader creates it; other threads do not see it yet."""
        self._before()
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run the code and what comes after it; from here on the module shows its own loader."""
        module.__loader__ = self._loader
        if module.__spec__ is not None:
            module.__spec__.loader = self._loader
        self._loader.exec_module(module)
        self._after()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)  # resources, source code, ... of a spec that was found


class _Finder(MetaPathFinder):
    """Finds one package, as the finders behind it do, with functions around its code."""

    def __init__(self, name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
        self.name, self._before, self._after = name, before, after

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The specification of the package; None for all other modules."""
        if fullname != self.name:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            find_spec = getattr(finder, "find_spec", None)  # some old finders have none
            spec = None if find_spec is None else find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:  # a folder without __init__.py may have none
                    spec.loader = _Loader(spec.loader, self._before, self._after)
                return spec
        return None


def around_import(name: str, before: Callable[[], None], after: Callable[[], None]) -> None:
    """Run ``before`` and ``after`` around the import of a package, or now if it is imported.

    A second call for the same package does nothing. Where the package itself is what imports the
    caller, it is only half imported: ``before`` runs, and a warning says what to do.

    Args:
        name: of the package, without dots.
        before: makes the package importable.
        after: may import the package and all its modules.
    """
    if any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        return
    sys.meta_path.insert(0, _Finder(name, before, after))
    if sys.modules.get(name) is None:
        return
    package = importlib.import_module(name)  # waits for the import of another thread
    before()
    if getattr(package.__spec__, "_initializing", False):
        _logger.warning("%s imports compacter_arch itself: import compacter_arch first", name)
    else:
        after()
