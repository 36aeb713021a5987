"""Tables measure what BasicSR's validation measures, once, and name what is missing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from compacter_arch.archs import CompacterArch
from compacter_arch.errors import UserError
from compacter_arch.inference import load_model
from compacter_arch.prepare import make_benchmark
from compacter_arch.tables import build_table, find_models, protocols
from compacter_arch.tables import measure as measure_module

from ..conftest import Project

TINY = {"dim": 12, "num_blocks": 1, "num_heads": 3, "window_size": 4}


@pytest.fixture
def tree(project: Project) -> Project:
    """Two images in the layout of Set5, and a tiny network for each task."""
    project.make_pairs("hr", count=2, size=49)
    make_benchmark(Path("hr/GT"), "Set5")
    for name, options in (
        ("x2", {"upscale": 2}),
        ("x4", {"upscale": 4}),
        ("gray", {"upscale": 1, "in_chans": 1}),
        ("color", {"upscale": 1}),
    ):
        torch.manual_seed(0)
        state = CompacterArch(**TINY, **options).state_dict()
        torch.save({"params": state}, f"{name}.pth")
    return project


def scores_of_basicsr(project: Project, file: str, *forced: str) -> dict[str, float]:
    result = project.run("test", "-opt", file, "--force_yml", "val:save_img=false", *forced)
    assert result.status == 0, result.err
    words = result.out.split()
    return dict(zip(words[1::2], map(float, words[2::2]), strict=False))


@pytest.mark.parametrize("scale", [2, 4])
def test_scores_are_those_of_the_test_command(tree: Project, scale: int):
    (protocol,) = protocols("sr", scales=[scale], sets=["Set5"])
    table = build_table(protocol, find_models([f"mine=x{scale}.pth"]), rounds=0)
    network = ", ".join(f"{key}: {value}" for key, value in TINY.items())
    wanted = scores_of_basicsr(
        tree,
        f"test_Compacter_SRx{scale}.yml",
        "num_gpu=0",
        "path:param_key_g=params",
        f"path:pretrain_network_g=x{scale}.pth",
        f"network_g={{type: CompacterArch, upscale: {scale}, {network}}}",
        "datasets={test_1: {name: Set5, type: PairedImageDataset, io_backend: {type: disk}, "
        f"dataroot_gt: datasets/Set5/GTmod{scale}, dataroot_lq: datasets/Set5/LRbicx{scale}}}}}",
    )
    row = table.rows[-1]
    assert row.method == "mine" and row.measured
    assert row.scores["Set5"] == pytest.approx(wanted, abs=1e-4)
    assert row.params == sum(p.numel() for p in CompacterArch(upscale=scale, **TINY).parameters())
    assert row.multi_adds is not None and row.latency is None
    assert table.rows[-2].method == "bicubic" and table.rows[0].method == "bicubic"
    assert [r.method for r in table.rows if not r.measured][-1] == "Compacter (paper)"


def test_tasks_without_files_of_degraded_images(tree: Project):
    """Gray JPEG, colour noise: rows for networks of the right channels alone."""
    models = find_models(["gray.pth", "color.pth", "x2.pth"])
    for task, level, label in (("jpeg", 10, "gray"), ("color_dn", 25, "color")):
        (protocol,) = protocols(task, levels=[level], sets=["Set5"])
        table = build_table(protocol, [m for m in models if m.fits(protocol, True)], rounds=0)
        measured = [row for row in table.rows if row.measured]
        assert len(measured) == 2 and measured[1].method == label
        metrics = {"psnr", "ssim", "psnrb" if task == "jpeg" else "ssim3d"}
        assert all(row.scores["Set5"].keys() == metrics for row in measured)


def test_is_measured_once(tree: Project, monkeypatch: pytest.MonkeyPatch):
    """Again for other weights, images or metrics; not for the same."""
    calls = []
    measure = measure_module.measure

    def count(*arguments, **keywords):
        calls.append(arguments[2])
        return measure(*arguments, **keywords)

    monkeypatch.setattr(measure_module, "measure", count)
    (protocol,) = protocols("sr", scales=[2], sets=["Set5"])
    cache = Path("cache")

    def build() -> tuple[int, float]:
        calls.clear()
        table = build_table(protocol, find_models(["x2.pth"]), cache=cache, rounds=0)
        return len(calls), table.rows[-1].scores["Set5"]["psnr"]

    count_first, first = build()
    assert (count_first, build()) == (2, (0, first))
    state = torch.load("x2.pth")["params"]
    state["conv_last.bias"] += 0.1
    torch.save({"params": state}, "x2.pth")
    count_weights, other = build()
    assert count_weights == 1 and other != first
    image = next(Path("datasets/Set5/LRbicx2").iterdir())
    image.write_bytes(next(p for p in image.parent.iterdir() if p != image).read_bytes())
    assert build()[0] == 2
    (cache / f"{max(p.stem for p in cache.iterdir())}.json").write_text("{ broken")
    assert build()[0] <= 1 and build()[0] == 0


def test_missing_sets_are_named(tree: Project):
    (protocol,) = protocols("sr", scales=[2])
    table = build_table(protocol, find_models(["x2.pth"]), rounds=0)
    assert list(table.sets) == ["Set5", "Set14", "B100", "Urban100", "Manga109"]
    assert set(table.rows[-1].scores) == {"Set5"}
    assert sum("not measured, datasets/" in note for note in table.notes) == 4


def test_cost_of_our_rows(tree: Project):
    (protocol,) = protocols("sr", scales=[4], sets=["Set5"])
    row = build_table(protocol, find_models(["x4.pth"]), rounds=1).rows[-1]
    assert row.latency and row.latency > 0 and row.memory and row.memory > 1e6


def test_command_writes_every_form(tree: Project):
    outputs = ["t.md", "t.csv", "t.tex", "t.txt"]
    result = tree.run("table", "sr", "x2.pth", "x4.pth", "--sets", "Set5", "--explain",
                      "--save_images", "out", "-o", *outputs)  # fmt: skip
    assert result.status == 0, result.err
    assert all(f"Super-resolution x{scale}" in result.out for scale in (2, 3, 4))
    assert "MATLAB's imresize" in result.out
    for path in map(Path, outputs):
        text = path.read_text()
        assert text.count("Super-resolution x3") >= 1 and "x4" in text and "bicubic" in text
    assert len(list(Path("out/x2/Set5/2").glob("*.png"))) == 2
    assert list(Path("results/.table_cache").glob("*.json"))
    again = tree.run("table", "sr", "x2.pth", "x4.pth", "--sets", "Set5")
    assert re.search(r"x2 +†", again.out)


def test_shipped_weights_are_the_default(tree: Project):
    Path("experiments/pretrained_models").mkdir(parents=True)
    for name, source in (("SRx2", "x2"), ("JPEG", "gray"), ("GrayDN", "gray")):
        target = Path(f"experiments/pretrained_models/Compacter_{name}.pth")
        target.write_bytes(Path(f"{source}.pth").read_bytes())
    result = tree.run("table", "sr", "--scale", "2", "--sets", "Set5")
    assert "Compacter_SRx2" in result.out
    result = tree.run("table", "jpeg", "--level", "10", "--sets", "Set5")
    assert "Compacter_JPEG" in result.out and "Compacter_GrayDN" not in result.out


def test_option_file_as_a_model(tree: Project):
    tree.write({"network_g": {"type": "EDSR", "num_in_ch": 3, "num_out_ch": 3, "num_feat": 4,
                              "num_block": 1, "upscale": 2}})  # fmt: skip
    result = tree.run("table", "sr", "edsr=tiny.yml", "--scale", "2", "--sets", "Set5")
    assert result.status == 0 and "edsr" in result.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sr", "absent.pth"], "absent.pth: no such file"),
        (["sr", "hr/GT/0000.png"], "damaged, or not a checkpoint"),
        (["sr", "other.pth"], "not the weights of a Compacter"),
        (["nothing"], "no task 'nothing'"),
        (["sr", "--device", "abacus"], "--device abacus"),
        (["ablation"], "ablation: give an option file"),
        (["sr", "-o", "table.doc"], "give a name that ends with"),
        (["sr", "bad.yml"], "network_g: "),
    ],
)
def test_one_line_for_what_is_wrong(tree: Project, arguments: list[str], message: str):
    torch.save({"params": {"a": torch.zeros(1)}}, "other.pth")
    Path("bad.yml").write_text("name: x\nnetwork_g: {type: Nothing}\n")
    result = tree.run("table", *arguments)
    assert result.status == 2
    assert message in result.err and "Traceback" not in result.err


def test_load_model_takes_ema_and_bare_files(tree: Project):
    state = torch.load("x2.pth")["params"]
    other = {key: value + 1 if value.is_floating_point() else value for key, value in state.items()}
    torch.save({"params": state, "params_ema": other}, "both.pth")
    torch.save(state, "bare.pth")
    name = "conv_last.bias"
    assert torch.equal(load_model("both.pth").state_dict()[name], other[name])
    assert torch.equal(load_model("bare.pth").state_dict()[name], state[name])
    assert not load_model("bare.pth").training
    with pytest.raises(UserError, match="no such file"):
        load_model("nothing.pth")
