"""Option files that are wrong in one to three ways, drawn by Hypothesis."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any

import yaml
from hypothesis import strategies as st

from compacter_arch.data.subsets_dataset import TEMPLATES
from compacter_arch.training.options import package_options, read_options

from ..conftest import TINY

Tree = dict[str, Any]
Place = tuple[str, ...]

LAUGHS = "a0: &a0 [x, x]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 10)
)
MERGES = "a0: &a0 {x: 1, y: 2}\n" + "".join(
    f"a{i}: &a{i}\n  <<: [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)
)
# Values of other types and sizes than any key wants.
VALUES: list[Any] = [
    *(None, True, False, [], {}, [[]], [None], [1, "a"], {"type": "disk"}, {"a": {"b": 1}}),
    *(-1, 0, 1, 3, 7, 10**6, 10**9, 10**12, 2**31, 2**64, 2**70, 10**400, -(10**30)),
    *(-0.5, 0.5, 1.5, 1e-300, 1e30, 1e308, float("nan"), float("inf"), float("-inf")),
    *("", " ", "x", "auto", "2", "1e-3", "none", ".", "..", "../outside", "a/b", "data", "~", "{}"),
    *("{0.a}", "{x}", "%s", "é" * 300, "x" * 100_000, "\n", "a\nb", "a\0b", "\x1b[31m", "𝔘🎉"),
    *("Adam", "L1Loss", "SRModel", "CompacterArch", "PairedImageDataset", "calculate_psnr"),
    *("MultiStepLR", "GaussianNoiseDataset", "SwinIR", "EDSR", "/dev/null", "/dev/zero", "sum"),
]
# What YAML makes of text, put where a value was.
TEXTS = [
    "!!python/object/apply:os.mkdir [made]",
    "!!python/name:os.getcwd ''",
    "!!binary aGVsbG8=",
    "!!set {a, b}",
    "!!int x",
    "!!float x",
    "!!bool maybe",
    "!!omap [a: 1]",
    "!unknown 3",
    "2020-01-01",
    "2020-13-45",
    "9" * 5000,
    "*absent",
    "&here [*here]",
    "&here {<<: *here}",
    "{<<: 3}",
    "{<<: [{a: 1}, {b: 2}]}",
    "[" * 60 + "]" * 60,
    "[" * 20_000,
    "|",
    "'",
    "%",
    "@",
    "? [a]\n: b",
    "0x_",
    "1:30",
    "yes",
]
# Lines that are put anywhere.
LINES = [
    "\tname: x",
    "    odd",
    "name: again",
    "train: {}",
    "<<: *absent",
    "1: one",
    "null: nothing",
    "? [a, b]\n: c",
    "--- ",
    "...",
    "%YAML 9.9",
    "- x",
    "remark: mine",
    "}",
    LAUGHS,
    MERGES,
]
FORCED = [
    *("nonsense", "=", ":", "a=", "=1", "name", "name=", "name=../x", "name:deeper=1"),
    *("trian:total_iter=3", "train:total_iter=x", "train:total_iter=[", "train:total_iter=2"),
    *("datasets:train:gt_size=1e3", "datasets:train=3", "network_g:dim=1e9", "a:b:c:d=1"),
    *("val:metrics=none", "scale=!!python/name:os.getcwd", "manual_seed=2020-13-45", "é=ü"),
    *("name=&a [*a]", f"name={'[' * 3000}", "train:optim_g:lr=1e-4", "1=2", "datasets:1:a=2"),
    *("name=a\nb", "name=a\0b", "\x1b[31m=1", "network_g:type=CompactorArch", "num_gpu=99"),
]


@dataclass(frozen=True)
class Example:
    """One option file that may be wrong.

    Args:
        base: the good one that it comes from.
        content: of the file.
        forced: for ``--force_yml``.
        keys: whose values were replaced, of which any that is wrong is to be named; None if
            something else was done, too.
    """

    base: str
    content: bytes
    forced: tuple[str, ...]
    keys: tuple[Place, ...] | None

    @property
    def command(self) -> str:
        """That the file is for."""
        return "test" if self.base.startswith("test") else "train"


def shrunk(opt: Tree) -> Tree:
    """Options of a shipped file for two iterations on the images of ``data/x<scale>``."""
    opt = copy.deepcopy(opt)
    folder = f"data/x{opt['scale']}"
    for data in opt["datasets"].values():
        data["io_backend"] = {"type": "disk"}
        place = folder
        if "subsets" in data:
            data["subsets"], place = [folder[5:]], "data/{}"
        for key, root in zip(TEMPLATES, ("GT", "LR"), strict=False):
            if key in data:
                data[key] = f"{place}/{root}"
        data.pop("meta_info_file", None)
    opt["num_gpu"] = 0
    opt["network_g"] |= {"dim": 12, "num_blocks": 1, "window_size": 4}
    opt["path"]["pretrain_network_g"] = None
    if "train" in opt:
        train = opt["datasets"]["train"]
        train |= {"gt_size": 24, "batch_size_per_gpu": 2, "num_worker_per_gpu": 0}
        train["dataset_enlarge_ratio"] = 1
        opt["train"]["total_iter"] = opt["val"]["val_freq"] = 2
        opt["logger"] |= {"print_freq": 1, "use_tb_logger": False}
    else:
        opt["datasets"] = dict(list(opt["datasets"].items())[:1])
    return opt


def bases() -> dict[str, Tree]:
    """Good options: the tiny ones of the tests, and every file of the package made as small."""
    found = {
        path.name: shrunk(read_options(path))
        for path in sorted(package_options().glob("t*.yml"))  # train and test
    }
    tiny = copy.deepcopy(TINY)
    for data, folder in zip(tiny["datasets"].values(), ("data/x2", "data/x2"), strict=True):
        data |= {"dataroot_gt": f"{folder}/GT", "dataroot_lq": f"{folder}/LR"}
    tiny["train"]["total_iter"] = tiny["val"]["val_freq"] = 2
    return {"tiny.yml": tiny, **found}


BASES = bases()


def places(tree: Tree, above: Place = ()) -> list[Place]:
    """Every key of a tree, with those above it."""
    found = []
    for key, value in tree.items():
        found.append((*above, key))
        if isinstance(value, dict):
            found += places(value, (*above, key))
    return found


def section_of(tree: Tree, place: Place) -> Tree:
    """The section that holds a key."""
    for key in place[:-1]:
        tree = tree[key]
    return tree


def misspelt(key: str, number: int) -> str:
    """A key with a letter left out, doubled or replaced."""
    at = number % len(key)
    return (key[:at] + ["", key[at] * 2, "q"][number % 3] + key[at + 1 :]) or "q"


@st.composite
def examples(draw: st.DrawFn) -> Example:
    """One to three mutations of a good file."""
    base = draw(st.sampled_from(sorted(BASES)))
    tree = copy.deepcopy(BASES[base])
    kinds = draw(st.lists(st.sampled_from([*TREE_KINDS * 2, *TEXT_KINDS]), min_size=1, max_size=3))
    keys: list[Place] | None = []
    raw: dict[str, str] = {}
    for kind in (kind for kind in kinds if kind in TREE_KINDS):
        place = draw(st.sampled_from(places(tree)))
        section, key = section_of(tree, place), place[-1]
        if kind == "value":
            section[key] = draw(st.sampled_from(VALUES))
            if keys is not None:
                keys.append(place)
            continue
        keys = None
        if kind == "drop":
            del section[key]
        elif kind == "rename":
            section[draw(st.sampled_from(places(BASES[base])))[-1]] = section.pop(key)
        elif kind == "misspell":
            section[misspelt(key, draw(st.integers(0, 50)))] = section.pop(key)
        elif kind == "text":
            token = f"TEXT{len(raw)}END"
            raw[token] = draw(st.sampled_from(TEXTS))
            section[key] = token
        else:  # a section put into another one
            section[key] = copy.deepcopy(tree[draw(st.sampled_from(sorted(tree)))])
        if not tree:
            break
    text = yaml.safe_dump(tree, sort_keys=False, allow_unicode=True)
    for token, value in raw.items():
        text = text.replace(token, value)
    data, forced = text.encode(), ()
    for kind in (kind for kind in kinds if kind in TEXT_KINDS):
        keys = None
        if kind == "force":
            forced = tuple(draw(st.lists(st.sampled_from(FORCED), min_size=1, max_size=2)))
        else:
            data = damaged(draw, kind, data)
    return Example(base, data, forced, None if keys is None else tuple(keys))


TREE_KINDS = ["value", "value", "value", "drop", "rename", "misspell", "text", "nest"]
TEXT_KINDS = ["line", "indent", "tab", "cut", "bytes", "twice", "force"]


def damaged(draw: st.DrawFn, kind: str, data: bytes) -> bytes:
    """A file that was changed without regard to what it means."""
    lines = data.splitlines(keepends=True) or [b"\n"]
    number = draw(st.integers(0, len(lines) - 1))
    if kind == "line":
        lines.insert(number, draw(st.sampled_from(LINES)).encode() + b"\n")
    elif kind == "indent":
        spaces = b" " * draw(st.integers(1, 5))
        odd = lines[number]
        lines[number] = odd.lstrip() if draw(st.booleans()) else spaces + odd
    elif kind == "tab":
        lines[number] = b"\t" + lines[number]
    elif kind == "twice":
        lines = lines + lines[number:]
    elif kind == "cut":
        return data[: draw(st.integers(0, len(data)))]
    else:
        at = draw(st.integers(0, len(data)))
        return data[:at] + draw(st.binary(min_size=1, max_size=8)) + data[at:]
    return b"".join(lines)
