"""Protocols are the test files', and each is explained."""

from __future__ import annotations

import pytest

from compacter_arch.errors import UserError
from compacter_arch.tables import TASKS, protocols
from compacter_arch.tables.published import published_rows


@pytest.mark.parametrize("task", TASKS)
def test_every_task_has_tables_and_words(task: str):
    found = protocols(task)
    assert len({(p.scale, p.level) for p in found}) == len(found)
    for protocol in found:
        text = protocol.explain()
        assert protocol.title in text and len(text.splitlines()) > 1
        assert "None" not in protocol.title
        assert all(len(line) <= 100 for line in text.splitlines())
        assert {"psnr", "ssim"} <= protocol.metrics.keys()


def test_levels_and_sets():
    assert [(p.scale, p.level, list(p.datasets)) for p in protocols("sr", scales=[2, 4])] == [
        (2, 2, ["Set5", "Set14", "B100", "Urban100", "Manga109"]),
        (4, 4, ["Set5", "Set14", "B100", "Urban100", "Manga109"]),
    ]
    (q20,) = protocols("jpeg", levels=[20])
    assert list(q20.datasets) == ["Classic5", "LIVE1"] and q20.in_chans == 1
    assert all(dataset["quality"] == 20 for dataset in q20.datasets.values())
    assert q20.title == "JPEG artefacts, quality 20" and q20.experiment == "Compacter_JPEG"
    assert [p.level for p in protocols("color_dn")] == [15, 25, 50]
    (rain,) = protocols("derain", sets=["Rain100L", "Rain100L_20"])
    assert rain.level is None
    assert rain.datasets["Rain100L"]["dataroot_lq"] == "datasets/Rain13K/Rain100L/lq"
    assert rain.datasets["Rain100L_20"]["dataroot_lq"] == "datasets/Rain100L_20/lq"


def test_published_rows_are_found_for_them():
    """The names of tasks and sets are those of the published numbers."""
    for task in ("sr", "color_dn", "gray_dn", "jpeg", "derain", "low_light"):
        for protocol in protocols(task):
            assert published_rows(task, protocol.level, list(protocol.datasets)), protocol.title


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("srx2",), "no task 'srx2'; there are sr, "),
        (("sr", [5]), "no scale 5"),
        (("jpeg", [], [15]), "is not among 10, 20, 30, 40"),
        (("derain", [2]), "no scale 2"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(UserError, match=message):
        protocols(*arguments)
