"""Frames of a video as arrays of RGB and back, in their depth and by their own color matrix."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from .images import upright

if TYPE_CHECKING:
    from av import VideoFrame

# Numbers of ITU-T H.273, as FFmpeg has them.
RGB, BT709, UNKNOWN, BT601 = 0, 1, 2, 5
MATRICES = (BT709, 4, BT601, 6, 7, 9)  # which can be converted; 6 is BT.601, too, 9 BT.2020
LIMITED, FULL = 1, 2  # luma of 8 bits from 16 to 235, or all values
# How FFmpeg converts with the least error: bicubic, all chroma in and out, rounded exactly. By its
# default, colors at half density are off by some levels.
EXACTLY = 4 | 0x2000 | 0x4000 | 0x40000
# EXIF orientations by (a, b, c, d): a pixel at (x, y) is shown at (a x + c y, b x + d y).
ORIENTATIONS = {
    (1, 0, 0, 1): 1,
    (-1, 0, 0, 1): 2,
    (-1, 0, 0, -1): 3,
    (1, 0, 0, -1): 4,
    (0, 1, 1, 0): 5,
    (0, 1, -1, 0): 6,
    (0, -1, -1, 0): 7,
    (0, -1, 1, 0): 8,
}


@dataclass(frozen=True)
class FrameKind:
    """What the frames of a video have in common; :meth:`of` tells it of the first one.

    Args:
        size: width and height as stored, in pixels.
        name: FFmpeg's, of the pixel format.
        matrix: between RGB and luma and chroma; a guess where the file does not tell.
        color_range: :data:`LIMITED` or :data:`FULL`.
        gray: whether it has one channel.
        deep: whether it has more than 8 bits per channel.
        chroma: how densely color is stored: ``420``, ``422`` or ``444``.
        orientation: 1 to 8, as in EXIF data.
    """

    size: tuple[int, int]
    name: str
    matrix: int
    color_range: int
    gray: bool
    deep: bool
    chroma: str
    orientation: int

    @classmethod
    def of(cls, frame: VideoFrame) -> FrameKind:
        """The kind of a frame.

        Raises:
            UserError: it is interlaced, transparent, turned by no quarter turn, or of colors
                that cannot be converted.
        """
        form = frame.format
        if frame.interlaced_frame:
            raise UserError("is interlaced; deinterlace it first")
        if any(component.is_alpha for component in form.components) and not form.has_palette:
            raise UserError("is transparent; save its frames as images and restore those")
        matrix = BT709 if form.is_rgb else int(frame.colorspace)
        if matrix in (RGB, UNKNOWN):  # as players guess
            matrix = BT709 if frame.width >= 1280 or frame.height > 576 else BT601
        if matrix not in MATRICES:
            raise UserError(f"has colors (matrix {matrix} of H.273) that cannot be converted")
        gray = form.name.startswith("gray")
        across, down = form.chroma_width(16), form.chroma_height(16)
        full = form.name.startswith("yuvj") or frame.color_range == FULL
        full = full or (gray and frame.color_range != LIMITED)
        return cls(
            size=(frame.width, frame.height),
            name=form.name,
            matrix=matrix,
            color_range=FULL if full else LIMITED,
            gray=gray,
            deep=max(component.bits for component in form.components) > 8,
            chroma="420" if gray or down < 16 else "422" if across < 16 else "444",
            orientation=orientation_of(frame),
        )

    @property
    def turned(self) -> bool:
        """Whether width and height change places."""
        return self.orientation >= 5

    def array(self, frame: VideoFrame) -> np.ndarray:
        """The pixels of a frame, upright: (H, W) gray or (H, W, 3) RGB, ``uint8`` or ``uint16``.

        Raises:
            UserError: it is of another size or format than the first one.
        """
        if (frame.width, frame.height, frame.format.name) != (*self.size, self.name):
            raise UserError(
                f"changes at {frame.time or 0:.2f} s from {self.size[0]} x {self.size[1]} "
                f"{self.name} to {frame.width} x {frame.height} {frame.format.name}; cut it there"
            )
        if self.gray:  # as luma, since FFmpeg takes all gray for that of the full range
            form = "yuv444p16le" if self.deep else "yuv444p"
            frame = frame.reformat(format=form, dst_color_range=FULL)
        frame.colorspace, frame.color_range = self.matrix, self.color_range
        array = frame.reformat(
            format="rgb48le" if self.deep else "rgb24",
            dst_color_range=FULL,
            interpolation=EXACTLY,
        ).to_ndarray()
        return upright(array[..., 0] if self.gray else array, self.orientation)

    def frame(self, array: np.ndarray, pixel_format: str) -> VideoFrame:
        """A frame in a format of luma and chroma, of an array as :meth:`array` gives them."""
        from av import VideoFrame

        rgb = np.dstack([array] * 3) if array.ndim == 2 else np.ascontiguousarray(array)
        frame = VideoFrame.from_ndarray(rgb, "rgb48le" if self.deep else "rgb24")
        frame.colorspace, frame.color_range = self.matrix, FULL
        return frame.reformat(
            format=pixel_format, dst_color_range=self.color_range, interpolation=EXACTLY
        )


def orientation_of(frame: VideoFrame) -> int:
    """Orientation that the file asks for, 1 to 8 as in EXIF data.

    Raises:
        UserError: it is none of these.
    """
    matrix: Any = frame.side_data.get("DISPLAYMATRIX")  # a buffer
    if matrix is None:
        return 1
    a, b, _, c, d = (round(number / 2**16, 2) for number in struct.unpack("=9i", matrix)[:5])
    if (a, b, c, d) not in ORIENTATIONS:
        raise UserError("is turned by an angle that is no quarter turn; turn it first")
    return ORIENTATIONS[a, b, c, d]
