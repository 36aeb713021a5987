"""Option files that are more than they look, or hold what no option is."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import yaml

from compacter_arch.errors import UserError
from compacter_arch.training.options import LARGEST, force_options, keep_datasets, read_options
from compacter_arch.training.plain_yaml import DEEPEST, load_plain

from ..reliability.option_mutations import LAUGHS, MERGES

REFUSED = {
    # Before 6.0.4, which has a limit of its own, PyYAML ends the process.
    "deep": ("a: " + "[" * 50_000, "sections in one another / maximum nesting depth"),
    "a little too deep": ("a: " + "[" * DEEPEST + "]" * DEEPEST, "sections in one another"),
    "aliases of aliases": (LAUGHS, "100,000 values"),
    "merges of merges": (MERGES, "100,000 values"),
    "within itself": ("a: &a {b: *a}", "recursive"),
    "13th month": ("a: 2020-13-45", "no value (month"),
    "long number": ("a: " + "9" * 5000, "is no value"),
    "number that is no float": ("a: 1" + "0" * 400, "is no value"),
    "no integer": ("a: !!int x", "is no value"),
    "no boolean": ("a: !!bool x", "is no value"),
    "bytes": ("a: !!binary aGVsbG8=", "binary is for no value"),
    "set": ("a: !!set {x}", "set is for no value"),
    "key that is a number": ("1: a", "'1' is no text"),
    "key that is true": ("a: {yes: b}", "'yes' is no text"),
    "code": ("a: !!python/name:os.getcwd ''", "could not determine a constructor"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    text, words = REFUSED[case]
    monkeypatch.chdir(tmp_path)
    Path("a.yml").write_text(text)
    start = time.process_time()
    with pytest.raises(UserError, match=r"^a.yml, line \d+: ") as caught:
        read_options(Path("a.yml"))
    assert any(word in str(caught.value) for word in words.split(" / "))
    assert "\n" not in str(caught.value)
    assert time.process_time() - start < 20  # rather than for ever


def test_large_file_is_not_read(tmp_path: Path):
    with (tmp_path / "a.yml").open("wb") as file:
        file.truncate(50 * 2**30)
    with pytest.raises(UserError, match=f"more than {LARGEST:,} bytes"):
        read_options(tmp_path / "a.yml")


def test_mark_of_byte_order(tmp_path: Path):
    """Some editors begin UTF-8 files with it."""
    (tmp_path / "a.yml").write_text("a: ü", encoding="utf-8-sig")
    assert read_options(tmp_path / "a.yml") == {"a": "ü"}


def test_depth_and_aliases_of_usual_files():
    deep = "a: " + "[" * (DEEPEST - 1) + "]" * (DEEPEST - 1)
    assert yaml.safe_load(deep) == load_plain(deep)
    opt = load_plain("a: &a {x: [1]}\nb: *a\nc: {<<: *a, y: 2}\nd: 2020-01-01\n")
    assert opt["b"] == {"x": [1]} and opt["c"] == {"x": [1], "y": 2}


def test_aliases_share_nothing():
    """A data set that is an alias gets a phase of its own."""
    opt = load_plain("a: &a {x: [1]}\nb: *a\nc: {<<: *a}\n")
    opt["a"]["x"].append(2)
    assert opt["b"] == opt["c"] == {"x": [1]}


@pytest.mark.parametrize("entry", ["a\nb=1=", "a=" + "[" * 3000, "a=b\0c", "\x1b[2J", "x" * 9999])
def test_forced_entries_are_told_in_one_line(entry: str):
    with pytest.raises(UserError, match="^--force_yml ") as caught:
        force_options({"a": 1}, [entry, "nonsense"])
    assert str(caught.value).isprintable() and len(str(caught.value)) < 300


def test_names_of_data_sets_that_are_no_names():
    opt = {"datasets": {"test_1": {"name": []}, "test_2": {"name": "b"}}}
    with pytest.raises(UserError, match="no a there, but b"):
        keep_datasets(opt, Path("a.yml"), ["a"])
