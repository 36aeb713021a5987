"""Cuts photographs of public repositories into training tiles, without those of test sets.

    python experiments/photographs.py sources -o datasets/photographs --test datasets/Set5/GT ...

`sources/OWNER/NAME` are clones of the repositories below (those that are missing are told and left
out). Nothing is downloaded. Photographs that were stored as JPEG are reduced first, by a factor
that leaves none of their artefacts. Tiles do not overlap; their sides are multiples of 12, so that
they suit the scales 2, 3 and 4. A photograph is left out if it is small, damaged, transparent,
there already, or one of a test set: the same picture, a part of it, or another size of it. Name
every set that the weights will be tested on. Tiles of bare sky or wall, in which neighbouring
pixels hardly differ, are left out. Existing tiles are kept.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from compacter_arch.errors import UserError
from compacter_arch.prepare import imresize
from compacter_arch.prepare.files import image_header, list_images, read_image, write_png

UNIT = 12  # pixels; a multiple of the scales 2, 3 and 4
TILE = 480  # about the side of a tile, pixels
DETAIL = 1.0  # levels by which neighbouring pixels of a tile differ at least, in the mean
LEAST = 240  # the shortest side of a photograph
THUMBNAIL = 24  # side of the pictures that are compared as a whole
ALIKE = 0.985  # correlation of two of them that show the same
KEYPOINTS, AGREEING = 400, 25  # of a picture; those that must fit one transform of another


class Source(NamedTuple):
    """A folder of photographs in a repository.

    Attributes:
        folder: below the folder of all clones: ``OWNER/NAME/...``.
        pattern: of the names of its photographs; drawings and noisy ones have others.
        reduce: a whole number by which width and height are divided first.
    """

    folder: str
    pattern: str = "*.png"
    reduce: int = 1


SETS: dict[str, tuple[Source, ...]] = {
    "tecnick": (Source("bdaehlie/web_image_formats/images/tecnick"),),
    "wikipedia": (Source("bdaehlie/web_image_formats/images/wikipedia"),),
    "clic2025": (
        Source("imazen/codec-corpus/clic2025/validation"),
        Source("imazen/codec-corpus/clic2025/final-test"),
    ),
    "cid22": (
        Source("imazen/codec-corpus/CID22/CID22-512/training"),
        Source("imazen/codec-corpus/CID22/CID22-512/validation"),
    ),
    "pop": (Source("pop-os/wallpapers/original", "*.jpg", 2),),
    "elementary": (Source("elementary/wallpapers/backgrounds", "*.jpg", 2),),
    "polyu": (
        Source("csjunxu/PolyU-Real-World-Noisy-Images-Dataset/OriginalImages", "*_mean.JPG", 3),
    ),
}


class Fingerprint(NamedTuple):
    """What a picture is recognised by.

    Attributes:
        thumbnail: (THUMBNAIL ** 2,) float32, gray, of mean 0 and norm 1.
        points: (N, 2) float32, places of its keypoints.
        descriptors: (N, 32) uint8, ORB's.
    """

    thumbnail: np.ndarray
    points: np.ndarray
    descriptors: np.ndarray


def fingerprint(img: np.ndarray) -> Fingerprint:
    """The fingerprint of an (H, W, 3) uint8 image."""
    gray = cv2.cvtColor(img, cv2.COLOR_BGR2GRAY)
    small = cv2.resize(gray, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    thumbnail = small.astype(np.float32).ravel() - small.mean()
    thumbnail /= max(float(np.linalg.norm(thumbnail)), 1e-6)
    side = max(gray.shape)
    if side > TILE:
        size = [max(round(length * TILE / side), 1) for length in gray.shape[::-1]]
        gray = cv2.resize(gray, size, interpolation=cv2.INTER_AREA)
    found, descriptors = cv2.ORB_create(KEYPOINTS).detectAndCompute(gray, None)  # type: ignore[attr-defined]
    points = np.array([point.pt for point in found], np.float32).reshape(-1, 2)
    if descriptors is None:
        descriptors = np.zeros((0, 32), np.uint8)
    return Fingerprint(thumbnail, points, descriptors)


def is_same(one: Fingerprint, other: Fingerprint) -> bool:
    """Whether two pictures show the same, as a whole or in part, in any size."""
    if float(one.thumbnail @ other.thumbnail) > ALIKE:
        return True
    if min(len(one.points), len(other.points)) < AGREEING:
        return False
    matcher = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True)
    pairs = [m for m in matcher.match(one.descriptors, other.descriptors) if m.distance < 48]
    if len(pairs) < AGREEING:
        return False
    here = one.points[[m.queryIdx for m in pairs]]
    there = other.points[[m.trainIdx for m in pairs]]
    cv2.setRNGSeed(0)
    _, fitting = cv2.estimateAffinePartial2D(here, there, ransacReprojThreshold=3.0)
    return fitting is not None and int(fitting.sum()) >= AGREEING


def tiles(height: int, width: int) -> list[tuple[slice, slice]]:
    """Tiles of about ``TILE`` x ``TILE`` pixels that cover an image but for less than ``UNIT``."""
    rows, columns = spans(height), spans(width)
    return [(row, column) for row in rows for column in columns]


def spans(length: int) -> list[slice]:
    """The parts of one side."""
    count = max(round(length / TILE), 1)
    side = length // count // UNIT * UNIT
    return [slice(number * side, (number + 1) * side) for number in range(count)]


def detail(img: np.ndarray) -> float:
    """Levels by which neighbouring pixels of an (H, W, 3) uint8 image differ, in the mean."""
    gray = img.mean(2)
    down, right = (float(np.abs(np.diff(gray, axis=axis)).mean()) for axis in (0, 1))
    return (down + right) / 2


def photograph(file: Path, source: Source) -> np.ndarray | str:
    """A photograph as (H, W, 3) uint8, or why it is left out."""
    try:
        header = image_header(file)
        if min(header.size) // source.reduce < LEAST:
            return f"smaller than {LEAST} pixels"
        if header.mode not in ("RGB", "L"):
            return f"no plain photograph ({header.mode})"
        img = read_image(file, color=True)
    except UserError as error:
        return str(error).removeprefix(f"{file} ").removeprefix(f"{file}: ")
    if source.reduce > 1:
        height, width = (length // source.reduce * source.reduce for length in img.shape[:2])
        img = imresize(img[:height, :width], 1 / source.reduce)
    return img


def list_photographs(root: Path, names: Sequence[str]) -> Iterator[tuple[str, Source, Path]]:
    """The files of some sets: name of the set, folder, file.

    Raises:
        UserError: none of their folders is there.
    """
    missing = 0
    sources = [(name, source) for name in names for source in SETS[name]]
    for name, source in sources:
        folder = root / source.folder
        if not folder.is_dir():
            missing += 1
            print(f"{folder}: no such folder; {name} is left out", file=sys.stderr)
            continue
        yield from ((name, source, file) for file in sorted(folder.glob(source.pattern)))
    if missing == len(sources):
        raise UserError(f"{root}: holds none of the repositories; clone them to {root}/OWNER/NAME")


def read_tests(folders: Sequence[Path]) -> dict[Path, Fingerprint]:
    """The fingerprints of all test images.

    Raises:
        UserError: a folder holds no images, or one is damaged.
    """
    files = [file for folder in folders for file in list_images(folder)]
    return {file: fingerprint(read_image(file, color=True)) for file in files}


def cut(root: Path, output: Path, tests: Sequence[Path], names: Sequence[str]) -> None:
    """Write the tiles of all photographs, and tell what was done."""
    forbidden = read_tests(tests)
    known: dict[Path, Fingerprint] = {}
    counts = {name: [0, 0, 0] for name in names}  # photographs, tiles, pixels
    for name, source, file in list_photographs(root, names):
        img = photograph(file, source)
        if isinstance(img, str):
            print(f"{file}: left out: {img}")
            continue
        print_of = fingerprint(img)
        twin = next((other for other, its in forbidden.items() if is_same(print_of, its)), None)
        if twin is None:  # of the photographs themselves, only the same picture as a whole
            its_like = (f for f, its in known.items() if its.thumbnail @ print_of.thumbnail > ALIKE)
            twin = next(its_like, None)
        if twin is not None:
            print(f"{file}: left out: shows the same as {twin}")
            continue
        known[file] = print_of
        stem = re.sub(r"[^\w-]+", "_", file.stem)
        places = [
            (number, place)
            for number, place in enumerate(tiles(*img.shape[:2]), 1)
            if detail(img[place]) >= DETAIL
        ]
        for number, place in places:
            path = output / f"{name}_{stem}_{number:03d}.png"
            if not path.exists():
                write_png(path, np.ascontiguousarray(img[place]))
            counts[name][2] += img[place].size // 3
        counts[name][0] += 1
        counts[name][1] += len(places)
    for name, (photographs, cuts, pixels) in counts.items():
        print(f"{name}: {photographs:,} photographs, {cuts:,} tiles, {pixels / 1e6:.1f} megapixels")


def main(argv: Sequence[str] | None = None) -> int:
    """Read the arguments, then cut."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", type=Path, help="folder of the clones, OWNER/NAME")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder of the tiles")
    parser.add_argument(
        "--test",
        type=Path,
        nargs="+",
        required=True,
        metavar="FOLDER",
        help="folders of test images",
    )
    parser.add_argument("--sets", nargs="+", choices=SETS, default=list(SETS), help="default: all")
    args = parser.parse_args(argv)
    try:
        cut(args.sources, args.output, args.test, args.sets)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
