"""Several folders or LMDBs as one data set, in training and in the checks before it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from basicsr.data import build_dataset

from compacter_arch.data.subsets_dataset import subset_options

from ..conftest import REMOVE, Project

PAIRED: dict[str, Any] = {
    "name": "both",
    "type": "SubsetsDataset",
    "subset_type": "PairedImageDataset",
    "subsets": ["one", "two"],
    "phase": "val",
    "scale": 2,
    "dataroot_gt": "data/{}/GT",
    "dataroot_lq": "data/{}/LR",
    "io_backend": {"type": "disk"},
}


@pytest.fixture
def halves(project: Project) -> Project:
    """Two folders of pairs, also as LMDB."""
    for name, count in (("one", 3), ("two", 2)):
        project.make_pairs(f"data/{name}", count=count, size=32)
        for half in ("GT", "LR"):
            project.make_lmdb(f"data/{name}/{half}", f"data/{name}/{half}.lmdb")
    return project


@pytest.mark.parametrize("suffix", ["", ".lmdb"])
def test_holds_its_subsets_one_after_the_other(halves: Project, suffix: str):
    roots = {key: PAIRED[key] + suffix for key in ("dataroot_gt", "dataroot_lq")}
    backend = {"io_backend": {"type": "lmdb" if suffix else "disk"}}
    both = build_dataset(PAIRED | roots | backend)
    parts = [build_dataset(part) for part in subset_options(PAIRED | roots | backend)]
    wanted = [sample for part in parts for sample in (part[i] for i in range(len(part)))]
    assert len(both) == len(both.paths) == len(wanted) == 5
    for index, sample in enumerate(wanted):
        assert torch.equal(both[index]["gt"], sample["gt"])
        assert torch.equal(both[index]["lq"], sample["lq"])


def test_any_type_and_meta_info(halves: Project):
    for name in ("one", "two"):
        halves.make_meta_info(f"data/{name}/GT", f"data/{name}.txt")
    noise = PAIRED | {"subset_type": "GaussianNoiseDataset", "sigma": 25}
    noise |= {"meta_info_file": "data/{}.txt"}
    Path("data/two.txt").write_text("0001.png (32,32,3)\n")
    assert len(build_dataset(noise)) == 4


def test_trains(halves: Project):
    changes = {
        f"datasets.train.{key}": PAIRED[key] for key in PAIRED if key not in ("phase", "scale")
    }
    result = halves.run("train", "-opt", halves.write(changes))
    assert result.status == 0, result.err
    assert "Number of train images: 5" in halves.log()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subsets": []}, "subsets: [] must be a list of names"),
        ({"subsets": "one"}, "subsets: 'one' must be a list of names"),
        ({"subsets": REMOVE}, "missing key 'subsets'"),
        ({"subset_type": REMOVE}, "missing key 'subset_type'"),
        ({"subset_type": "PairedImageDatset"}, "did you mean 'PairedImageDataset'?"),
        ({"dataroot_gt": "data/one/GT"}, "data/one/GT must hold {} where the names of subsets"),
        ({"subsets": ["one", "three"]}, "data/three/GT does not exist"),
        ({"gt_size": 64}, "64 is larger than data/one/GT/0000.png"),
    ],
)
def test_one_line_for_what_is_wrong(halves: Project, changes: dict[str, Any], message: str):
    options = {key: PAIRED[key] for key in PAIRED if key not in ("phase", "scale")} | changes
    opt = halves.write({f"datasets.train.{key}": value for key, value in options.items()})
    result = halves.run("check", "-opt", opt)
    assert result.status == 2
    assert message in result.err and "Traceback" not in result.err


def test_pairs_of_each_subset_are_checked(halves: Project):
    (halves.root / "data/two/LR/0001.png").unlink()
    options = {key: PAIRED[key] for key in PAIRED if key not in ("phase", "scale")}
    opt = halves.write({f"datasets.train.{key}": value for key, value in options.items()})
    result = halves.run("check", "-opt", opt)
    assert result.status == 2
    assert "data/two/LR do not pair up: data/two/LR/0001.png is missing" in result.err
