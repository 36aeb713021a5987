"""A report in Markdown: the command that made it, tables, captions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path


def markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as GitHub shows it: the first column to the left, the others to the right."""
    align = [":-", *["-:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, align, *rows))


def publish(name: str, argv: Sequence[str], body: str, output: Path | None) -> None:
    """Print a report; in a file put it where the same command's report was, or at the end.

    Args:
        name: of the module in this folder.
        argv: arguments of the command.
        body: Markdown.
        output: the file; None to print alone.
    """
    print(body)
    if output is None:
        return
    command = shlex.join(["python", "-m", f"benchmarks.{name}", *argv])
    start, end = f"<!-- {command} -->", "<!-- end -->"
    section = f"{start}\n```bash\n{command}\n```\n\n{body}\n{end}"
    text = output.read_text(encoding="utf-8") if output.exists() else ""
    text, found = re.subn(
        f"{re.escape(start)}.*?{re.escape(end)}", lambda _: section, text, flags=re.DOTALL
    )
    if not found:
        text = f"{text}\n{section}\n".lstrip("\n")
    output.write_text(text, encoding="utf-8")
