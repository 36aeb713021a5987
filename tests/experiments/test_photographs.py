"""Tiles of photographs: what is cut, what is left out."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import photographs
import pytest
from photographs import LEAST, SETS, UNIT, fingerprint, is_same, tiles


def scene(seed: int, height: int, width: int) -> np.ndarray:
    """A picture with things in it: rectangles and discs of many colours on a soft ground."""
    random = np.random.default_rng(seed)
    ground = random.integers(60, 200, (5, 5, 3), dtype=np.uint8)
    img = cv2.resize(ground, (width, height), interpolation=cv2.INTER_CUBIC)
    for _ in range(height * width // 700):
        x, y = int(random.integers(0, width)), int(random.integers(0, height))
        color = tuple(map(int, random.integers(0, 256, 3)))
        size = int(random.integers(4, 40))
        if random.random() < 0.5:
            cv2.rectangle(img, (x, y), (x + size, y + size // 2), color, -1)
        else:
            cv2.circle(img, (x, y), size // 2, color, -1)
    return img


def write(file: Path, img: np.ndarray) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(file), img)


@pytest.mark.parametrize("size", [(240, 240), (512, 512), (1200, 1200), (720, 1630), (253, 4000)])
def test_tiles(size: tuple[int, int]):
    """They do not overlap, cover all but a rim, and suit the scales 2, 3 and 4."""
    seen = np.zeros(size, int)
    for place in tiles(*size):
        assert all(length % UNIT == 0 for length in seen[place].shape)
        assert all(length <= 720 for length in seen[place].shape)
        seen[place] += 1
    assert seen.max() == 1 and seen.mean() > 0.9


def test_same_pictures_are_found():
    one = scene(0, 400, 600)
    img = fingerprint(one)
    assert is_same(img, fingerprint(one))
    noise = np.random.default_rng(0).normal(0, 5, one.shape)
    assert is_same(img, fingerprint((one + noise).clip(0, 255).astype(np.uint8)))
    assert is_same(img, fingerprint(cv2.resize(one, (300, 200), interpolation=cv2.INTER_AREA)))
    assert is_same(img, fingerprint(one[50:350, 100:500]))  # a part, as of Kodak's images
    for seed in range(1, 6):
        assert not is_same(img, fingerprint(scene(seed, 400, 600)))
    flat = np.full((300, 300, 3), 128, np.uint8)
    assert not is_same(img, fingerprint(flat)) and not is_same(fingerprint(flat), img)


@pytest.fixture
def clones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two repositories and a test set."""
    monkeypatch.chdir(tmp_path)
    [tecnick], [pop] = (SETS[name] for name in ("tecnick", "pop"))
    for seed in range(3):
        write(Path("sources", tecnick.folder, f"a {seed}.png"), scene(seed, 300, 500))
    write(Path("sources", pop.folder, "wall.jpg"), scene(7, 800, 1200))
    write(Path("sources", pop.folder, "drawing.png"), scene(8, 800, 1200))
    write(Path("test/one.png"), scene(1, 300, 500)[20:280, 100:400])
    return tmp_path


ARGUMENTS = ("sources", "-o", "out", "--test", "test", "--sets", "tecnick", "pop")


def test_command(clones: Path, capsys: pytest.CaptureFixture[str]):
    assert photographs.main(ARGUMENTS) == 0
    out = capsys.readouterr().out
    folder = SETS["tecnick"][0].folder
    assert f"sources/{folder}/a 1.png: left out: shows the same as test/one.png" in out
    assert "tecnick: 2 photographs, 2 tiles, 0.3 megapixels" in out
    assert "pop: 1 photographs, 1 tiles, 0.2 megapixels" in out
    assert sorted(file.name for file in Path("out").iterdir()) == [
        "pop_wall_001.png",
        "tecnick_a_0_001.png",
        "tecnick_a_2_001.png",
    ]
    img = cv2.imread("out/tecnick_a_0_001.png")
    assert np.array_equal(img, scene(0, 300, 500)[:300, :492])
    assert cv2.imread("out/pop_wall_001.png").shape == (396, 600, 3)  # half of the JPEG

    Path("out/tecnick_a_0_001.png").unlink()
    kept = Path("out/pop_wall_001.png").stat().st_mtime_ns
    assert photographs.main(ARGUMENTS) == 0
    assert np.array_equal(cv2.imread("out/tecnick_a_0_001.png"), img)
    assert Path("out/pop_wall_001.png").stat().st_mtime_ns == kept


def test_what_is_left_out(clones: Path, capsys: pytest.CaptureFixture[str]):
    folder = Path("sources", SETS["tecnick"][0].folder)
    write(folder / "again.png", scene(0, 300, 500))
    write(folder / "b small.png", scene(5, LEAST - 1, 500))
    write(folder / "c clear.png", np.dstack([scene(6, 300, 500), np.zeros((300, 500), np.uint8)]))
    (folder / "d cut.png").write_bytes((folder / "a 0.png").read_bytes()[:5000])
    assert photographs.main(ARGUMENTS) == 0
    out = capsys.readouterr().out
    assert f"again.png: left out: shows the same as {folder}/a 0.png" in out
    assert "b small.png: left out: smaller than 240 pixels" in out
    assert "c clear.png: left out: no plain photograph (RGBA)" in out
    assert "d cut.png: left out: is truncated; replace or remove it" in out


def test_bare_tiles_are_left_out(clones: Path, capsys: pytest.CaptureFixture[str]):
    half = scene(9, 480, 960)
    half[:, 480:] = 200
    write(Path("sources", SETS["tecnick"][0].folder, "sky.png"), half)
    assert photographs.main(ARGUMENTS) == 0
    assert "tecnick: 3 photographs, 3 tiles" in capsys.readouterr().out
    assert np.array_equal(cv2.imread("out/tecnick_sky_001.png"), half[:, :480])


def test_missing_folders(clones: Path, capsys: pytest.CaptureFixture[str]):
    assert photographs.main(["sources", "-o", "out", "--test", "test", "--sets", "cid22"]) == 2
    err = capsys.readouterr().err
    assert "no such folder; cid22 is left out" in err
    assert err.endswith(
        "sources: holds none of the repositories; clone them to sources/OWNER/NAME\n"
    )
    assert photographs.main(["sources", "-o", "out", "--test", "no"]) == 2
    assert capsys.readouterr().err == "no: no such folder; give a folder of images\n"
    assert not Path("out").exists()
