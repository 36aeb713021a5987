"""What a check found: facts, warnings and problems, each one line."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import lmdb

from ...inference.tiling import is_out_of_memory

# What BasicSR's code raises on options that it cannot use.
OPTION_ERRORS = (
    KeyError,
    ValueError,
    TypeError,
    AssertionError,
    AttributeError,
    IndexError,
    NotImplementedError,
    OSError,
    RuntimeError,
    ImportError,
    ArithmeticError,
    MemoryError,
    lmdb.Error,
)


@dataclass
class Findings:
    """Gathers lines while an option file is checked.

    Attributes:
        facts: what exists and what would happen.
        warnings: what looks wrong and stops nothing.
        problems: what must be mended; each begins with the key.
    """

    facts: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)

    @contextmanager
    def blame(self, where: str) -> Iterator[None]:
        """Turn an exception of the code that reads options into a problem of the key ``where``."""
        try:
            yield
        except OPTION_ERRORS as error:
            self.problems.append(f"{where}: {describe(error)}")


def describe(error: Exception) -> str:
    """An exception in one line."""
    if is_out_of_memory(error):
        return "the memory that is free is too small for that; make it smaller"
    text = " ".join(" ".join(map(str, error.args)).split())
    if isinstance(error, KeyError) and text.isidentifier():
        return f"missing key {text!r}"
    if isinstance(error, OSError) and error.filename:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, (KeyError, ValueError, AssertionError, lmdb.Error)) and text:
        return text
    return f"{type(error).__name__}: {text or 'no reason given'}"
