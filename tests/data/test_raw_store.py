"""Raw stores: the documented format, views as OpenCV would cut and turn, one line for damage."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compacter_arch.data.raw_store import Entry, RawStore, Turn, parse_index, view_of
from compacter_arch.prepare import make_raw
from compacter_arch.prepare.files import write_png

from ..prepare.tools import random_image


@pytest.fixture
def store(tmp_path: Path) -> RawStore:
    """Two images, of colour and gray."""
    write_png(tmp_path / "in" / "a (1).v2.png", random_image(1, (9, 12, 3)))
    write_png(tmp_path / "in" / "b.png", random_image(2, (7, 5)))
    make_raw(tmp_path / "in", tmp_path / "a.raw")
    return RawStore(tmp_path / "a.raw")


def test_the_format_is_the_documented_one(store: RawStore) -> None:
    first, second = (store.root / "meta_info.txt").read_text().splitlines()
    assert first.startswith("a (1).v2 (9,12,3) 0 ") and second.startswith("b (7,5,1) 324 ")
    assert (store.root / "images.bin").stat().st_size == 324 + 35
    images = store.root / "images.bin"
    plain = np.memmap(images, np.uint8, "r", 0, (9, 12, 3))
    np.testing.assert_array_equal(plain, random_image(1, (9, 12, 3)))
    np.testing.assert_array_equal(store["a (1).v2"], plain)
    np.testing.assert_array_equal(store["b"][..., 0], random_image(2, (7, 5)))
    assert not store["b"].flags.writeable and store.names() == ["a (1).v2", "b"]


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_view_is_what_opencv_makes(data: st.DataObject) -> None:
    """A rectangle, flipped, flipped, transposed, its channels reversed."""
    channels = data.draw(st.sampled_from([1, 3]))
    height, width = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 9))
    offset = data.draw(st.integers(0, 50))
    top, left = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    h, w = data.draw(st.integers(1, height - top)), data.draw(st.integers(1, width - left))
    turn = data.draw(st.builds(Turn, st.booleans(), st.booleans(), st.booleans()))
    pixels = np.random.default_rng(offset).integers(0, 256, 400, np.uint8)
    entry = Entry("a", (height, width, channels), offset, 0)

    image = pixels[offset : entry.end].reshape(height, width, channels)
    image = np.broadcast_to(image, (height, width, 3))[top : top + h, left : left + w].copy()
    image = cv2.flip(image, 1) if turn.hflip else image
    image = cv2.flip(image, 0) if turn.vflip else image
    image = image.transpose(1, 0, 2) if turn.rot90 else image
    start, shape, strides = view_of(entry, top, left, h, w, turn)
    seen = np.ndarray(shape, np.uint8, pixels, start, strides)
    np.testing.assert_array_equal(seen, image[..., ::-1].transpose(2, 0, 1))


@settings(max_examples=50, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text("ab1 é漢(),.", min_size=1),
            st.tuples(st.integers(1, 10**5), st.integers(1, 10**5), st.sampled_from([1, 3])),
            st.integers(0, 2**32 - 1),
        ),
        min_size=1,
    )
)
def test_an_index_reads_back(images: list[tuple[str, tuple[int, int, int], int]]) -> None:
    entries, end = [], 0
    for name, shape, crc in images:
        entries.append(Entry(name, shape, end, crc))
        end = entries[-1].end
    text = "".join(entry.line() for entry in entries)
    assert list(parse_index(text, Path("a.raw/meta_info.txt"))) == entries


def test_a_process_opens_the_file_for_itself(store: RawStore) -> None:
    """What a spawned worker is sent holds no pixels."""
    wanted = store["b"].copy()
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert received._pixels is None
    np.testing.assert_array_equal(received["b"], wanted)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-3])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "images.bin").unlink(), r"images\.bin: missing; remove .*a\.raw and"),
        (lambda root: (root / "meta_info.txt").unlink(), r"meta_info\.txt: missing; remove"),
        (lambda root: cut(root / "images.bin"), r"images\.bin: 356 bytes do not fit 359 of 2 ima"),
        (lambda root: cut(root / "meta_info.txt"), r"meta_info\.txt, line 2: is damaged; remove"),
        (lambda root: (root / "meta_info.txt").write_text(""), r"line 1: is damaged; remove"),
        (lambda root: (root / "meta_info.txt").write_bytes(b"\xff\xff"), r"is no text; remove"),
        (
            lambda root: (root / "meta_info.txt").write_text(
                (root / "meta_info.txt").read_text().replace(" 324 ", " 325 ")
            ),
            r"meta_info\.txt, line 2: is damaged; remove .* anew with basicsr prepare raw",
        ),
        (
            lambda root: (root / "meta_info.txt").write_text(
                (root / "meta_info.txt").read_text().replace("b (", "a (1).v2 (")
            ),
            r"images\.bin: 359 bytes do not fit 359 of 1 images",
        ),
    ],
)
def test_damage_is_one_line(
    store: RawStore, damage: Callable[[Path], object], message: str
) -> None:
    damage(store.root)
    with pytest.raises(ValueError, match=message):
        RawStore(store.root)


def test_a_list_chooses_images(store: RawStore, tmp_path: Path) -> None:
    listed = tmp_path / "list.txt"
    listed.write_text("b.png (7,5,1)\n")
    assert store.names(str(listed)) == ["b"]
    listed.write_text("b.png (7,5,1)\nc.png (7,5,1)\n")
    with pytest.raises(ValueError, match=r"list\.txt: 'c' is not in .*a\.raw; correct the list"):
        store.names(str(listed))
