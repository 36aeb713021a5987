"""Which keys of an option file anything reads, found in the code that reads them."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Callable, Collection, Iterable
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

OURS = ("basicsr", "compacter_arch")


@cache
def strings_in(file: str) -> frozenset[str]:
    """All string literals of a Python file: among them, every key that its code can look up."""
    tree = ast.parse(Path(file).read_text(encoding="utf-8"))
    return frozenset(
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )


def keys_read_by(*readers: type | ModuleType) -> set[str]:
    """The keys that classes (with the classes they inherit from) or modules can look up."""
    parts = {part for r in readers for part in (r.__mro__ if isinstance(r, type) else (r,))}
    files = {inspect.getsourcefile(part) for part in parts if part is not object}
    return {
        text
        for file in files
        if file and "torch" not in Path(file).parts
        for text in strings_in(file)
    }


def is_known_code(cls: type) -> bool:
    """Whether a class is BasicSR's or ours, so that no unknown key can be of use to it."""
    return cls.__module__.split(".")[0] in OURS


def nearest(word: str, candidates: Iterable[str], cutoff: float = 0.75) -> str | None:
    """The candidate that looks most like ``word``, if any looks like it."""
    match = difflib.get_close_matches(word, list(candidates), n=1, cutoff=cutoff)
    return match[0] if match else None


def suggestion(word: str, candidates: Iterable[str]) -> str:
    """`` (did you mean 'x'?)`` or nothing."""
    match = nearest(word, candidates)
    return f" (did you mean {match!r}?)" if match else ""


def argument_problems(
    function: Callable[..., Any], given: Collection[str], skip: Collection[str] = ()
) -> list[str]:
    """What is wrong with calling ``function`` by these keywords: unknown ones, missing ones.

    Args:
        function: class or function.
        given: names of the keywords of the option file.
        skip: names that the caller provides or reads by itself.
    """
    parameters = inspect.signature(function).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    names = [
        n for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)
    ]
    problems, misspelt = [], set()
    for key in given:
        if key in names or key in skip or (takes_all and nearest(key, names) is None):
            continue
        problems.append(f"unknown key {key!r}{suggestion(key, names)}")
        misspelt.add(nearest(key, names))
    for name in names:
        required = parameters[name].default is inspect.Parameter.empty
        if required and name not in given and name not in skip and name not in misspelt:
            problems.append(f"missing key {name!r}")
    return problems
