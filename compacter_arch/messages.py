"""Values and texts that others wrote, in messages of one line."""

from __future__ import annotations

SHOWN = 60  # characters of a value
LONGEST = 500  # characters of a message


def shown(value: object) -> str:
    """A value as Python writes it, cut if it is long."""
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 3]}..."


def as_line(message: str, longest: int = LONGEST) -> str:
    """A text as one line of a terminal, whatever it holds, cut if it is long."""
    line = "".join(c if c.isprintable() else repr(c)[1:-1] for c in message)
    return line if len(line) <= longest else f"{line[: longest - 3]}..."
