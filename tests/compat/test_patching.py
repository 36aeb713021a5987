"""How a repair is put in place."""

from __future__ import annotations

from types import SimpleNamespace

import basicsr
import torch
from basicsr.utils import img_util, options

from compacter_arch.compat.patching import patch, repairs_of, stand_in_for_torch


def test_repairs_reach_every_module_that_imported_the_name() -> None:
    from basicsr.data import paired_image_dataset

    assert basicsr.imfrombytes is paired_image_dataset.imfrombytes is img_util.imfrombytes
    assert basicsr.train.parse_options is basicsr.test.parse_options is options.parse_options
    assert hasattr(img_util.imfrombytes, "__wrapped__")


def test_repairs_reach_what_is_registered() -> None:
    """Option files name a metric, which BasicSR looks up in its registry."""
    from basicsr.metrics import calculate_ssim, psnr_ssim
    from basicsr.utils.registry import METRIC_REGISTRY

    assert METRIC_REGISTRY.get("calculate_ssim") is calculate_ssim is psnr_ssim.calculate_ssim
    assert hasattr(calculate_ssim, "__wrapped__")


def test_patch_leaves_what_is_gone_alone() -> None:
    owner = SimpleNamespace()
    patch(owner, "gone")(lambda original: None)
    assert vars(owner) == {}


def test_repairs_of_one_name_are_stacked_once_each() -> None:
    owner = SimpleNamespace(number=lambda: 1)

    def double() -> None:
        patch(owner, "number")(lambda original: 2 * original())

    def add_one() -> None:
        patch(owner, "number")(lambda original: 1 + original())

    for repair in (double, add_one, double, add_one):
        repair()
    assert owner.number() == 3
    assert [name.split(".")[-3] for name in repairs_of(owner.number)] == ["double", "add_one"]


def test_stand_in_replaces_only_what_it_is_given() -> None:
    module = SimpleNamespace(torch=torch)
    stand_in_for_torch(module, load="a")
    stand_in_for_torch(module, save="b")
    assert (module.torch.load, module.torch.save) == ("a", "b")
    assert module.torch.zeros is torch.zeros and torch.load != "a"
