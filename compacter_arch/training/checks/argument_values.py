"""Whether the values of an option file are of the types that a class or a function takes."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable, Mapping
from typing import Any

from ...messages import shown
from .values import is_number

LARGEST = 10**6  # of whole numbers: sizes and counts of layers
WORDS = {
    bool: "true or false",
    int: f"a whole number of at most {LARGEST:,}",
    float: "a number",
    str: "text",
    list: "a list of numbers",
    type(None): "~",
}


def argument_value_problems(function: Callable[..., Any], given: Mapping[str, Any]) -> list[str]:
    """What is wrong with the values of these keywords of ``function``, as far as it tells.

    Args:
        function: class or function, with type hints or default values.
        given: keywords of an option file; those that it does not have are left out.

    Returns:
        ``key: value must be ...`` of each.
    """
    known = kinds_of(function)
    return [
        f"{key}: {shown(value)} must be {' or '.join(WORDS[kind] for kind in known[key])}"
        for key, value in given.items()
        if known.get(key) and not any(fits(value, kind) for kind in known[key])
    ]


def kinds_of(function: Callable[..., Any]) -> dict[str, list[type]]:
    """For each parameter the types of :data:`WORDS` that it takes; none where that is not known."""
    code = function.__init__ if inspect.isclass(function) else function
    try:
        hints = typing.get_type_hints(code)
    except (NameError, TypeError, AttributeError):  # of names that are there for a checker alone
        hints = {}
    return {
        name: kinds_of_hint(hints[name]) if name in hints else kinds_of_default(parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
    }


def kinds_of_hint(hint: Any) -> list[type]:
    """As :func:`kinds_of`, of a type hint; parts that no YAML gives, as tensors, are left out."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return [kind for part in typing.get_args(hint) for kind in kinds_of_hint(part)]
    origin = typing.get_origin(hint) or hint
    if origin in (list, tuple):
        return [list]
    return [hint] if isinstance(hint, type) and hint in WORDS else []


def kinds_of_default(default: Any) -> list[type]:
    """As :func:`kinds_of`, of a default value, which tells less: a number may be several."""
    if isinstance(default, bool):
        return [bool]
    if isinstance(default, (int, float)):
        return [float, list]
    return []


def fits(value: object, kind: type) -> bool:
    """Whether a value is of a type of :data:`WORDS`."""
    if kind is list:
        return isinstance(value, list) and all(fits(item, float) for item in value)
    if kind is float:
        return is_number(value)
    if kind is int:
        return is_number(value) and isinstance(value, int) and abs(value) <= LARGEST
    return isinstance(value, kind)
