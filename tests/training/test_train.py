"""The same options train from every kind of data and with every part."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from ..conftest import Project
from .conftest import Spy

FROM = {
    "folder": {},
    "lmdb": {
        "datasets.train.dataroot_gt": "data/GT.lmdb",
        "datasets.train.dataroot_lq": "data/LR.lmdb",
        "datasets.train.io_backend": {"type": "lmdb"},
    },
    "meta_info": {"datasets.train.meta_info_file": "data/meta_info.txt"},
}


@pytest.fixture
def stored(project: Project) -> Project:
    """The project with its training images in LMDB and listed by a meta_info file as well."""
    for half in ("GT", "LR"):
        project.make_lmdb(f"data/train/{half}", f"data/{half}.lmdb")
    project.make_meta_info("data/train/GT", "data/meta_info.txt")
    return project


@pytest.mark.parametrize("workers", [0, 2])
def test_folder_lmdb_and_meta_info_train_the_same(stored: Project, spy: Spy, workers: int):
    """To the bit: the files of a folder are taken by name, as those of the others are."""
    weights, images = [], []
    for source, changes in FROM.items():
        changes = {**changes, "name": source, "datasets.train.num_worker_per_gpu": workers}
        result = stored.run("train", "-opt", stored.write(changes))
        assert result.status == 0, result.err
        weights.append(stored.weights(name=source))
        images.append([names for _, names in spy.images])
        spy.images.clear()
    assert images[0] == images[1] == images[2]
    for other in weights[1:]:
        torch.testing.assert_close(other, weights[0], rtol=0, atol=0)


def test_seed_decides_and_training_changes_the_weights(project: Project, spy: Spy):
    runs, orders = {}, {}
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        changes = {
            "name": name,
            "manual_seed": seed,
            "datasets.train.dataset_enlarge_ratio": 5,
            "logger.save_checkpoint_freq": 1,
        }
        assert project.run("train", "-opt", project.write(changes)).status == 0
        runs[name] = project.weights(name=name)["conv_first.weight"]
        orders[name] = list(spy.images)
        spy.images.clear()
    assert torch.equal(runs["a"], runs["b"]) and orders["a"] == orders["b"]
    assert not torch.equal(runs["a"], runs["c"]) and orders["a"] != orders["c"]
    assert not torch.equal(project.weights(1, "a")["conv_first.weight"], runs["a"])


def test_iterations_do_not_stop_short(project: Project):
    """4 images x 5 / batch 3 = 6 whole batches per epoch: 13 iterations need a third epoch."""
    changes = {
        "datasets.train.batch_size_per_gpu": 3,
        "datasets.train.dataset_enlarge_ratio": 5,
        "train.total_iter": 13,
        "logger.save_checkpoint_freq": 13,
    }
    assert project.run("train", "-opt", project.write(changes)).status == 0
    assert "iter:      13" in project.log()
    state = torch.load(
        project.root / "experiments/tiny/training_states/13.state", weights_only=True
    )
    assert state["iter"] == 13


def test_ema_tensorboard_images_and_best_metrics(project: Project):
    changes = {
        "train.ema_decay": 0.5,
        "logger.use_tb_logger": True,
        "val.val_freq": 2,
        "val.save_img": True,
    }
    result = project.run("train", "-opt", project.write(changes))
    assert result.status == 0, result.err
    plain, ema = project.weights(), project.weights(key="params_ema")
    assert not torch.equal(plain["conv_first.weight"], ema["conv_first.weight"])
    tags = tensorboard_tags(project.root / "tb_logger" / "tiny")
    assert {"losses/l_pix", "metrics/TinyVal/psnr"} <= tags
    images = project.root / "experiments/tiny/visualization"
    assert len(list(images.rglob("*_2.png"))) == len(list(images.rglob("*_4.png"))) == 2
    assert project.log().count("Validation TinyVal") == 2  # the last one is not repeated
    assert "# psnr: " in project.log() and "Best: " in project.log()


def tensorboard_tags(folder: Path) -> set[str]:
    """Names of the scalars in a TensorBoard folder."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder))
    events.Reload()
    return set(events.Tags()["scalars"])


def test_comparison_tells_bicubic_from_network(project: Project):
    changes = {"val.comparison": True}
    assert project.run("train", "-opt", project.write(changes)).status == 0
    assert (project.root / "experiments/tiny/comparison.png").is_file()
    assert "TinyVal: psnr bicubic " in project.log()


def test_ends_with_a_validation_and_without_one(project: Project):
    changes = {"name": "with", "val.val_freq": 3}
    assert project.run("train", "-opt", project.write(changes)).status == 0
    assert project.log("with").count("Validation TinyVal") == 2
    changes = {"name": "without", "val": ..., "datasets.val": ...}
    assert project.run("train", "-opt", project.write(changes)).status == 0
    assert "Validation" not in project.log("without")
    assert project.weights(name="without")


def test_pretrained_weights_are_the_start(project: Project):
    assert project.run("train", "-opt", project.write()).status == 0
    changes = {
        "name": "second",
        "path.pretrain_network_g": "experiments/tiny/models/net_g_latest.pth",
        "train.optim_g.lr": 0.0,
    }
    assert project.run("train", "-opt", project.write(changes)).status == 0
    torch.testing.assert_close(project.weights(name="second"), project.weights(), rtol=0, atol=0)


def test_earlier_run_of_that_name_is_kept(project: Project):
    assert project.run("train", "-opt", project.write()).status == 0
    assert project.run("train", "-opt", project.write()).status == 0
    folders = sorted(path.name for path in (project.root / "experiments").iterdir())
    assert len(folders) == 2 and folders[0] == "tiny" and folders[1].startswith("tiny_archived_")


OTHERS: dict[str, dict[str, Any]] = {
    "EDSR": {
        "num_in_ch": 3,
        "num_out_ch": 3,
        "num_feat": 8,
        "num_block": 1,
        "upscale": 2,
        "res_scale": 1,
        "img_range": 255.0,
        "rgb_mean": [0.4488, 0.4371, 0.4040],
    },
    "SwinIR": {
        "upscale": 2,
        "in_chans": 3,
        "img_size": 8,
        "window_size": 4,
        "img_range": 1.0,
        "depths": [2],
        "embed_dim": 12,
        "num_heads": [3],
        "mlp_ratio": 2,
        "upsampler": "pixelshuffledirect",
        "resi_connection": "1conv",
    },
}


@pytest.mark.parametrize("arch", OTHERS)
def test_other_networks_with_their_own_keys(project: Project, arch: str):
    """A tree that knows nothing of us: BasicSR's network, loss, scheduler, warm-up and sections."""
    changes = {
        "network_g": {"type": arch, **OTHERS[arch]},
        "model_type": "SwinIRModel" if arch == "SwinIR" else "SRModel",
        "train.pixel_opt": {"type": "L1Loss", "loss_weight": 1.0, "reduction": "mean"},
        "train.scheduler": {
            "type": "CosineAnnealingRestartLR",
            "periods": [2, 2],
            "restart_weights": [1, 1],
            "eta_min": 1e-7,
        },
        "train.warmup_iter": 2,
        "datasets.train.use_shuffle": True,  # in BasicSR's own files; nothing reads it
        "datasets.train.pin_memory": False,
        "datasets.train.prefetch_mode": "cpu",
        "datasets.train.num_prefetch_queue": 1,
        "logger.wandb": {"project": None, "resume_id": None},
        "dist_params": {"backend": "nccl", "port": 29500},
        "val.metrics.psnr.better": "higher",
        "val.pbar": False,
    }
    result = project.run("train", "-opt", project.write(changes))
    assert result.status == 0, result.err
    warnings = [line for line in result.err.splitlines() if "warning" in line]
    assert warnings == [
        "tiny.yml: warning: datasets.train: unknown key 'use_shuffle': nothing reads it"
    ]
    assert all(value.isfinite().all() for value in project.weights().values())
