"""Fixtures of the training tests: what a run does, and something to do at an iteration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from compacter_arch.training import train as training


@dataclass
class Spy:
    """What the training loop did; the trial step of the checks is not part of it.

    Attributes:
        images: names of the training images, by iteration, of all runs.
        at: what to do at the end of an iteration: ``spy.at[3] = function``.
        in_validation: what to do for each validation image.
    """

    images: list[tuple[int, list[str]]] = field(default_factory=list)
    at: dict[int, Callable[[], Any]] = field(default_factory=dict)
    in_validation: Callable[[], Any] | None = None


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    """Watches the model that a training builds."""
    found = Spy()
    build = training.build_model

    def build_model(opt: dict[str, Any]) -> Any:
        model = build(opt)
        feed_data, step, test = model.feed_data, model.optimize_parameters, model.test
        fed: list[str] = []

        def watch_data(data: dict[str, Any]) -> None:
            fed[:] = [Path(path).stem for path in data["lq_path"]]
            feed_data(data)

        def watch_step(iteration: int) -> None:
            found.images.append((iteration, list(fed)))
            step(iteration)
            found.at.get(iteration, lambda: None)()

        def watch_test() -> None:
            if found.in_validation is not None:
                found.in_validation()
            test()

        model.feed_data, model.optimize_parameters = watch_data, watch_step
        model.test = watch_test
        return model

    monkeypatch.setattr(training, "build_model", build_model)
    return found
