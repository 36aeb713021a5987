"""`basicsr restore`, as it is called."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import compacter_arch.execution.kernels.inference as fused_network
from compacter_arch.execution import UnavailableError
from compacter_arch.inference import load_model
from compacter_arch.inference.encoding import write_photo
from compacter_arch.inference.images import ORIENTATION, Photo, read_photo, split_alpha
from compacter_arch.inference.restoration import restore

from ..conftest import Project, Result
from .test_images import SRGB, XMP, assert_tells_the_same, exif, random_array
from .tools import tiny_weights

# Of color and of gray: all that tells them apart here is the name of their color space.
PROFILES = {"R": SRGB, "L": SRGB[:16] + b"GRAY" + SRGB[20:]}

pytestmark = pytest.mark.filterwarnings("error::UserWarning")


@pytest.fixture
def folder(project: Project) -> Path:
    """An image of each kind in a tree, some bad ones, and weights."""
    tiny_weights(project.root / "x2.pth")
    tiny_weights(project.root / "x1.pth", scale=1, channels=1)
    root = project.root / "in"
    (root / "deep").mkdir(parents=True)
    for mode in ("L", "LA", "RGB", "RGBA"):
        Image.fromarray(random_array(mode)).save(root / f"{mode}.png")
    Image.fromarray(random_array("RGB")).quantize(4).save(root / "palette.png", transparency=1)
    Image.fromarray(random_array("L") > 99).save(root / "bits.tif")
    Image.fromarray(random_array("RGB")).convert("CMYK").save(root / "cmyk.jpg")
    Image.fromarray(random_array("L", "uint16")).save(root / "deep" / "gray16.png")
    Image.fromarray(random_array("RGB", size=(8, 20))).save(
        root / "deep" / "turned.jpg", exif=exif(6), icc_profile=SRGB, dpi=(300, 300)
    )
    Image.fromarray(random_array("RGB", size=(1, 1))).save(root / "1x1.bmp")
    Image.fromarray(random_array("RGB", size=(7, 5))).save(root / "7x5.webp")
    return root


def save_more(folder: Path) -> None:
    """Images of 16 bits, and of 8 bits with all that can belong to them."""
    folder.mkdir()
    for suffix in (".png", ".tif"):
        for mode in ("L", "LA", "RGB", "RGBA"):
            photo = Photo(*split_alpha(random_array(mode, "uint16")), icc=PROFILES[mode[0]])
            write_photo(folder / f"{mode}16{suffix}", photo)
    for name in ("L.jpg", "RGB.jpg", "RGBA.webp", "LA.tif", "RGBA.tif"):
        mode, form = name.split(".")
        tags = {"exif": exif(3).tobytes(), "icc_profile": PROFILES[mode[0]]}
        image = Image.fromarray(random_array(mode))
        image.save(folder / name, **tags, **({} if form == "tif" else {"xmp": XMP}))
    Image.fromarray(random_array("L")).save(folder / "L.bmp")


def restore_command(project: Project, *argv: str, weights: str = "x2.pth") -> Result:
    return project.run("restore", *argv, "--weights", weights, "--device", "cpu")


def names(folder: Path) -> list[str]:
    """All files below a folder."""
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def test_a_folder_of_all_kinds(project: Project, folder: Path):
    save_more(folder / "more")
    good = names(folder)
    (folder / "deep" / "cut.jpg").write_bytes((folder / "deep" / "turned.jpg").read_bytes()[:900])
    (folder / "note.txt").write_text("no image")
    (folder / "note.png").write_text("no image")
    result = restore_command(project, "in", "-o", "out")
    assert result.status == 1
    assert result.out == f"restored: {len(good)} of {len(good) + 2} images, to out\n"
    left, *errors = result.err.splitlines()
    assert left == "basicsr restore: 1 left out, no images: note.txt"
    assert [line.split(":")[2].strip() for line in errors] == ["in/deep/cut.jpg", "in/note.png"]
    out = project.root / "out"
    assert names(out) == good
    for name in good:
        before, after = read_photo(folder / name), read_photo(out / name)
        assert after.pixels.shape[:2] == tuple(2 * n for n in before.pixels.shape[:2])
        assert after.pixels.dtype == before.pixels.dtype
        assert after.pixels.shape[2:] == before.pixels.shape[2:]
        assert (after.alpha is None) == (before.alpha is None)
        assert (after.icc, after.xmp) == (before.icc, before.xmp)
        if before.exif:
            assert_tells_the_same(after.exif)
    turned = read_photo(out / "deep" / "turned.jpg")
    assert turned.pixels.shape == (40, 16, 3) and turned.icc == SRGB
    assert turned.dpi == pytest.approx((300, 300), abs=0.1)
    with Image.open(out / "deep" / "turned.jpg") as img:
        assert img.getexif()[ORIENTATION] == 1 and img.getexif()[271] == "Acme"


def test_pixels_are_those_of_restore(project: Project, folder: Path):
    assert restore_command(project, "in/RGBA.png", "-o", "out", "--plain").status == 0
    expected = restore(folder / "RGBA.png", load_model(project.root / "x2.pth"))
    assert np.array_equal(np.asarray(Image.open("out/RGBA.png")), expected)
    assert restore_command(project, "in/RGBA.png", "-o", "b.png", "--self_ensemble").status == 0
    network = load_model(project.root / "x2.pth")
    expected = restore(folder / "RGBA.png", network, self_ensemble=True).astype(int)
    assert abs(np.asarray(Image.open("b.png")) - expected).max() <= 1


def test_gray_network_at_scale_1(project: Project, folder: Path):
    result = restore_command(
        project, "in/RGBA.png", "in/L.png", "-o", "out", "--suffix", "_clean", weights="x1.pth"
    )
    assert result.status == 0 and names(Path("out")) == ["L_clean.png", "RGBA_clean.png"]
    after, before = read_photo("out/RGBA_clean.png"), read_photo(folder / "RGBA.png")
    assert np.array_equal(after.alpha, before.alpha) and after.pixels.shape == (9, 7, 3)


def test_formats_and_comparison(project: Project, folder: Path):
    result = restore_command(
        project, "in/deep/*", "-o", "out", "--format", "webp", "--compare", "--quality", "50"
    )
    assert (result.status, result.err) == (0, "")
    assert names(Path("out")) == [
        "gray16.webp", "gray16_compare.webp", "turned.webp", "turned_compare.webp",
    ]  # fmt: skip
    assert Image.open("out/turned_compare.webp").size == (32, 40)


def test_transparency_that_jpeg_has_not(project: Project, folder: Path):
    result = restore_command(project, "in/LA.png", "in/L.png", "-o", "out", "--format", "jpg")
    assert result.status == 1 and names(Path("out")) == ["L.jpg"]
    assert "in/LA.png" in result.err and "choose png, webp or tif" in result.err


def test_list_on_stdin(project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("in/L.png\nin/deep\n"))
    assert restore_command(project, "-", "-o", "out").status == 0
    assert names(Path("out")) == ["L.png", "gray16.png", "turned.jpg"]


def test_tiles(project: Project, folder: Path):
    image = Image.fromarray(random_array("RGB", size=(70, 90)))
    image.resize((180, 140)).save("large.png")
    assert restore_command(project, "large.png", "-o", "whole.png", "--tile", "0").status == 0
    command = ("large.png", "-o", "tiles.png", "--tile", "64", "--overlap", "24")
    assert restore_command(project, *command).status == 0
    whole, tiles = (
        np.asarray(Image.open(f"{name}.png")).astype(int) for name in ("whole", "tiles")
    )
    assert whole.shape == tiles.shape == (280, 360, 3)
    assert 0 < abs(whole - tiles).max() < 60 and abs(whole - tiles).mean() < 1


def test_overwrite(project: Project, folder: Path):
    assert restore_command(project, "in/L.png", "-o", "out").status == 0
    before = project.snapshot()
    result = restore_command(project, "in/L.png", "in/RGB.png", "-o", "out")
    assert result.status == 2 and "out/L.png: exists; give --overwrite" in result.err
    assert project.snapshot() == before  # not the other one either
    result = restore_command(project, "in/L.png", "-o", "in")
    assert result.status == 2 and "is the input itself" in result.err
    assert project.snapshot() == before
    assert restore_command(project, "in/L.png", "-o", "in", "--overwrite").status == 0
    assert Image.open("in/L.png").size == (14, 18)


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        ("in in/deep/turned.jpg x/turned.jpg -o out", "x/turned.jpg: no such file"),
        ("in/L.png in/LA.png -o out.png", "cannot hold 2 images"),
        ("in -o out --format png --suffix a --tile 40", "too small to overlap"),
        ("in -o out --overlap -3", "cannot overlap by -3"),
        ("in -o out --quality 101", "--quality 101: at most 100"),
        ("in -o out --quality 0", "argument --quality"),
        ("in -o out --tile -1", "argument --tile"),
        ("in -o out --tile large", "argument --tile"),
        ("in -o out --format gif", "argument --format"),
        ("in -o out --precision fp64", "argument --precision"),
        ("in -o out --plain --precision bf16", "leave out it or --precision bf16"),
        ("in -o out --device tpu", "--device tpu"),
        ("in -o out --weights absent.pth", "absent.pth"),
        ("in -o out --task sr_x2 --weights x2.pth", "not allowed with"),
        ("in", "required: -o/--output"),
    ],
)
def test_wrong_usage_creates_nothing(project: Project, folder: Path, argv: str, words: str):
    before = project.snapshot()
    extra = () if "--weights" in argv else ("--weights", "x2.pth")
    result = project.run("restore", *argv.split(), *extra)
    assert result.status == 2 and result.out == ""
    assert words in result.err and "Traceback" not in result.err
    assert project.snapshot() == before


def test_network_is_needed(project: Project, folder: Path):
    result = project.run("restore", "in", "-o", "out")
    assert result.status == 2 and "one of the arguments --weights --task is required" in result.err


def test_device_that_is_not_there(project: Project, folder: Path):
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    result = project.run("restore", "in", "-o", "out", "--weights", "x2.pth", "--device", "cuda")
    assert result.status == 2 and "--device cuda" in result.err and result.err.count("\n") == 1


def test_without_kernels_the_plain_network(
    project: Project, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    def none(*arguments: object) -> None:
        raise UnavailableError("no C++ compiler found")

    monkeypatch.setattr(fused_network, "load_library", none)
    result = restore_command(project, "in/L.png", "-o", "out")
    assert result.status == 0 and names(Path("out")) == ["L.png"]
    assert result.err == (
        "basicsr restore: warning: plain network, in fp32: no C++ compiler found\n"
    )


def test_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch):
    from compacter_arch.cli import bars

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

        def fileno(self) -> int:
            return 2

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(bars.os, "get_terminal_size", lambda fd: bars.os.terminal_size((80, 24)))
    monkeypatch.setattr(bars.tqdm, "__init__", always_drawn(bars.tqdm.__init__, screen))
    with bars.Bars(2) as progress:
        for image in range(2):
            for done in range(3):
                tell = progress.frames if image else progress.tiles
                tell(done + 1, 3 + image)
            assert (progress.tile.n, progress.tile.total) == (3, 3 + image)
            progress.image()
        assert (progress.images.n, progress.images.total) == (2, 2)
    assert "images: 100%" in screen.getvalue() and "tiles: 100%" in screen.getvalue()
    assert "frames:  75%" in screen.getvalue() and "3/4" in screen.getvalue()
    monkeypatch.setattr(screen, "isatty", lambda: False)
    with bars.Bars(2) as progress:
        assert progress.images.disable and progress.tile.disable
        progress.tiles(1, 5)
        progress.image()


def always_drawn(init: object, screen: io.StringIO) -> object:
    """tqdm's constructor, drawing each update."""

    def made(self: object, *args: object, **options: object) -> None:
        init(self, *args, **{"file": screen, "mininterval": 0, "miniters": 1, **options})

    return made
