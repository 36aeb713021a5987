"""The page in a browser: `basicsr demo` in a process of its own, Chromium before it."""

from __future__ import annotations

import io
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from compacter_arch import restore
from compacter_arch.inference.encoding import write_photo
from compacter_arch.inference.fast import load_fast
from compacter_arch.inference.images import Photo, read_photo

from ..conftest import REPOSITORY
from .test_photos import SRGB, png_that_claims

pytest.importorskip("gradio", reason='needs pip install "compacter-arch[demo]"')
playwright = pytest.importorskip("playwright.sync_api", reason="needs pip install playwright")

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
CHROMIUM = next(filter(None, map(shutil.which, NAMES)), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium in the PATH")

PATIENCE = 60_000  # milliseconds


@dataclass
class Site:
    """A server of the page and a browser.

    Args:
        process: the server's.
        url: where it listens.
        folder: of the server's temporary files.
        browser: Playwright's.
        asked: all that the browser has asked for.
        complaints: what it said in its console.
    """

    process: subprocess.Popen[str]
    url: str
    folder: Path
    browser: Any
    asked: list[str] = field(default_factory=list)
    complaints: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The command as it is, with narrow limits."""
    folder = tmp_path_factory.mktemp("temporary")
    limits = ("--max_pixels", "50000", "--max_size", "1")
    process = subprocess.Popen(
        [sys.executable, "-m", "compacter_arch", "demo", "--port=0", "--device=cpu", *limits],
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    url = next((line.split()[0] for line in process.stdout if line.startswith("http://")), None)
    if url is None:
        pytest.fail(process.communicate(timeout=300)[1])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield Site(process, url, folder, browser)
        browser.close()
    process.kill()
    process.communicate()


@pytest.fixture
def page(site: Site) -> Iterator[Any]:
    """The page, opened anew."""
    page = site.browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    page.on("request", lambda request: site.asked.append(request.url))
    page.on("pageerror", lambda error: site.complaints.append(str(error)))
    page.on(
        "console",
        lambda told: site.complaints.append(told.text) if told.type == "error" else None,
    )
    page.goto(site.url)
    button(page, "Restore").wait_for()
    yield page
    page.close()


def button(page: Any, name: str) -> Any:
    """A button by what is written on it."""
    return page.get_by_role("button", name=name)


def choose(page: Any, file: Path) -> None:
    """Choose a file as a person does, through the window that the browser opens."""
    with page.expect_file_chooser() as window:
        page.get_by_text("Click to Upload").click()
    window.value.set_files(str(file))


def test_photograph_is_restored_compared_and_downloaded(site: Site, page: Any, tmp_path: Path):
    from skimage import data

    # A dark photograph, of which the task makes a brighter one.
    pixels = (data.astronaut()[:160:2, 100:340:2].astype(np.uint16) * 257 * 0.15).astype(np.uint16)
    file = tmp_path / "dark photo.tif"
    write_photo(file, Photo(pixels, np.full(pixels.shape[:2], 65535, np.uint16), SRGB))
    assert button(page, "Restore").is_disabled()
    choose(page, file)
    page.get_by_text("120 × 80, 16 bits, transparency", exact=True).wait_for()
    page.get_by_text("Brighten a dark photograph").click()
    button(page, "Restore").click()
    with page.expect_download() as download:
        button(page, "Download dark photo.tif").click()
    assert download.value.suggested_filename == file.name
    page.get_by_text("→ 120 × 80, 16 bits, transparency, in").wait_for()

    model, _ = load_fast("low_light")
    result = tmp_path / "result.tif"
    download.value.save_as(result)
    photo = read_photo(result)
    np.testing.assert_array_equal(photo.channels, restore(file, model))
    assert photo.icc == SRGB

    dark, bright = pixels.mean() / 257, photo.pixels.mean() / 257
    assert bright > 2 * dark
    half = brightness(page)
    assert half[0] < half[2] and abs(half[1] - half[0]) < 15
    comparison = page.locator("#comparison .slider-wrap").bounding_box()
    middle = comparison["y"] + comparison["height"] / 2
    page.mouse.move(comparison["x"] + comparison["width"] / 2, middle)
    page.mouse.down()
    page.mouse.move(comparison["x"] + comparison["width"] * 0.3, middle, steps=5)
    page.mouse.up()
    left = brightness(page)
    assert left[1] > half[1] + 20
    np.testing.assert_allclose(left[[0, 2]], half[[0, 2]], atol=3)


def brightness(page: Any) -> np.ndarray:
    """Mean of stripes of the comparison, at 15 to 25, 35 to 45 and 75 to 85 % of its width."""
    screen = Image.open(io.BytesIO(page.locator("#comparison .slider-wrap").screenshot()))
    values = np.asarray(screen.convert("L"), float)
    height, width = values.shape
    rows = values[height // 4 : height * 3 // 8]  # without the handle
    stripes = (slice(int(width * x), int(width * (x + 0.1))) for x in (0.15, 0.35, 0.75))
    return np.array([rows[:, stripe].mean() for stripe in stripes])


def test_what_is_no_photograph_is_refused_in_words(site: Site, page: Any, tmp_path: Path):
    file = tmp_path / "note.png"
    file.write_text("no photograph")
    choose(page, file)
    page.get_by_text("note.png: not an image, or of an unknown kind", exact=True).wait_for()
    assert str(site.folder) not in page.locator("body").inner_text()
    assert button(page, "Restore").is_disabled()


def test_too_many_pixels_are_refused_in_words(page: Any, tmp_path: Path):
    file = tmp_path / "bomb.png"
    file.write_bytes(png_that_claims(60_000, 60_000))
    choose(page, file)
    page.get_by_text("bomb.png: 60000 x 60000 are more than 0.05 million pixels").wait_for()
    assert button(page, "Restore").is_disabled()


def test_too_large_a_file_is_refused_in_words(page: Any, tmp_path: Path):
    file = tmp_path / "large.png"
    file.write_bytes(bytes(2**20 + 1))
    choose(page, file)
    page.get_by_text(
        re.compile(r"maximum allowed size of 1(\.0)? MB: .*large.png", re.I)
    ).wait_for()
    assert button(page, "Restore").is_disabled()


def test_nothing_is_fetched_from_elsewhere(site: Site, page: Any):
    assert site.asked
    assert {url for url in site.asked if not url.startswith((site.url, "blob:", "data:"))} == set()
    assert site.complaints == []


def test_nothing_is_left_behind(site: Site, page: Any, tmp_path: Path):
    file = tmp_path / "photo.png"
    write_photo(file, Photo(np.zeros((8, 8, 3), np.uint8)))
    choose(page, file)
    page.get_by_text("8 × 8", exact=True).wait_for()
    assert list(site.folder.rglob("photo.png"))
    site.process.send_signal(signal.SIGTERM)
    out, err = site.process.communicate(timeout=300)
    assert site.process.returncode == 0 and "Traceback" not in err
    assert list(site.folder.iterdir()) == []
