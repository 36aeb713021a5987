"""The bar of a terminal does not make every step wait for the losses."""

from __future__ import annotations

import io
import os
import sys
from types import SimpleNamespace
from typing import Any

import pytest

from compacter_arch.training.options import complete_options
from compacter_arch.training.progress import Progress

from ..conftest import Project


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 2


@pytest.mark.parametrize("terminal", [True, False])
@pytest.mark.parametrize("several", [True, False])
def test_losses_are_read_when_they_are_shown(
    project: Project, monkeypatch: pytest.MonkeyPatch, terminal: bool, several: bool
):
    """Several processes read them together: at the same iterations, terminal or not."""
    total, print_freq = 400, 100
    changes = {"train.total_iter": total, "logger.print_freq": print_freq}
    opt = complete_options(project.options(changes), project.root, True) | {"dist": several}
    reads: list[int] = []

    def losses() -> dict[str, Any]:
        reads.append(iteration)
        return {"l_pix": 0.5}

    model = SimpleNamespace(get_current_log=losses, get_current_learning_rate=lambda: [1e-3])
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((100, 30)))
    err = Terminal() if terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", err)
    with Progress(opt, 0, None, None) as progress:
        progress.bar.mininterval = 0
        progress.bar.miniters, progress.bar.dynamic_miniters = 30, False  # drawn at each 30th
        for iteration in range(1, total + 1):
            progress.update(0, iteration, model, 0.0, 0.1)
    due = set(range(print_freq, total + 1, print_freq))
    drawn = set(range(30, total + 1, 30)) if terminal and not several else set()
    assert sorted(reads) == sorted(due | drawn)
    assert ("pix=0.5000" in err.getvalue()) == terminal
