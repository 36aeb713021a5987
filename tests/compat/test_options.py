"""Option files and the command line."""

from __future__ import annotations

import sys
from collections import OrderedDict
from pathlib import Path
from typing import Any

import basicsr
import pytest
import yaml
from basicsr.utils import options

from compacter_arch.compat.options import safe_loader

from .tools import original


def load_yaml(text: str, loader: type | None = None) -> Any:
    return yaml.load(text, Loader=loader or options.ordered_yaml()[0])


def test_option_files_run_no_code(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"a: !!python/object/apply:os.mkdir [{made}]"
    with pytest.raises(yaml.YAMLError):
        load_yaml(text)
    assert not made.exists()
    load_yaml(text, original(options.ordered_yaml)()[0])
    assert made.exists()


@pytest.mark.parametrize("text", ["1e-4", "1e5", "5e-4", "1.5E+3", "-2e-1", ".5e-2", "1.e3"])
def test_exponents_are_floats(text: str) -> None:
    value = load_yaml(f"lr: {text}")["lr"]
    assert isinstance(value, float) and value == float(text)


def test_exponents_were_text() -> None:
    assert load_yaml("lr: 1e-4", original(options.ordered_yaml)()[0])["lr"] == "1e-4"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("12", 12),
        ("0.5", 0.5),
        ("!!float 1", 1.0),
        ("1e", "1e"),
        ("e5", "e5"),
        ("x4_1e5k", "x4_1e5k"),
        ("~", None),
        ("[0.9, 1e-3]", [0.9, 1e-3]),
    ],
)
def test_other_scalars_stay(text: str, value: Any) -> None:
    loaded = load_yaml(f"a: {text}")["a"]
    assert loaded == value and type(loaded) is type(value)


def test_mappings_keep_their_order_and_merge() -> None:
    loaded = load_yaml("z: &z {b: 1, a: 2}\ny: {<<: *z, a: 3}\n")
    assert list(loaded) == ["z", "y"] and isinstance(loaded["z"], OrderedDict)
    assert loaded["y"] == {"b": 1, "a": 3}
    assert safe_loader() is options.ordered_yaml()[0]
    assert yaml.dump(loaded["z"], Dumper=options.ordered_yaml()[1]) == "b: 1\na: 2\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("[1, 'a', 2.5]", [1, "a", 2.5]),
        ("1e-4", 1e-4),
        ("-1", -1),
        ("-0.5", -0.5),
        ("!!float1e-3", 1e-3),
        ("None", None),
        ("true", True),
        ("12", 12),
        ("name-1", "name-1"),
    ],
)
def test_force_yml_values(text: str, value: Any) -> None:
    assert options._postprocess_yml_value(text) == value


def test_force_yml_values_run_no_code(tmp_path: Path) -> None:
    made = tmp_path / "made"
    text = f"[__import__('os').mkdir({str(made)!r})]"
    with pytest.raises(ValueError, match="--force_yml"):
        options._postprocess_yml_value(text)
    assert not made.exists()
    original(options._postprocess_yml_value)(text)
    assert made.exists()


def parse(
    monkeypatch: pytest.MonkeyPatch, folder: Path, *arguments: str, parse_options: Any = None
) -> dict[str, Any]:
    opt = {
        "name": "a",
        "num_gpu": 0,
        "manual_seed": 0,
        "datasets": {},
        "path": {},
        "train": {"total_iter": 3},
    }
    (folder / "a.yml").write_text(yaml.safe_dump(opt))
    monkeypatch.setattr(sys, "argv", ["train", "-opt", str(folder / "a.yml"), *arguments])
    return (parse_options or basicsr.train.parse_options)(str(folder), is_train=True)[0]


def test_force_yml_keys_run_no_code(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = tmp_path / "made"
    entry = f'name"], __import__("os").mkdir("{made}"); opt["name=b'
    with pytest.raises(ValueError, match="--force_yml"):
        parse(monkeypatch, tmp_path, "--force_yml", "train:total_iter=4", entry)
    assert not made.exists()
    parse(
        monkeypatch,
        tmp_path,
        "--force_yml",
        entry,
        parse_options=original(options.parse_options),
    )
    assert made.exists()


def test_force_yml_and_local_rank(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    arguments = ["--force_yml", "train:total_iter=4", "name=b", "--local-rank=0"]
    opt = parse(monkeypatch, tmp_path, *arguments)
    assert opt["train"]["total_iter"] == 4 and opt["name"] == "b"
    with pytest.raises(ValueError, match="key=value"):
        parse(monkeypatch, tmp_path, "--force_yml", "name=b=c")
    with pytest.raises(SystemExit):
        parse(monkeypatch, tmp_path, *arguments, parse_options=original(options.parse_options))
