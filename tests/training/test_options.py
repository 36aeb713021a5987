"""Option files: read as BasicSR reads them, but safely; changed and completed like there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from basicsr.utils.options import parse_options

from compacter_arch.errors import UserError
from compacter_arch.training.options import (
    complete_options,
    find_option_file,
    force_options,
    package_options,
    read_options,
)

SHIPPED = sorted(package_options().glob("*.yml"))


def flat(options: Mapping[str, Any], where: str = "") -> list[tuple[str, Any]]:
    """``section:key`` and value of every option."""
    pairs: list[tuple[str, Any]] = []
    for key, value in options.items():
        if isinstance(value, Mapping):
            pairs += [(f"{where}{key}", "section"), *flat(value, f"{where}{key}:")]
        else:
            pairs.append((f"{where}{key}", value))
    return pairs


def of_basicsr(
    monkeypatch: pytest.MonkeyPatch, file: Path, root: Path, is_train: bool, *argv: str
) -> dict[str, Any]:
    """The options as BasicSR's own ``parse_options`` completes them."""
    monkeypatch.setattr(sys, "argv", ["train.py", "-opt", str(file), *argv])
    opt, _ = parse_options(str(root), is_train)
    return {**opt, "root_path": str(root)}  # its pipelines add this one


@pytest.mark.parametrize("file", SHIPPED, ids=lambda path: path.name)
@pytest.mark.parametrize("flag", [None, "--auto_resume", "--debug"])
def test_completed_as_basicsr_completes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, file: Path, flag: str | None
):
    is_train = file.name.startswith("train")
    theirs = of_basicsr(monkeypatch, file, tmp_path, is_train, *([flag] if flag else []))
    ours = complete_options(
        read_options(file),
        tmp_path,
        is_train,
        auto_resume=flag == "--auto_resume",
        debug=flag == "--debug",
    )
    assert dict(flat(ours)) == dict(flat(theirs))
    assert dict(map(type_of, flat(ours))) == dict(map(type_of, flat(theirs)))


def type_of(pair: tuple[str, Any]) -> tuple[str, str]:
    """1 and 1.0 are equal, yet not the same option."""
    return pair[0], type(pair[1]).__name__


FORCED = [
    "train:ema_decay=0.5",
    "train:total_iter=7",
    "train:optim_g:lr=!!float 3e-4",
    "train:optim_g:betas=[0.8, 0.9]",
    "datasets:train:use_rot=false",
    "datasets:train:prefetch_mode=cpu",
    "val:save_img=True",
    "path:pretrain_network_g=~",
    "path:resume_state=none",
    "name=other",
    "manual_seed=5",
]


def test_forced_as_basicsr_forces(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    file = package_options() / "train_Compacter_SRx2.yml"
    theirs = of_basicsr(monkeypatch, file, tmp_path, True, "--force_yml", *FORCED)
    ours = read_options(file)
    force_options(ours, FORCED)
    ours = complete_options(ours, tmp_path, True)
    assert dict(flat(ours)) == dict(flat(theirs))
    assert dict(map(type_of, flat(ours))) == dict(map(type_of, flat(theirs)))


def test_forced_further_than_basicsr():
    opt: dict[str, Any] = {"name": "a"}
    force_options(opt, ["train:note=a=b", "new:section:key=1e-3", "val:metrics={'a': 1}"])
    assert opt["train"] == {"note": "a=b"}
    assert opt["new"] == {"section": {"key": 1e-3}}
    assert opt["val"] == {"metrics": {"a": 1}}


@pytest.mark.parametrize(
    "entry",
    [
        "nonsense",
        "=1",
        "train:=1",
        "name:deeper=1",
        "name=[1, 2",
        "name=!!python/object/apply:os.getcwd []",
    ],
)
def test_forced_nonsense_is_one_line(entry: str):
    with pytest.raises(UserError) as caught:
        force_options({"name": "a"}, [entry])
    assert entry in str(caught.value) and "\n" not in str(caught.value)


def test_missing_seed_is_drawn(tmp_path: Path):
    opt = read_options(SHIPPED[0])
    del opt["manual_seed"]
    assert 1 <= complete_options(opt, tmp_path, False)["manual_seed"] <= 10000


def test_numbers_and_merges_of_the_file(tmp_path: Path):
    file = tmp_path / "a.yml"
    file.write_text("a: &a {lr: 1e-4, n: 3}\nb: {<<: *a, n: 4}\nc: !!float 1e5\nd: '1e-4'\n")
    opt = read_options(file)
    assert opt == {"a": {"lr": 1e-4, "n": 3}, "b": {"lr": 1e-4, "n": 4}, "c": 1e5, "d": "1e-4"}


BROKEN = {
    "tabs": (b"name: a\ntrain:\n\ttotal_iter: 1\n", "line 3"),
    "duplicate": (b"name: a\nscale: 2\nname: b\n", "'name' is given twice"),
    "binary": (bytes(range(256)), "not a UTF-8 text file"),
    "control": (b"name: a\0b\n", "not a plain YAML option file"),
    "list": (b"- name\n- scale\n", "holds no options"),
    "empty": (b"", "holds no options"),
    "unclosed": (b"name: [1, 2\n", "line 2"),
    "code": (b"name: !!python/object/apply:os.mkdir [made]\n", "python/object/apply"),
    "endless": (b"a: &a [*a]\n", "recursive"),
    "unhashable": (b"? [1, 2]\n: 3\n", "line 1"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_file_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kind: str):
    monkeypatch.chdir(tmp_path)
    content, reason = BROKEN[kind]
    (tmp_path / "broken.yml").write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_options(Path("broken.yml"))
    message = str(caught.value)
    assert message.startswith("broken.yml") and reason in message and "\n" not in message
    assert [path.name for path in tmp_path.iterdir()] == ["broken.yml"]


def test_option_file_is_found_here_first_then_in_the_package(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.chdir(tmp_path)
    for path in ("options/train_Compacter_SRx2.yml", "train_Compacter_SRx2.yml"):
        assert find_option_file(path) == package_options() / "train_Compacter_SRx2.yml"
    mine = tmp_path / "options" / "train_Compacter_SRx2.yml"
    mine.parent.mkdir()
    mine.write_text("name: mine\n")
    assert find_option_file("options/train_Compacter_SRx2.yml").resolve() == mine
    assert find_option_file(str(mine)) == mine


@pytest.mark.parametrize(
    "path", ["missing.yml", "options", ".", "elsewhere/train_Compacter_SRx2.yml", ""]
)
def test_option_file_that_is_none_is_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "options").mkdir()
    with pytest.raises(UserError) as caught:
        find_option_file(path)
    assert "\n" not in str(caught.value) and "train_Compacter_SRx2.yml" in str(caught.value)
