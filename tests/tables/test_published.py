"""The published numbers are complete, sourced and where they belong."""

from __future__ import annotations

from collections import Counter

import pytest

from compacter_arch.tables.published import PAPER, _lines, published_rows

SR = ("Set5", "Set14", "B100", "Urban100", "Manga109")
COLOR = ("CBSD68", "Kodak24", "McMaster", "Urban100")
TABLES = {
    ("sr", 2): (SR, 17),
    ("sr", 3): (SR, 14),
    ("sr", 4): (SR, 16),
    **{("color_dn", sigma): (COLOR, 3) for sigma in (15, 25, 50)},
    **{("gray_dn", sigma): (("Set12", "BSD68", "Urban100"), 1) for sigma in (15, 25, 50)},
    **{("jpeg", quality): (("Classic5", "LIVE1"), 1) for quality in (10, 20, 30, 40)},
    ("derain", None): (("Test100", "Rain100H"), 2),
    ("low_light", None): (("LOL_eval15",), 2),
}


@pytest.mark.parametrize(("task", "level"), TABLES)
def test_each_table_is_complete(task: str, level: int | None) -> None:
    sets, count = TABLES[task, level]
    rows = published_rows(task, level, sets)
    assert len(rows) == count
    for row in rows:
        assert row.source and not row.measured
        assert row.latency is None and row.memory is None
        assert row.scores.keys() <= set(sets)
        assert all("psnr" in scores for scores in row.scores.values())
        if row.method not in ("ASID", "ASID-D8"):
            assert row.scores.keys() == set(sets)


def test_nothing_else_is_in_the_file() -> None:
    tables = {(line["task"], int(line["level"]) if line["level"] else None) for line in _lines()}
    assert tables == TABLES.keys()
    keys = Counter((ln["task"], ln["level"], ln["set"], ln["method"]) for ln in _lines())
    assert set(keys.values()) == {1}
    for line in _lines():
        assert line["set"] in TABLES[line["task"], int(line["level"]) if line["level"] else None][0]
        assert 15 < float(line["psnr"]) < 45
        assert all(0 < float(line[key]) < 1 for key in ("ssim", "ssim3d") if line[key])


def test_a_method_is_described_alike_in_all_lines_of_a_table() -> None:
    seen: dict[tuple[str, ...], tuple[str, ...]] = {}
    for line in _lines():
        key = line["task"], line["level"], line["method"]
        about = tuple(
            line[name] for name in ("training_data", "params_k", "multi_adds_g", "source")
        )
        assert seen.setdefault(key, about) == about


def test_known_rows() -> None:
    x2 = {row.method: row for row in published_rows("sr", 2, SR)}
    assert x2["bicubic"].scores["Set5"] == {"psnr": 33.66, "ssim": 0.9299}
    assert x2["bicubic"].params is None and x2["bicubic"].training_data == ""
    assert (x2["RAMiT"].params, x2["RAMiT"].multi_adds) == (940_000, 163.4e9)
    assert x2["DAT-light"].training_data == "DF2K"
    assert "Manga109" not in x2["ASID"].scores
    x4 = {row.method: row for row in published_rows("sr", 4, SR)}
    assert x4[PAPER].scores["Urban100"] == {"psnr": 26.69, "ssim": 0.8025}
    assert (x4[PAPER].params, x4[PAPER].training_data) == (408_000, "DIV2K")
    assert x4["ESC-FP"].scores["Set5"] == {"psnr": 32.56}
    denoised = published_rows("color_dn", 50, COLOR)[-1]
    assert denoised.scores["CBSD68"] == {"psnr": 28.36, "ssim3d": 0.8956}


def test_what_was_transcribed_by_a_reader_says_so() -> None:
    transcribed = {ln["method"] for ln in _lines() if "reader's transcription" in ln["source"]}
    assert transcribed == {PAPER, "ASID", "ASID-D8"}
    assert all("reader's" in ln["source"] for ln in _lines() if ln["method"] == PAPER)


@pytest.mark.parametrize(("task", "level"), TABLES)
def test_order(task: str, level: int | None) -> None:
    """Bicubic, then by parameters, then the paper's own."""
    methods = {row.method: row for row in published_rows(task, level, TABLES[task, level][0])}
    names = list(methods)
    if task == "sr":
        assert names[0] == "bicubic"
    if task not in ("gray_dn", "jpeg"):
        assert names[-1] == PAPER
    params = [row.params for name, row in methods.items() if name not in ("bicubic", PAPER)]
    known = [number for number in params if number is not None]
    assert params == [*sorted(known), *[None] * (len(params) - len(known))]


def test_only_the_sets_that_are_asked_for() -> None:
    rows = published_rows("sr", 2, ["Manga109", "Mine"])
    assert {name for row in rows for name in row.scores} == {"Manga109"}
    assert not {"ASID", "ASID-D8"} & {row.method for row in rows}
    assert published_rows("sr", 2, []) == []
    assert published_rows("sr", 8, SR) == []
    assert published_rows("low_light_v2", None, ["LOLv2_real"]) == []
