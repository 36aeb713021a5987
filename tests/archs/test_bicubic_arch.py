"""The bicubic baseline against MATLAB's rule, written independently."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from basicsr.utils.matlab_functions import imresize as basicsr_imresize
from basicsr.utils.registry import ARCH_REGISTRY

from compacter_arch.archs import Bicubic
from compacter_arch.prepare import imresize


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (2, 5), (17, 12)])
def test_on_8_bit_images_equals_imresize(scale, size):
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    x = torch.from_numpy(image.transpose(2, 0, 1)[None]).float() / 255
    ours = (Bicubic(scale)(x)[0] * 255).round().numpy().transpose(1, 2, 0)
    np.testing.assert_array_equal(ours.astype(np.uint8), imresize(image, scale))


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_on_float_images_equals_basicsr(scale):
    x = torch.rand(1, 3, 11, 14)
    expected = basicsr_imresize(x[0], scale)
    torch.testing.assert_close(Bicubic(scale, uint8=False)(x)[0], expected, rtol=0, atol=1e-5)


def test_scale_1_is_the_input():
    x = torch.randn(1, 1, 3, 4)
    assert torch.equal(Bicubic(1)(x), x)


def test_is_registered():
    assert ARCH_REGISTRY.get("Bicubic") is Bicubic
