"""Bicubic LR images are MATLAB's, and the folders made from them are complete and repeatable."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import cv2
import numpy as np
import pytest
from basicsr.data.transforms import mod_crop
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.cli import prepare as cli
from compacter_arch.errors import UserError
from compacter_arch.prepare import demo as demo_module
from compacter_arch.prepare import imresize, make_demo, make_lr
from compacter_arch.prepare.lr import write_png

SET5 = Path(__file__).parents[2] / "shared" / "data" / "test" / "Set5"
SCALES = (1 / 2, 1 / 3, 1 / 4, 2.0, 3.0)


def cubic(x: float) -> float:
    x = abs(x)
    if x <= 1:
        return 1.5 * x**3 - 2.5 * x**2 + 1
    if x <= 2:
        return -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return 0.0


def slow_column(column: np.ndarray, scale: float) -> np.ndarray:
    """One column, one output at a time, with the indices from 1 that MATLAB's source has."""
    length = len(column)
    mirror = [*range(length), *reversed(range(length))]
    shrink = min(scale, 1.0)
    width = 4 / shrink
    result = []
    for x in range(1, math.ceil(length * scale) + 1):
        u = x / scale + 0.5 * (1 - 1 / scale)
        left = math.floor(u - width / 2)
        index = range(left, left + math.ceil(width) + 2)
        weights = [cubic(shrink * (u - i)) for i in index]
        values = [float(column[mirror[(i - 1) % (2 * length)]]) for i in index]
        result.append(sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights))
    return np.array(result)


def slow_imresize(img: np.ndarray, scale: float) -> np.ndarray:
    for axis in (0, 1):
        out = np.apply_along_axis(slow_column, axis, img, scale)
        if img.dtype == np.uint8:
            out = np.clip(np.floor(out + 0.5), 0, 255)
        img = out.astype(img.dtype)
    return img


def random_image(seed: int, shape: tuple[int, ...], dtype: type = np.uint8) -> np.ndarray:
    """Noise of the full range, with a flat and a saturated part."""
    img = np.random.default_rng(seed).integers(0, 256, shape)
    img[: shape[0] // 3] = 255 * (img[: shape[0] // 3] > 127)
    return img.astype(dtype)


def noise_png(path: Path, height: int, width: int, seed: int = 0) -> None:
    write_png(path, random_image(seed, (height, width, 3)))


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.mark.skipif(not SET5.is_dir(), reason="needs the Set5 images in ../shared/data")
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_set5_is_reproduced_bit_for_bit(tmp_path: Path, scale: int) -> None:
    assert make_lr(SET5 / "HR", tmp_path, scale) == 5
    for path in sorted((SET5 / "LR_bicubic" / f"X{scale}").iterdir()):
        ours = cv2.imread(str(tmp_path / path.name.replace(f"x{scale}.", "_GT.")))
        np.testing.assert_array_equal(ours, cv2.imread(str(path)), err_msg=path.name)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    sides=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    channels=st.sampled_from([None, 1, 3, 5]),
    scale=st.sampled_from(SCALES),
    dtype=st.sampled_from([np.uint8, np.float64]),
)
def test_equals_the_slow_formula(
    seed: int, sides: tuple[int, int], channels: int | None, scale: float, dtype: type
) -> None:
    img = random_image(seed, sides if channels is None else (*sides, channels), dtype)
    out = imresize(img, scale)
    assert out.dtype == img.dtype
    if dtype is np.uint8:
        np.testing.assert_array_equal(out, slow_imresize(img, scale))
    else:
        np.testing.assert_allclose(out, slow_imresize(img, scale), rtol=0, atol=1e-9)


@settings(max_examples=25, deadline=None)
@given(
    value=st.integers(0, 255),
    sides=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    scale=st.floats(0.1, 4),
)
def test_constant_stays_constant(value: int, sides: tuple[int, int], scale: float) -> None:
    out = imresize(np.full(sides, value, np.uint8), scale)
    assert out.shape == tuple(math.ceil(side * scale) for side in sides)
    assert (out == value).all()


def test_every_value_and_both_ends_of_the_range() -> None:
    """Ramps and hard edges: halves go up, over- and undershoot are cut off."""
    ramp = np.arange(256, dtype=np.uint8)[None].repeat(12, 0)
    edges = np.kron(np.eye(12) % 2, np.full((4, 4), 255)).astype(np.uint8)
    for img in (ramp, edges):
        for scale in SCALES:
            np.testing.assert_array_equal(imresize(img, scale), slow_imresize(img, scale))


def test_float_is_neither_rounded_nor_clipped() -> None:
    img = random_image(0, (24, 36, 3), np.float64) / 255
    out = imresize(img, 2)
    assert out.min() < 0 and out.max() > 1
    single = imresize(img.astype(np.float32), 2)
    assert single.dtype == np.float32
    np.testing.assert_allclose(single, out, atol=1e-6)


def test_views_are_taken_and_left_alone() -> None:
    img = random_image(1, (40, 60, 3))
    before = img.copy()
    view = img[::-1, 3:51].swapaxes(0, 1)
    np.testing.assert_array_equal(imresize(view, 1 / 2), imresize(view.copy(), 1 / 2))
    np.testing.assert_array_equal(img, before)


@pytest.mark.parametrize(
    ("img", "scale", "error"),
    [
        (np.zeros((4, 4), np.uint16), 0.5, TypeError),
        (np.zeros((4, 0), np.uint8), 0.5, ValueError),
        (np.zeros(4, np.uint8), 0.5, ValueError),
        (np.zeros((4, 4), np.uint8), 0, ValueError),
        (np.zeros((4, 4), np.uint8), math.nan, ValueError),
    ],
)
def test_imresize_refuses(img: np.ndarray, scale: float, error: type[Exception]) -> None:
    with pytest.raises(error, match="imresize"):
        imresize(img, scale)


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


def test_a_failed_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        noise_png(tmp_path / "a.png", 8, 8)
    assert list(tmp_path.iterdir()) == []


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
    with pytest.raises(UserError, match=r"a\.png: exists with a size that does not fit"):
        make_lr(hr, lr, 3)
    (lr / "a.png").write_bytes(b"cut")
    with pytest.raises(UserError, match=r"a\.png: not a readable image"):
        make_lr(hr, lr, 2)
    (hr / "b.png").write_bytes(b"not a PNG")
    with pytest.raises(UserError, match=r"b\.png: not a readable image"):
        make_lr(hr, tmp_path / "lr2", 2)
    (hr / "b.png").unlink()
    noise_png(hr / "b.png", 2, 9)
    with pytest.raises(UserError, match=r"b\.png: 9 x 2 is too small for x4"):
        make_lr(hr, tmp_path / "lr4", 4)
    (hr / "a.bmp").touch()
    with pytest.raises(UserError, match=r"a\.png and a\.bmp"):
        make_lr(hr, lr, 2)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_demo(tmp_path_factory.mktemp("demo"))


def test_demo_pairs_fit(demo: Path) -> None:
    for half in ("train", "val"):
        large = sorted((demo / half / "GT").iterdir())
        small = sorted((demo / half / "LRx2").iterdir())
        assert [path.name for path in large] == [path.name for path in small]
        for gt, lr in zip(large[::9], small[::9], strict=True):
            image = cv2.imread(str(gt))
            assert image.shape[0] % 12 == 0 and image.shape[1] % 12 == 0
            np.testing.assert_array_equal(cv2.imread(str(lr)), imresize(image, 1 / 2))


def test_demo_halves_share_no_photograph(demo: Path) -> None:
    halves = [
        {path.stem.split("_")[0] for path in (demo / half / "GT").iterdir()}
        for half in ("train", "val")
    ]
    assert halves[0] and halves[1] and not halves[0] & halves[1]


def test_demo_is_repeatable_and_completes_itself(demo: Path, tmp_path: Path) -> None:
    wanted = tree(demo)
    other = make_demo(tmp_path)
    assert tree(other) == wanted
    stamps = {path: path.stat().st_mtime_ns for path in other.rglob("*.png")}
    make_demo(tmp_path)
    assert stamps == {path: path.stat().st_mtime_ns for path in other.rglob("*.png")}
    for path in [*(other / "train" / "LRx2").iterdir()][:5] + [*other.glob("val/GT/*")][:1]:
        path.unlink()
    make_demo(tmp_path)
    assert tree(other) == wanted


def test_demo_without_the_photographs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo_module, "TRAIN", ("absent.png",))
    with pytest.raises(UserError, match=r"absent\.png: missing; pip install scikit-image"):
        make_demo(tmp_path)
    with pytest.raises(UserError, match="2, 3 and 4, not 5"):
        make_demo(tmp_path, 5)


def command(*words: str) -> int:
    parser = argparse.ArgumentParser()
    cli.configure(parser)
    return cli.run(parser.parse_args(words))


def test_commands(
    demo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(demo.parents[1])
    assert command("demo") == 0
    assert "pairs in GT and LRx2" in capsys.readouterr().out
    val = demo / "val"
    out = tmp_path / "LRx4"
    assert command("lr", str(val / "GT"), "-o", str(out), "--scale", "4") == 0
    count = len(list((val / "GT").iterdir()))
    assert capsys.readouterr().out == f"{out}: {count} LR images written, x4\n"


@pytest.mark.parametrize("name", ["demo", "lr"])
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        command(name, "-h")
    assert stop.value.code == 0
    assert f"example:\n  basicsr prepare {name} " in capsys.readouterr().out
