"""What the page does, without a browser: progress, stopping, errors in words, one at a time."""

from __future__ import annotations

import threading
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from torch import nn

pytest.importorskip("gradio", reason='needs pip install "compacter-arch[demo]"')

import gradio as gr

from compacter_arch.inference import restoration
from compacter_arch.inference.encoding import write_photo
from compacter_arch.inference.images import Photo
from compacter_arch.page.layout import Page
from compacter_arch.page.photos import Limits

from ..inference.tools import tiny

VISITOR = SimpleNamespace(session_hash="visitor")


@pytest.fixture
def photo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A file of four tiles."""
    monkeypatch.setattr(restoration, "choose_tile", lambda *size: 64)
    file = tmp_path / "photo.png"
    write_photo(file, Photo(np.random.default_rng(0).integers(0, 256, (80, 80, 3), np.uint8)))
    return str(file)


def test_progress_is_told_in_tiles_and_networks_are_loaded_once(tmp_path: Path, photo: str):
    loaded: list[str] = []

    def load(task: str) -> nn.Module:
        loaded.append(task)
        return tiny()

    def tell(share: tuple[int, int], desc: str, unit: str) -> None:
        told.append((*share, unit))

    page = Page(load, Limits(), tmp_path)
    for _ in range(2):
        told: list[tuple[int, int, str]] = []
        *_, download, facts = page.restore(photo, "sr_x2", VISITOR, tell)
        assert told == [(done, 4, "tiles") for done in range(1, 5)]
        assert facts.startswith("80 × 80 → 160 × 160, in ")
        assert Path(download.value["path"]).name == "photo.png" and download.visible
    assert loaded == ["sr_x2"]
    page.restore(photo, "jpeg", VISITOR, tell)
    assert loaded == ["sr_x2", "jpeg"]


def test_closing_the_page_or_the_server_stops_the_work(tmp_path: Path, photo: str):
    page = Page(lambda task: tiny(), Limits(), tmp_path)
    told: list[object] = []

    def leave(*share: object, **words: object) -> None:
        told.append(share)
        page.leave(VISITOR)

    with pytest.raises(gr.Error, match="stopped"):
        page.restore(photo, "sr_x2", VISITOR, leave)
    assert len(told) == 1 and not page.left
    page.restore(photo, "sr_x2", VISITOR, lambda *share, **words: None)
    page.closing = True
    with pytest.raises(gr.Error, match="stopped"):
        page.restore(photo, "sr_x2", VISITOR, leave)


def test_one_at_a_time(tmp_path: Path, photo: str):
    """Also where Gradio would start a second job."""
    inside, most = 0, 0
    lock = threading.Lock()

    class Watched(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = tiny()

        def forward(self, x: object) -> object:
            nonlocal inside, most
            with lock:
                inside += 1
                most = max(most, inside)
            y = self.network(x)
            with lock:
                inside -= 1
            return y

    watched = Watched()
    page = Page(lambda task: watched, Limits(), tmp_path)
    jobs = [
        threading.Thread(target=page.restore, args=(photo, "sr_x2", VISITOR, lambda *a, **b: None))
        for _ in range(3)
    ]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join()
    assert most == 1


def test_errors_are_words_and_no_html(tmp_path: Path):
    page = Page(lambda task: tiny(), Limits(), tmp_path)
    file = tmp_path / "<b>.png"
    file.write_text("no photograph")
    for act in (lambda: page.show(str(file)), lambda: page.restore(str(file), "jpeg", VISITOR)):
        with pytest.raises(gr.Error) as told:
            act()
        assert told.value.message == "&lt;b&gt;.png: not an image, or of an unknown kind"
    with pytest.raises(gr.Error, match="choose a photograph first"):
        page.restore(None, "jpeg", VISITOR)


def test_page_is_bounded(tmp_path: Path):
    blocks = Page(lambda task: tiny(), Limits(3, 5_000_000), tmp_path).blocks()
    assert blocks.delete_cache == (600, 7200) and not blocks.analytics_enabled
    assert blocks._queue.max_size == 16 and not blocks.api_open
    assert blocks._queue.default_concurrency_limit == 1
    assert {fn.concurrency_limit for fn in blocks.fns.values()} == {"default"}
    texts = "".join(str(block.value) for block in blocks.blocks.values() if hasattr(block, "value"))
    assert "up to 3 MB and 5\nmillion pixels" in texts
