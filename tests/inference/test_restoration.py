"""`restore`: arrays of every kind through networks of one and of three channels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from compacter_arch.errors import UserError
from compacter_arch.inference import restoration
from compacter_arch.inference.acceleration import Autocast
from compacter_arch.inference.encoding import write_photo
from compacter_arch.inference.images import Photo, read_photo
from compacter_arch.inference.restoration import Job, Restorer, ensemble, restore, restore_files

from .tools import Double, tiny

DTYPES = ["uint8", "uint16", "float16", "float32", "float64"]
SHAPES = [(6, 5), (6, 5, 1), (6, 5, 2), (6, 5, 3), (6, 5, 4), (1, 1), (7, 5, 3)]


def random_image(shape: tuple[int, ...], dtype: str = "uint8") -> np.ndarray:
    """Random over all values of the type, floats in [0, 1]."""
    generator = np.random.default_rng(0)
    if dtype.startswith("f"):
        return generator.random(shape).astype(dtype)
    return generator.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def repeated(image: np.ndarray, scale: int = 2) -> np.ndarray:
    """Each pixel ``scale`` x ``scale`` times."""
    return image.repeat(scale, 0).repeat(scale, 1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_same_kind_of_array(shape: tuple[int, ...], dtype: str, channels: int):
    image, network = random_image(shape, dtype), Double(channels)
    before = image.copy()
    result = restore(image, network)
    assert np.array_equal(image, before)
    assert result.dtype == image.dtype and result.shape == repeated(image).shape
    colors = slice(None) if len(shape) == 2 or shape[2] % 2 else slice(0, shape[2] - 1)
    pixels, expected = (a if a.ndim == 2 else a[..., colors] for a in (result, repeated(image)))
    tolerance = {"uint8": 0, "uint16": 0, "float16": 1e-3}.get(dtype, 1e-6)
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=tolerance)
    assert all(x.min() >= 0 and x.max() <= 1 and x.shape[1] == channels for x in network.seen)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [2, 4])
def test_alpha_is_resized_or_left(dtype: str, count: int):
    image = random_image((6, 5, count), dtype)
    same = restore(image, Double(scale=1))
    assert np.array_equal(same[..., -1], image[..., -1])
    alpha = restore(image, Double(scale=3))[..., -1].astype(float)
    top = 1 if dtype.startswith("f") else np.iinfo(dtype).max
    expected = cv2.resize(
        image[..., -1].astype(np.float64) / top, (15, 18), interpolation=cv2.INTER_CUBIC
    )
    np.testing.assert_allclose(alpha / top, expected.clip(0, 1), atol=0.006)


def test_color_through_a_network_of_gray():
    """Each channel as if it were alone."""
    network, image = tiny(2, channels=1), random_image((9, 8, 3))
    alone = [restore(np.ascontiguousarray(image[..., c]), network) for c in range(3)]
    result = restore(image, network)
    assert abs(result.astype(int) - np.dstack(alone)).max() <= 1


def test_gray_through_a_network_of_color():
    network, image = tiny(2), random_image((9, 8))
    color = restore(np.dstack([image] * 3).astype(np.float32) / 255, network)
    result = restore(image.astype(np.float32) / 255, network)
    assert result.shape == (18, 16)
    # The mean of what is not clipped yet differs where it is.
    inside = ((color > 0) & (color < 1)).all(2)
    assert inside.mean() > 0.5
    np.testing.assert_allclose(result[inside], color.mean(2)[inside], atol=1e-5)


def test_result_is_that_of_the_network():
    network, image = tiny(2), random_image((20, 17, 3))
    x = torch.from_numpy(image).permute(2, 0, 1)[None] / 255
    with torch.no_grad():
        y = (network(x)[0].clamp(0, 1) * 255).round().permute(1, 2, 0).numpy()
    assert np.array_equal(restore(image, network), y)


@torch.no_grad()
def test_self_ensemble_is_the_mean_of_eight():
    network, x = tiny(2), torch.rand(1, 3, 9, 14)
    views = []
    for mirrored in (False, True):
        for turns in range(4):
            turned = np.rot90(x.flip(3) if mirrored else x, turns, (2, 3))
            y = network(torch.from_numpy(turned.copy())).numpy()
            back = np.rot90(y, -turns, (2, 3))
            views.append(back[..., ::-1] if mirrored else back)
    np.testing.assert_allclose(ensemble(network)(x), np.mean(views, 0), atol=1e-5)
    assert abs(views[0] - np.mean(views, 0)).max() > 1e-3


def test_self_ensemble_is_used():
    network, image = Double(), random_image((6, 5, 3))
    assert np.array_equal(restore(image, network, self_ensemble=True), repeated(image))
    assert sorted(x.shape[2:] for x in network.seen) == [(5, 6)] * 4 + [(6, 5)] * 4


def test_tiles():
    network, image = Double(), random_image((70, 150, 3))
    told: list[tuple[int, int]] = []
    result = restore(
        image, network, tile=64, overlap=16, progress=lambda done, total: told.append((done, total))
    )
    assert np.array_equal(result, repeated(image))
    assert told[-1] == (len(network.seen), len(network.seen)) == (6, 6)
    assert all(max(x.shape[2:]) <= 64 for x in network.seen)


def test_automatic_tiles_fit_a_large_overlap(monkeypatch: pytest.MonkeyPatch):
    from compacter_arch.inference import restoration

    monkeypatch.setattr(restoration, "choose_tile", lambda *given: 64)
    network, image = Double(), random_image((90, 200, 3))
    assert np.array_equal(restore(image, network, overlap=40), repeated(image))
    assert max(max(x.shape[2:]) for x in network.seen) <= 80


def test_mixed_precision_network_tells_its_scale():
    restorer = Restorer(Autocast(tiny(3, channels=1), torch.bfloat16))
    assert (restorer.scale, restorer.channels) == (3, 1)


def test_file_in_array_out(tmp_path: Path):
    image = random_image((6, 5, 4), "uint16")
    write_photo(tmp_path / "a.png", Photo(image[..., :3], image[..., 3]))
    expected = restore(image, Double())
    assert np.array_equal(restore(tmp_path / "a.png", Double()), expected)
    assert np.array_equal(restore(str(tmp_path / "a.png"), Double()), expected)


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4, 5), np.uint8), np.zeros(4, np.uint8), np.zeros((4, 4), np.int32),
     np.zeros((4, 4), bool), np.zeros((0, 4, 3), np.uint8), np.zeros((1, 4, 4, 3), np.uint8)],
    ids=lambda image: f"{image.dtype}{image.shape}",
)  # fmt: skip
def test_other_arrays(image: np.ndarray):
    with pytest.raises(UserError, match="restore takes uint8, uint16 or floats"):
        restore(image, Double())


def test_wrong_tile():
    with pytest.raises(UserError, match="too small to overlap"):
        Restorer(Double(), tile=40, overlap=32)


class Broken(Double):
    """Gives NaN for dark images, has no memory for bright ones."""

    def forward(self, x: Tensor) -> Tensor:
        if x.mean() > 0.9:
            raise MemoryError
        return super().forward(x) * (float("nan") if x.mean() < 0.1 else 1)


def test_no_number_is_not_black():
    with pytest.raises(UserError, match="no number; try --precision fp32"):
        restore(np.zeros((4, 4, 3), np.uint8), Broken())


def test_files_that_fail_keep_no_other_from_it(tmp_path: Path):
    grays = {"dark": 0, "good": 100, "bright": 255, "last": 50}
    for name, gray in grays.items():
        Image.new("RGB", (5, 7), (gray,) * 3).save(tmp_path / f"{name}.png")
    (tmp_path / "text.png").write_text("no image")
    names = ["dark", "good", "text", "bright", "absent", "last"]
    out = tmp_path / "out"
    jobs = [Job(tmp_path / f"{name}.png", out / f"{name}.png") for name in names]
    done = list(restore_files(jobs, Restorer(Broken())))
    assert [job for job, _ in done] == jobs
    errors = {job.source.stem: str(error) for job, error in done if error is not None}
    assert errors.keys() == {"dark", "text", "bright", "absent"}
    assert all(text.startswith(f"{tmp_path / name}.png: ") for name, text in errors.items())
    assert "out of memory even for 7 x 7" in errors["bright"]
    assert sorted(path.name for path in out.iterdir()) == ["good.png", "last.png"]
    assert (read_photo(out / "last.png").pixels == 50).all()


@pytest.mark.parametrize("mode", ["L", "RGBA"])
@pytest.mark.parametrize("scale", [1, 2])
def test_comparison(tmp_path: Path, mode: str, scale: int):
    class Negative(Double):
        def forward(self, x: Tensor) -> Tensor:
            return 1 - super().forward(x)

    Image.new(mode, (5, 7), 100 if mode == "L" else (10, 20, 30, 40)).save(tmp_path / "a.png")
    job = Job(tmp_path / "a.png", tmp_path / "b.png", tmp_path / "c.png")
    assert list(restore_files([job], Restorer(Negative(scale=scale)))) == [(job, None)]
    before, after = read_photo(tmp_path / "a.png"), read_photo(tmp_path / "b.png")
    both = read_photo(tmp_path / "c.png").channels
    assert both.shape[:2] == (7 * scale, 10 * scale)
    assert (both[:, : 5 * scale] == before.channels[0, 0]).all()
    assert np.array_equal(both[:, 5 * scale :], after.channels)


def test_result_without_room_is_not_computed(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(restoration, "free_memory", lambda device: 4 * 9 * 7 * 3 - 1)
    with pytest.raises(UserError, match="the result takes .* GB of memory, .* are free"):
        restore(np.zeros((9, 7, 3), np.uint8), Double())
