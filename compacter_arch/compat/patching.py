"""How a part of BasicSR is replaced: a function or method, or a module seen through another."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

Function = Callable[..., Any]


def rebind(old: Any, new: Any) -> None:
    """Replace an object by another in every loaded BasicSR module and registry that holds it.

    BasicSR imports names (``from x import y``), so that setting one module's attribute would miss
    the others' copies.
    """
    for module_name, module in list(sys.modules.items()):
        if module is None or module_name.partition(".")[0] != "basicsr":
            continue
        for name, value in list(vars(module).items()):
            if value is old:
                setattr(module, name, new)
            registered = getattr(value, "_obj_map", None)  # of a registry
            if isinstance(registered, dict):
                registered.update({key: new for key, part in registered.items() if part is old})


def repairs_of(function: Any) -> tuple[str, ...]:
    """The names of the repairs that a function has got."""
    return getattr(function, "_compacter_repairs", ())


def patch(owner: Any, name: str) -> Callable[[Function], Function]:
    """Decorate what takes the place of a method or, wherever it was imported, a function.

    The decorated function is called with the original, then with the arguments of the call. Nothing
    happens when the name is gone or this repair is already there; different repairs of one name are
    stacked.
    """

    def decorate(repair: Function) -> Function:
        original = getattr(owner, name, None)
        this, earlier = f"{repair.__module__}.{repair.__qualname__}", repairs_of(original)
        if original is None or this in earlier:
            return repair

        @functools.wraps(original)
        def repaired(*args: Any, **kwargs: Any) -> Any:
            return repair(original, *args, **kwargs)

        repaired._compacter_repairs = (*earlier, this)  # type: ignore[attr-defined]
        if isinstance(owner, ModuleType):
            rebind(original, repaired)
        else:
            setattr(owner, name, repaired)
        return repair

    return decorate


class StandIn(ModuleType):
    """A module seen through a few replaced names; all others are looked up in the module."""

    def __init__(self, module: Any, **replaced: Any) -> None:
        super().__init__(module.__name__)
        self.__dict__.update(replaced, _module=module)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def stand_in_for_torch(module: Any, **replaced: Any) -> None:
    """Let one BasicSR module see torch with some of its names replaced."""
    if not isinstance(module.torch, StandIn):
        module.torch = StandIn(module.torch)
    vars(module.torch).update(replaced)
