"""Small datasets for every task from the photographs inside scikit-image: no download."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from compacter_arch.errors import UserError

from .degradations import add_rain, darken
from .files import write_png
from .lr import make_lr

# The wheels of scikit-image 0.19, 0.22, 0.24 and 0.26 all hold these. Its other images (moon,
# retina, hubble_deep_field, ...) show little detail or are no photographs.
TRAIN = (
    "brick.png",
    "camera.png",
    "chelsea.png",
    "coins.png",
    "grass.png",
    "gravel.png",
    "ihc.png",
    "motorcycle_left.png",
    "motorcycle_right.png",
    "rocket.jpg",
)
# Two more photographs, cut to what is sharp in them: file, then (top, left) of each cut.
VAL = (
    ("astronaut.png", ((0, 120), (240, 252))),
    ("coffee.png", ((0, 120), (144, 336))),
)
TRAIN_SIZE, TRAIN_STEP = 192, 96  # pixels; overlapping, so that crops of 96 reach everything
VAL_SIZE = 252  # pixels; both sizes fit x2, x3 and x4
SCALES = (2, 3, 4)


def make_demo(root: Path) -> Path:
    """Write ``datasets/demo/{train,val}/{GT,LRx2,LRx3,LRx4,Rain,LowLight}`` below ``root``.

    The two halves share no photograph. LR images are MATLAB's bicubic, see
    :func:`~compacter_arch.prepare.lr.make_lr`; rain and darkness follow from the name of the image.
    Noise and JPEG artefacts need no files. What is there already is kept; a run that was
    interrupted is completed by the next.

    Args:
        root: The folder that holds ``datasets``; created.

    Returns:
        ``root/datasets/demo``.

    Raises:
        UserError: The installed scikit-image brings no photographs.
    """
    demo = root / "datasets" / "demo"
    for half, cuts in (("train", _train_cuts()), ("val", _val_cuts())):
        for name, img in cuts:
            images = {"GT": lambda img, random: img, "Rain": add_rain, "LowLight": darken}
            for folder, make in images.items():
                path = demo / half / folder / f"{name}.png"
                if not path.exists():
                    seed = zlib.crc32(f"{folder}/{name}".encode())
                    write_png(path, make(img, np.random.RandomState(seed)))
        for scale in SCALES:
            make_lr(demo / half / "GT", demo / half / f"LRx{scale}", scale)
    return demo


def _train_cuts() -> Iterator[tuple[str, np.ndarray]]:
    """Squares on a grid; the last row and column are moved back to end at the border."""
    for file in TRAIN:
        img = _bundled(file)
        for top in _starts(img.shape[0]):
            for left in _starts(img.shape[1]):
                cut = img[top : top + TRAIN_SIZE, left : left + TRAIN_SIZE]
                yield f"{Path(file).stem}_{top:03d}_{left:03d}", cut


def _starts(length: int) -> list[int]:
    return [*range(0, length - TRAIN_SIZE, TRAIN_STEP), length - TRAIN_SIZE]


def _val_cuts() -> Iterator[tuple[str, np.ndarray]]:
    for file, corners in VAL:
        img = _bundled(file)
        for number, (top, left) in enumerate(corners, 1):
            cut = img[top : top + VAL_SIZE, left : left + VAL_SIZE]
            yield f"{Path(file).stem}_{number}", cut


def _bundled(file: str) -> np.ndarray:
    """A photograph of scikit-image as (H, W, 3) BGR; read from its wheel, never fetched."""
    spec = find_spec("skimage")
    if spec is None or spec.origin is None:
        raise UserError("scikit-image is not installed; pip install scikit-image")
    path = Path(spec.origin).parent / "data" / file
    if not path.exists():
        raise UserError(
            f"{path}: missing; pip install scikit-image brings it, some packagers do not"
        )
    with Image.open(path) as img:  # OpenCV would warn of a colour profile
        return cv2.cvtColor(np.asarray(img.convert("RGB")), cv2.COLOR_RGB2BGR)
