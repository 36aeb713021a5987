"""The list of the training queue: which runs there are, what each needs, how it is trained.

The file, ``experiments/queue.yml``, says what its keys mean. A run is an option file, changes to
it in the grammar of ``--force_yml``, a number of iterations, and what it starts from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from compacter_arch.errors import UserError
from compacter_arch.messages import shown
from compacter_arch.training.options import (
    Options,
    find_option_file,
    force_options,
    read_options,
)
from compacter_arch.training.plain_yaml import load_plain
from compacter_arch.zoo import SCHEME, weights_file

EXPERIMENTS = Path("experiments")
AT = "{at}"  # in the name of a branch: the iteration of its trunk
RUN_KEYS = ("name", "option_file", "iterations", "use", "options", "start", "strict")
BRANCH_KEYS = ("branch_of", "at")
COMPARE_KEYS = ("weights", "option_file", "datasets", "options")


@dataclass(frozen=True)
class Comparison:
    """Which shipped weights a finished run is compared with, and on what.

    Attributes:
        weights: their name in the zoo, such as ``sr_x2``.
        option_file: a test of the task.
        datasets: names of test sets of that file.
        options: changes to it, by keys of ``--force_yml``.
    """

    weights: str
    option_file: str
    datasets: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        name: of its folder below ``experiments``.
        option_file: as ``basicsr train -opt`` takes it.
        iterations: of the whole run; raise it to extend a run at a constant rate.
        options: changes to the option file, by keys of ``--force_yml``.
        start: a file of weights, ``zoo://NAME``, or the name of another run, whose final averaged
            weights are meant; None for a run from scratch.
        strict: whether those weights must fit the network in full.
        branch_of: the trunk whose weights, averages and optimizer a branch goes on with.
        at: after which iteration of the trunk the branch begins.
        compare: None for a run that is compared with nothing.
    """

    name: str
    option_file: str
    iterations: int
    options: Mapping[str, Any] = field(default_factory=dict)
    start: str | None = None
    strict: bool = True
    branch_of: str | None = None
    at: int | None = None
    compare: Comparison | None = None

    @property
    def folder(self) -> Path:
        """``experiments/NAME``, below the current directory."""
        return EXPERIMENTS / self.name

    @property
    def history_file(self) -> Path:
        """The CSV file that the training writes."""
        return self.folder / f"train_{self.name}.csv"

    def weights(self, iteration: int | str) -> Path:
        """The checkpoint of an iteration, or of ``latest``."""
        return self.folder / "models" / f"net_g_{iteration}.pth"

    def state(self, iteration: int) -> Path:
        """The training state of an iteration."""
        return self.folder / "training_states" / f"{iteration}.state"

    def entries(self, runs: Mapping[str, Run]) -> list[str]:
        """What ``--force_yml`` is given."""
        changes = {"name": self.name, **self.options, "train:total_iter": self.iterations}
        if self.start is not None:
            other = runs.get(self.start)
            file = self.start if other is None else str(other.weights("latest"))
            changes["path:pretrain_network_g"] = file
            changes["path:param_key_g"] = "params_ema"
            changes["path:strict_load_g"] = self.strict
        return force_entries(changes)

    def read_options(self, runs: Mapping[str, Run]) -> Options:
        """The options with all changes, as they are before BasicSR completes them.

        Raises:
            UserError: the option file cannot be read or changed like this.
        """
        opt = read_options(find_option_file(self.option_file))
        force_options(opt, self.entries(runs))
        return opt


def force_entries(changes: Mapping[str, Any]) -> list[str]:
    """Changes as ``KEY=VALUE`` with values that YAML reads; JSON is YAML."""
    return [f"{key}={as_yaml(value)}" for key, value in changes.items()]


def as_yaml(value: object) -> str:
    """A value on one line; text without quotes where YAML needs none."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_][\w./{}:-]*", value):
        with suppress(yaml.YAMLError):
            if load_plain(value) == value and value.lower() != "none":
                return value
    return json.dumps(value)


class QueueList:
    """The runs of a file, branches at their iterations included, in the order of the file.

    Args:
        file: ``queue.yml``.

    Attributes:
        runs: by name.
        branches: entries of branches as written, by their name with ``{at}`` in it.

    Raises:
        UserError: the file cannot be read, or an entry cannot be used; names the file and the key.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        content = read_options(file)
        self.groups = self.section(content, "options", dict)
        entries = self.section(content, "runs", list)
        if unknown := content.keys() - {"options", "runs"}:
            raise UserError(f"{file}: unknown section {shown(min(unknown))}; use options and runs")
        self.runs: dict[str, Run] = {}
        self.branches: dict[str, dict[str, Any]] = {}
        for number, entry in enumerate(entries, 1):
            self.add_entry(entry, f"{file}: runs, entry {number}")
        for run in self.runs.values():
            self.check_start(run)

    def section(self, content: Mapping[str, Any], key: str, kind: type) -> Any:
        """A section of the file, or an empty one."""
        value = content.get(key) or kind()
        if not isinstance(value, kind):
            needed = "a list" if kind is list else "a section of `key: value`"
            raise UserError(f"{self.file}: {key}: must be {needed}")
        return value

    def add_entry(self, entry: Any, told: str) -> None:
        """Take up an entry: one run, or a branch at each of its iterations."""
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise UserError(f"{told}: must be a section with a name")
        told = f"{self.file}: {entry['name']}"
        allowed = (*RUN_KEYS, *BRANCH_KEYS, "compare")
        if unknown := entry.keys() - set(allowed):
            raise UserError(f"{told}: unknown key {shown(min(unknown))}; use {', '.join(allowed)}")
        places: list[int | None] = [None]
        if "branch_of" in entry:
            places = self.places(entry, told)
            self.branches[entry["name"]] = entry
        elif "at" in entry:
            raise UserError(f"{told}: at: is for branches; name the trunk in branch_of")
        for at in places:
            self.add(self.make(entry, at), told)

    def places(self, entry: Mapping[str, Any], told: str) -> list[int | None]:
        """The iterations of the trunk at which a branch begins."""
        at = entry.get("at")
        places: list[Any] = at if isinstance(at, list) else [at]
        if not all(is_count(place) for place in places):
            raise UserError(f"{told}: at: {shown(at)} must be iterations of the trunk")
        if AT not in entry["name"]:
            raise UserError(f"{told}: name: must hold {AT}, which becomes the trunk's iteration")
        if "start" in entry:
            raise UserError(f"{told}: start: leave it out; a branch starts from its trunk")
        return places

    def add(self, run: Run, told: str) -> None:
        """Take up a run, unless another one has its name."""
        if run.name in self.runs:
            raise UserError(f"{told}: name: {run.name} is given twice; rename one")
        self.runs[run.name] = run

    def make(self, entry: Mapping[str, Any], at: int | None) -> Run:
        """The run of an entry.

        Raises:
            UserError: a key is missing or has a value that it cannot have.
        """
        name = entry["name"].replace(AT, str(at))
        told = f"{self.file}: {name}"
        if not is_count(entry.get("iterations")):
            raise UserError(f"{told}: iterations: {shown(entry.get('iterations'))} must be > 0")
        for key, kind in (("option_file", str), ("start", str), ("strict", bool)):
            if key in entry and not isinstance(entry[key], kind):
                raise UserError(f"{told}: {key}: {shown(entry[key])} is no {kind.__name__}")
        if "option_file" not in entry:
            raise UserError(f"{told}: option_file: missing; as `basicsr train -opt` takes it")
        if not name or "/" in name or name.startswith("."):
            raise UserError(f"{told}: name: must be the name of a folder below {EXPERIMENTS}")
        return Run(
            name=name,
            option_file=entry["option_file"],
            iterations=entry["iterations"],
            options=self.changes(entry, told),
            start=entry.get("start"),
            strict=entry.get("strict", True),
            branch_of=entry.get("branch_of"),
            at=at,
            compare=self.comparison(entry.get("compare"), told),
        )

    def changes(self, entry: Mapping[str, Any], told: str) -> dict[str, Any]:
        """The changes of the groups that ``use`` names, and the entry's own after them."""
        changes: dict[str, Any] = {}
        for group in entry.get("use") or []:
            if not isinstance(self.groups.get(group), dict):
                known = ", ".join(self.groups) or "none"
                raise UserError(f"{told}: use: no group {shown(group)} in options, but {known}")
            changes |= self.groups[group]
        own = entry.get("options") or {}
        if not isinstance(own, dict):
            raise UserError(f"{told}: options: must be keys of --force_yml with their values")
        return changes | own

    def comparison(self, entry: Any, told: str) -> Comparison | None:
        """What ``compare`` says."""
        if entry is None:
            return None
        if not isinstance(entry, dict) or entry.keys() - set(COMPARE_KEYS):
            raise UserError(f"{told}: compare: must be a section of {', '.join(COMPARE_KEYS)}")
        weights, file, datasets = (entry.get(key) for key in COMPARE_KEYS[:3])
        if not (isinstance(weights, str) and isinstance(file, str) and isinstance(datasets, list)):
            raise UserError(f"{told}: compare: needs weights, option_file and a list of datasets")
        try:
            weights_file(weights)
        except UserError as error:
            raise UserError(f"{told}: compare: weights: {error}") from error
        return Comparison(weights, file, tuple(map(str, datasets)), entry.get("options") or {})

    def check_start(self, run: Run) -> None:
        """Refuse a start that can never be there."""
        told = f"{self.file}: {run.name}"
        if run.branch_of is not None and run.branch_of not in self.runs:
            raise UserError(f"{told}: branch_of: no run {shown(run.branch_of)} in this list")
        seen, start = {run.name}, run.start or run.branch_of
        while start in self.runs:
            if start in seen:
                raise UserError(f"{told}: start: {start} starts from itself in the end")
            seen.add(start)
            start = self.runs[start].start or self.runs[start].branch_of
        if run.start is None or run.start in self.runs:
            return
        if run.start.startswith(SCHEME):
            try:
                weights_file(run.start.removeprefix(SCHEME))
            except UserError as error:
                raise UserError(f"{told}: start: {error}") from error
        elif not run.start.endswith((".pth", ".safetensors")):
            raise UserError(
                f"{told}: start: {shown(run.start)} is no run of this list, no {SCHEME}NAME and no "
                ".pth file"
            )

    def branch(self, name: str, at: int) -> Run:
        """A branch at an iteration that its entry does not list; taken up before all others.

        Args:
            name: of the entry, with ``{at}``.
            at: iteration of the trunk.
        """
        run = self.make(self.branches[name], at)
        if run.name not in self.runs:
            self.runs = {run.name: run, **self.runs}
        return self.runs[run.name]


def is_count(value: object) -> bool:
    """Whether a value is a whole number above 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value > 0
