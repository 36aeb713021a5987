"""LR folders are MATLAB's, complete and repeatable."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data.transforms import mod_crop

from compacter_arch.errors import UserError
from compacter_arch.prepare import imresize, make_lr

from .tools import noise_png, random_image, tree

SET5 = Path(__file__).parents[3] / "shared" / "data" / "test" / "Set5"


@pytest.mark.skipif(not SET5.is_dir(), reason="needs the Set5 images in ../shared/data")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_is_reproduced_bit_for_bit(tmp_path: Path, scale: int) -> None:
    assert make_lr(SET5 / "HR", tmp_path, scale) == 5
    for path in sorted((SET5 / "LR_bicubic" / f"X{scale}").iterdir()):
        ours = cv2.imread(str(tmp_path / path.name.replace(f"x{scale}.", "_GT.")))
        np.testing.assert_array_equal(ours, cv2.imread(str(path)), err_msg=path.name)


def test_make_lr_crops_and_continues(tmp_path: Path) -> None:
    hr, lr, gt = tmp_path / "hr", tmp_path / "lr", tmp_path / "gt"
    for number in range(3):
        noise_png(hr / f"{number}.png", 25 + number, 32, number)
    cv2.imwrite(str(hr / "photo.jpg"), random_image(9, (24, 24, 3)))
    assert make_lr(hr, lr, 3, gt=gt) == 4
    first = tree(tmp_path)
    for number in range(3):
        large = cv2.imread(str(gt / f"{number}.png"))
        small = cv2.imread(str(lr / f"{number}.png"))
        whole = cv2.imread(str(hr / f"{number}.png"))
        np.testing.assert_array_equal(large, mod_crop(whole, 3))
        np.testing.assert_array_equal(small, imresize(large, 1 / 3))

    (lr / "0.png").unlink()
    (gt / "1.png").unlink()
    assert make_lr(hr, lr, 3, gt=gt) == 2
    assert make_lr(hr, lr, 3, gt=gt) == 0
    assert tree(tmp_path) == first


def test_make_lr_names_what_is_wrong(tmp_path: Path) -> None:
    hr, lr = tmp_path / "hr", tmp_path / "lr"
    with pytest.raises(UserError, match="hr: no such folder"):
        make_lr(hr, lr, 2)
    hr.mkdir()
    with pytest.raises(UserError, match="hr: no images here"):
        make_lr(hr, lr, 2)
    noise_png(hr / "a.png", 24, 36)
    with pytest.raises(UserError, match="scale 1:"):
        make_lr(hr, lr, 1)
    for out, gt in ((hr, None), (lr, hr), (lr, lr)):
        with pytest.raises(UserError, match="need a folder each"):
            make_lr(hr, out, 2, gt=gt)
    make_lr(hr, lr, 2)
    with pytest.raises(
        UserError, match=r"a\.png: exists with 18 x 12 pixels, .*a\.png gives 12 x 8; remove"
    ):
        make_lr(hr, lr, 3)
    (lr / "a.png").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"a\.png is not an image; replace or remove it"):
        make_lr(hr, lr, 2)
    (hr / "b.png").write_bytes(b"not a PNG")
    with pytest.raises(UserError, match=r"b\.png is not an image; replace or remove it"):
        make_lr(hr, tmp_path / "lr2", 2)
    (hr / "b.png").unlink()
    noise_png(hr / "b.png", 2, 9)
    with pytest.raises(UserError, match=r"b\.png: 9 x 2 is too small for x4"):
        make_lr(hr, tmp_path / "lr4", 4)
    (hr / "a.bmp").touch()
    with pytest.raises(UserError, match=r"a\.png and a\.bmp"):
        make_lr(hr, lr, 2)
