"""How each task is measured: read from the option files that test it, so that both say the same."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..tasks import TASKS
from ..training.options import package_options, read_options

LEVEL_KEYS = ("sigma", "quality")


@dataclass(frozen=True)
class Protocol:
    """One table's worth of measuring.

    Attributes:
        task: key of :data:`TASKS`; another for a protocol of one's own.
        level: scale, sigma or quality; None where there is none.
        scale: of the network.
        datasets: options of the data set of each test set, by the set's name.
        metrics: options of each metric by its name, as in ``val.metrics``.
    """

    task: str
    level: int | None
    scale: int
    datasets: Mapping[str, dict[str, Any]]
    metrics: Mapping[str, dict[str, Any]]

    @property
    def experiment(self) -> str:
        """The name of the run whose weights it tests: ``Compacter_<task>``."""
        return Path(TASKS[self.task].option_files[self.scale]).stem.removeprefix("test_")

    @property
    def in_chans(self) -> int:
        """Channels of the images."""
        return next(iter(self.datasets.values())).get("in_chans", 3)

    @property
    def title(self) -> str:
        """The heading of the table."""
        return TASKS[self.task].title.format(self.level) if self.task in TASKS else ""

    def explain(self) -> str:
        """The protocol in words, with its traps."""
        metrics = ", ".join(self.metrics)
        lines = [f"{self.title}: {metrics}.", *TASKS[self.task].traps]
        return "\n".join(textwrap.fill(line, 100, subsequent_indent="  ") for line in lines)


def protocols(
    task: str,
    scales: Iterable[int] = (),
    levels: Iterable[int] = (),
    sets: Sequence[str] = (),
) -> list[Protocol]:
    """The tables of a task.

    Args:
        task: key of :data:`TASKS`.
        scales: of super-resolution; all by default.
        levels: sigmas of denoising, qualities of JPEG; all by default.
        sets: names of test sets; those of the option file by default. A name that it lacks is a
            folder below ``datasets/`` with the same layout.

    Raises:
        UserError: there is no such task, scale or level.
    """
    if task not in TASKS:
        raise UserError(f"no task {task!r}; there are {', '.join(TASKS)}")
    files = TASKS[task].option_files
    found = []
    for scale in list(scales) or list(files):
        if scale not in files:
            raise UserError(f"{task}: no scale {scale}; there are {', '.join(map(str, files))}")
        opt = read_options(package_options() / files[scale])
        by_level: dict[int | None, dict[str, dict[str, Any]]] = {}
        for _, dataset in sorted(opt["datasets"].items()):
            level = next((dataset[key] for key in LEVEL_KEYS if key in dataset), None)
            level = scale if scale > 1 else level
            by_level.setdefault(level, {})[dataset["name"].split("_sigma")[0].split("_q")[0]] = (
                dataset
            )
        wanted: list[int | None] = list(levels) or list(by_level)
        if not set(wanted) <= set(by_level):
            known = ", ".join(map(str, by_level))
            raise UserError(f"{task}: level {wanted} is not among {known}")
        for level in wanted:
            datasets = by_level[level]
            if sets:
                datasets = {name: datasets.get(name) or like(datasets, name) for name in sets}
            found.append(Protocol(task, level, scale, datasets, opt["val"]["metrics"]))
    return found


def like(datasets: Mapping[str, dict[str, Any]], name: str) -> dict[str, Any]:
    """A data set in the layout of the others, below ``datasets/<name>``."""
    model = next(iter(datasets.values()))
    changed = dict(model) | {"name": name}
    for key in ("dataroot_gt", "dataroot_lq"):
        if key in model:
            changed[key] = f"datasets/{name}/{Path(model[key]).name}"
    return changed
