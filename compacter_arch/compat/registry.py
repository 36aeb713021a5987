"""The registries of networks, datasets, models, losses and metrics."""

from __future__ import annotations

import difflib
import threading
from collections.abc import Callable
from typing import Any

from .patching import Function, patch


def repair_unknown_name() -> None:
    """`utils/registry.py:69`: an unknown name is announced as replaced, which it is not.

    "Name X is not found, use name: X_basicsr!" is printed, though there is none either. The
    KeyError that follows does not help with a typing error.
    """
    from basicsr.utils.registry import Registry

    @patch(Registry, "get")
    def get(original: Function, self: Any, name: str, suffix: str = "basicsr") -> Any:
        if name in self or f"{name}_{suffix}" in self:
            return original(self, name, suffix)
        known = {key.lower(): key for key in self.keys()}
        near = difflib.get_close_matches(str(name).lower(), known, n=1)
        hint = f" Did you mean '{known[near[0]]}'?" if near else ""
        raise KeyError(f"No object named '{name}' found in '{self._name}' registry!{hint}")


def fill_when_asked(fill: Callable[[], None]) -> None:
    """Call ``fill`` once, before any registry answers for the first time.

    Parts cannot be registered while BasicSR is being imported: the module that imports it may be
    one of theirs, which is not complete then. A registry is asked later. If ``fill`` fails, the
    next question calls it again.
    """
    from basicsr.utils.registry import Registry

    lock, filled = threading.RLock(), False

    def fill_once() -> None:
        nonlocal filled
        with lock:
            if not filled:
                filled = True  # before the call, which asks the registries itself
                try:
                    fill()
                except BaseException:
                    filled = False
                    raise

    for name in ("get", "__contains__", "__iter__", "keys"):

        @patch(Registry, name)
        def answer(original: Function, *args: Any, **kwargs: Any) -> Any:
            fill_once()
            return original(*args, **kwargs)


REPAIRS = (repair_unknown_name,)
