"""The pages of docs/ are true: what they say to run runs, and the keys that they name exist."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from compacter_arch.cli import build_parser
from compacter_arch.training.checks.findings import Findings
from compacter_arch.training.checks.keys import check_keys
from compacter_arch.training.options import force_options, package_options, read_options

from ..conftest import REPOSITORY
from . import sandboxes
from .pages import (
    CODE,
    DOCS,
    LINK,
    blocks,
    commands,
    environment,
    option_files,
    option_fragments,
    prose,
)

PAGES = sorted(DOCS.glob("*.md"))
SHIPPED = {path.name: read_options(path) for path in package_options().glob("*.yml")}
SECTIONS = ("datasets", "network_g", "path", "train", "val", "logger", "ablation")
PREFIX = tuple(f"{section}." for section in SECTIONS)
# These name classes that the page defines; its own `check` looks at them.
PARTS_OF_ITS_OWN = ("my_task.yml",)

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs/ is not installed")


@dataclass(frozen=True)
class Reading:
    """What it takes to follow a page, and what there is at its end.

    Args:
        prepare: puts what is the reader's own into an empty folder.
        results: patterns of files that are there in the end.
        says: what a block prints on the way.
        extras: modules of extras that the page tells the reader to install.
    """

    prepare: Callable[[Path], None]
    results: tuple[str, ...] = ()
    says: tuple[str, ...] = ()
    extras: tuple[str, ...] = ()


READINGS = {
    "train.md": Reading(
        sandboxes.of_training,
        results=(
            "datasets/mine/GT.lmdb/data.mdb",
            "datasets/captures/lq/high0.png",
            "experiments/rehearsal/comparison.png",
            "experiments/rehearsal/models/net_g_20.pth",
            "restored/cup.png",
        ),
        says=("my_SRx2.yml: ready to train", "Resuming after iteration 20."),
    ),
    "tables.md": Reading(
        sandboxes.of_tables,
        results=("set5.md", "set5.tex", "butterfly.png", "scatter.pdf"),
        says=("Set5  psnr ", "Compacter (paper)", "392,909"),
        extras=("matplotlib", "tabulate"),
    ),
    "restore.md": Reading(
        sandboxes.of_photographs,
        results=(
            "restored/photo.jpg",
            "restored/first/beach_compare.jpg",
            "restored/1.tif",
            "smaller/hotel_clean.webp",
            "best.png",
            "fast.png",
        ),
        says=("(164, 196, 3) uint8", "torch.Size([2, 3, 45, 61])"),
    ),
    "deploy.md": Reading(
        sandboxes.of_deploying,
        results=("sr_x2.safetensors", "custom_nodes/compacter.py", "restored/clip.mp4"),
        says=("onnx (1, 3, 90, 122)", "Compacter 2 (1, 3, 120, 160)"),
        extras=("onnx", "onnxruntime", "safetensors", "spandrel", "av"),
    ),
    "distributed.md": Reading(
        lambda root: None, results=("experiments/two/models/net_g_latest.pth",)
    ),
    "extend.md": Reading(
        lambda root: None,
        results=("experiments/MyTask/models/net_g_latest.pth",),
        says=("my_task.yml: ready to train", "# mae: "),
    ),
}


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("bash") is None, reason="there is no bash")
@pytest.mark.parametrize("name", READINGS)
def test_page_runs_from_top_to_bottom(name: str, tmp_path: Path):
    reading = READINGS[name]
    for module in reading.extras:
        pytest.importorskip(module, reason=f"the page needs the extra that brings {module}")
    root, env = tmp_path / "empty", environment(tmp_path / "bin")
    root.mkdir()
    reading.prepare(root)
    printed = "".join(block.run(root, env) for block in blocks(DOCS / name))
    for text in reading.says:
        assert text in printed
    for pattern in reading.results:
        assert list(root.glob(pattern)), f"{pattern} is not there"


def test_every_page_with_blocks_is_run():
    assert {page.name for page in PAGES if blocks(page)} == set(READINGS)


@pytest.mark.parametrize(
    "page", [REPOSITORY / "README.md", *PAGES], ids=lambda page: f"{page.parent.name}/{page.name}"
)
def test_commands_are_understood(page: Path):
    """The parser takes each; an option file that it names is shown in the page or shipped."""
    parser, own = build_parser(), option_files(page)
    for words in commands(page):
        try:
            args = parser.parse_args(words)
        except SystemExit:
            pytest.fail(f"not understood: basicsr {' '.join(words)}")
        file = getattr(args, "opt", None)
        opt = own.get(file) or SHIPPED.get(str(file).removeprefix("options/"))
        if page.parent == DOCS and file:
            assert opt, f"{file} is neither shown nor shipped"
        if opt and args.force_yml:
            changed = copy.deepcopy(opt)
            force_options(changed, args.force_yml)
            check(changed)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_exist(page: Path):
    """Of whole option files, of their parts, and of keys in the text."""
    own = option_files(page)
    whole = [opt for file, opt in own.items() if file not in PARTS_OF_ITS_OWN]
    for opt in whole:
        check(opt)
    for part in option_fragments(page):
        check(merged(SHIPPED["train_Compacter_ColorDN_demo.yml"], part))
    known = [*own.values(), *SHIPPED.values()]
    base = [*whole, SHIPPED["train_Compacter_SRx2_demo.yml"]][0]
    for words in CODE.findall(prose(page)):
        where, colon, value = words.partition(": ")
        if where.startswith(PREFIX) and colon:
            changed = copy.deepcopy(base)
            force_options(changed, [f"{where.replace('.', ':')}={value}"])
            check(changed)
        elif where.startswith(PREFIX) and " " not in where:
            assert any(has(opt, where.split(".")) for opt in known), f"{where}: no such key"
        elif colon and where.isidentifier():
            assert any(where in all_keys(opt) for opt in known), f"{where}: no such key"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path):
    for target in LINK.findall(prose(page)):
        if not target.startswith("http"):
            assert (page.parent / target.partition("#")[0]).exists(), target


def test_index_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    named = {target for target in LINK.findall(index) if not target.startswith("..")}
    assert named == {page.name for page in PAGES} - {"README.md"}


def check(opt: dict[str, Any]) -> None:
    """Every key of these options is one that something reads."""
    found = Findings()
    check_keys(opt, "train" in opt, found)
    assert not found.problems and not found.warnings, found.problems + found.warnings


def merged(base: Mapping[str, Any], part: Mapping[str, Any]) -> dict[str, Any]:
    """``base`` with the keys of ``part``, section by section."""
    result = copy.deepcopy(dict(base))
    for key, value in part.items():
        both = isinstance(value, dict) and isinstance(result.get(key), dict)
        result[key] = merged(result[key], value) if both else value
    return result


def has(opt: Any, path: list[str]) -> bool:
    """Whether there is such a key."""
    for key in path:
        if not isinstance(opt, dict) or key not in opt:
            return False
        opt = opt[key]
    return True


def all_keys(opt: Any) -> set[str]:
    """The keys of all sections."""
    if not isinstance(opt, dict):
        return set()
    return set(opt).union(*map(all_keys, opt.values()))
