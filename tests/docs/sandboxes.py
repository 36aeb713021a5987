"""What the reader of a page has at hand before the first line: small photographs of their own."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from ..prepare.tools import smooth_image


def photograph(path: Path, seed: int, size: tuple[int, int] = (82, 98)) -> None:
    """A smooth image of (height, width) pixels."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(smooth_image(seed, *size)).save(path)


def of_training(root: Path) -> None:
    """Photographs to train on and to measure with, and pairs of other names."""
    for number in range(3):
        photograph(root / f"photos/{number}.jpg", number, (134, 149))
        for half in ("dark/low", "bright/high"):
            photograph(root / f"captures/{half}{number}.png", number)
    photograph(root / "holdout/cup.jpg", 9)


def of_tables(root: Path) -> None:
    """An archive with Set5's names."""
    for seed, name in enumerate(("baby", "bird", "butterfly", "head", "woman")):
        photograph(root / f"downloads/benchmark/Set5/HR/{name}.png", seed)


def of_deploying(root: Path) -> None:
    """A video of three frames."""
    import av

    photograph(root / "photo.jpg", 0)
    with av.open(str(root / "clip.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.height, stream.width, stream.pix_fmt = 48, 64, "yuv420p"
        for seed in range(3):
            frame = av.VideoFrame.from_ndarray(smooth_image(seed, 48, 64), "bgr24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def of_photographs(root: Path) -> None:
    """One photograph, a folder of them, scans."""
    photograph(root / "photo.jpg", 0)
    photograph(root / "holiday/first/beach.jpg", 1)
    photograph(root / "holiday/hotel.jpg", 2)
    photograph(root / "scans/1.tif", 3)
