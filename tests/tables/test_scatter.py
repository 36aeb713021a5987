"""Scatter plots: the right points, and labels that cover nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.errors import UserError
from compacter_arch.tables import Row, Table
from compacter_arch.tables.scatter import (
    Point,
    draw_scatter,
    find_points,
    place_labels,
)

BOUNDS = (0.0, 0.0, 400.0, 300.0)


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6


def boxes_of(points, sizes, offsets):
    return [
        (x + dx - w / 2, y + dy - h / 2, x + dx + w / 2, y + dy + h / 2)
        for (x, y), (w, h), (dx, dy) in zip(points, sizes, offsets, strict=True)
    ]


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 2**32 - 1), st.integers(1, 14))
def test_labels_cover_neither_labels_nor_points_nor_the_legend(seed: int, count: int):
    generator = np.random.default_rng(seed)
    points = [tuple(p) for p in generator.uniform((60, 40), (340, 260), (count, 2))]
    sizes = [(float(generator.uniform(20, 60)), 9.0) for _ in points]
    legend = (300.0, 0.0, 400.0, 40.0)
    boxes = boxes_of(points, sizes, place_labels(points, sizes, [4.0] * count, BOUNDS, [legend]))
    markers = [(x - 4, y - 4, x + 4, y + 4) for x, y in points]
    for number, box in enumerate(boxes):
        assert box[0] >= 0 and box[1] >= 0 and box[2] <= 400 and box[3] <= 300
        assert not any(overlap(box, other) for other in (*boxes[:number], *markers, legend))


def test_a_lone_label_stands_to_the_right_and_one_at_the_edge_does_not():
    assert place_labels([(100, 100)], [(40, 10)], [4], BOUNDS) == [(25, 0)]
    ((x, y),) = place_labels([(390, 100)], [(40, 10)], [4], BOUNDS)
    assert x < 0 or abs(y) > 0
    assert 390 + x + 20 <= 400


def test_a_label_without_a_free_place_takes_the_best():
    offsets = place_labels([(5, 5)] * 6, [(30, 10)] * 6, [4] * 6, (0, 0, 40, 20))
    assert len(offsets) == 6


def table(*rows: Row) -> Table:
    return Table("Super-resolution x2", ["Set5"], ["psnr"], rows)


def test_points_are_the_rows_with_cost_and_score():
    score = {"Set5": {"psnr": 38.0}}
    rows = (
        Row("bicubic", "every paper", scores={"Set5": {"psnr": 33.7}}),
        Row("Compacter (paper)", "x", params=393_000, scores={"Set5": {"psnr": 38.2}}),
        Row("other", "x", params=900_000, multi_adds=2e11, scores=score),
        Row("elsewhere", "x", params=900_000, scores={"Set14": {"psnr": 30.0}}),
        Row("mine", params=400_000, multi_adds=1e11, latency=0.5, scores=score),
        Row("theirs", params=400_000, latency=0.25, scores=score),
    )
    points = find_points(table(*rows), "Set5", "params", ["mine"])
    assert points == [
        Point("Compacter (paper)", 393, 38.2, False, True),
        Point("other", 900, 38.0, False, False),
        Point("mine", 400, 38.0, True, True),
        Point("theirs", 400, 38.0, True, False),
    ]
    found = {p.label: p.cost for p in find_points(table(*rows), "Set5", "multi_adds", [])}
    assert found == {"other": 200, "mine": 100}
    found = {p.label: p.cost for p in find_points(table(*rows), "Set5", "latency", [])}
    assert found == {"mine": 500, "theirs": 250}
    with pytest.raises(UserError, match="Set5: no method with both PSNR and latency"):
        find_points(table(*rows[:3]), "Set5", "latency", [])


@pytest.mark.parametrize("costs", [[100, 300], [10, 3000], [5]])
@pytest.mark.parametrize("suffix", [".png", ".pdf", ".svg"])
def test_draws_every_format_and_range(tmp_path: Path, costs: list[float], suffix: str):
    points = [Point(f"method {c}", c, 30 + c / 1000, c > 200, c > 250) for c in costs]
    file = tmp_path / f"plot{suffix}"
    draw_scatter(points, "title", "params", file)
    first = file.read_bytes()
    assert len(first) > 1000
    draw_scatter(points, "title", "params", file)
    assert file.read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [file.name]
