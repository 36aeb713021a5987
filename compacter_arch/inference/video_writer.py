"""One video file that is written: new frames, and what is copied beside them.

MP4, MOV and MKV get H.264, or HEVC for more than 8 bits; AVI gets H.264, WebM VP9, or AV1 for more
than 8 bits; more than 10 become 10. Where color is stored at half the density, it stays so; RGB
becomes 4:4:4, and so do odd sizes, which H.264 has at no other.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import UserError
from .frames import FrameKind

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
    ".avi": "avi",
}
# For 8 bits, and for more. The first is taken that this build of FFmpeg has.
ENCODERS = {"webm": (["libvpx-vp9"], ["libsvtav1"]), "avi": (["libx264"], ["libx264"])}
OTHER_ENCODERS = (["libx264"], ["libx265", "libx264"])
OPTIONS = {  # hardly to be told from the frames as they are given
    "libx264": {"crf": "16"},
    "libx265": {"crf": "18", "x265-params": "log-level=none"},
    "libvpx-vp9": {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "2", "row-mt": "1"},
    "libsvtav1": {"crf": "20", "preset": "6"},
}
# Tags of the file or of the track as it was, by how they begin.
STALE = (
    *("major_brand", "minor_version", "compatible_brands", "vendor_id", "encoder", "rotate"),
    *("duration", "bps", "number_of_", "_statistics"),
)
APPLE = ("mp4", "mov")  # call HEVC hvc1
USUAL_RATE = Fraction(25)  # frames in a second, where nothing tells


@contextmanager
def telling(what: str | Callable[[], str]) -> Iterator[None]:
    """Turn an error of FFmpeg or of the file system into one line: ``what``, and the cause.

    Raises:
        UserError: instead of it.
    """
    import av

    try:
        yield
    except (av.FFmpegError, OSError) as error:
        cause = getattr(error, "strerror", None) or error
        raise UserError(f"{what if isinstance(what, str) else what()} ({cause})") from error


class VideoWriter:
    """Writes a video of at least one frame, in a ``with`` statement; :meth:`finish` completes it.

    Args:
        target: the name that it will have; tells the container.
        part: the file to write.
        reader: the video that it comes from.
        video: the track whose frames are replaced.
        others: the tracks that are copied.

    Raises:
        UserError: it cannot be written; as do the methods.
    """

    def __init__(
        self,
        target: Path,
        part: Path,
        reader: InputContainer,
        video: VideoStream,
        others: Sequence[Stream],
    ) -> None:
        import av

        self.video, self.others = video, others
        self.trouble = f"cannot be written to {target}"
        self.waiting: list[Packet] = []
        self.track: Any = None  # a video stream, once there is a frame
        self.copies: dict[int, Stream] = {}
        self.count = 0  # of frames
        self.time: int | None = None  # of the last frame, in the track's time base
        tags = tags_of(reader.metadata)
        named = any(key.startswith("com.") for key in tags)  # only so MP4 has a place for these
        with telling(self.trouble):
            part.parent.mkdir(parents=True, exist_ok=True)
            self.container = av.open(
                str(part),
                "w",
                format=CONTAINERS[target.suffix.lower()],
                options={"movflags": "use_metadata_tags"} if named else {},
            )
            self.container.metadata.update(tags)
            self.container.set_chapters(reader.chapters())

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(self, *exception: object) -> None:
        with telling(self.trouble):
            self.container.close()

    def write(self, array: np.ndarray, origin: VideoFrame, kind: FrameKind) -> None:
        """Add a frame.

        Args:
            array: (H, W) or (H, W, 3) of the kind, always of the same size.
            origin: the frame that it comes from; tells its time.
            kind: of ``origin``.
        """
        with telling(self.trouble):
            if self.track is None:
                self.start(array.shape[1], array.shape[0], kind)
            frame = kind.frame(array, self.track.pix_fmt)
            frame.time_base = self.track.codec_context.time_base
            unit = (origin.time_base or frame.time_base) / frame.time_base
            frame.duration = round((origin.duration or 0) * unit)
            frame.pts = self.time = self.next_time(origin.pts, unit)
            self.container.mux(self.track.encode(frame))
            self.count += 1

    def next_time(self, pts: int | None, unit: Fraction) -> int:
        """When a frame is shown, later than the last one even if that is not what the file says.

        Args:
            pts: what the file says, if anything.
            unit: of ``pts``, in the track's time base.
        """
        if self.time is None:
            return round((pts or 0) * unit)
        if pts is None:
            context = self.track.codec_context
            return self.time + max(round(1 / context.framerate / context.time_base), 1)
        return max(round(pts * unit), self.time + 1)

    def copy(self, packet: Packet) -> None:
        """Add a packet of a copied track."""
        if self.track is None:
            self.waiting.append(packet)
            return
        with telling(self.trouble):
            packet.stream = self.copies[packet.stream.index]
            self.container.mux(packet)

    def finish(self) -> None:
        """Add what the encoder has kept back."""
        with telling(self.trouble):
            for packet in self.track.encode():
                if self.count <= 2:  # x265 tells nonsense of so few; nothing is out of order
                    packet.dts = packet.pts
                self.container.mux(packet)

    def start(self, width: int, height: int, kind: FrameKind) -> None:
        """Set up the tracks in the order of the source, and add what had to wait for that."""
        for stream in sorted([self.video, *self.others], key=lambda stream: stream.index):
            if stream is self.video:
                track = self.track = self.add_video(width, height, kind)
            else:
                track = self.add_copy(stream)
            track.metadata.update(tags_of(stream.metadata))
            track.disposition = stream.disposition
        waiting, self.waiting = self.waiting, []
        for packet in waiting:
            self.copy(packet)

    def add_video(self, width: int, height: int, kind: FrameKind) -> Any:
        """The track of the frames."""
        from av.codec.context import Flags

        form, source = self.container.format.name, self.video
        encoder, pixel_format = choose_encoder(form, kind, width, height)
        rate = source.average_rate or source.guessed_rate or USUAL_RATE
        track: Any = self.container.add_stream(encoder, rate=rate, options=OPTIONS[encoder])
        context = track.codec_context
        context.width, context.height, context.pix_fmt = width, height, pixel_format
        context.time_base = 1 / rate if form == "avi" else source.time_base
        context.flags |= Flags.frame_duration
        context.colorspace, context.color_range = kind.matrix, kind.color_range
        context.color_primaries = source.codec_context.color_primaries
        context.color_trc = source.codec_context.color_trc
        if aspect := source.sample_aspect_ratio:
            context.sample_aspect_ratio = 1 / aspect if kind.turned else aspect
        if form == "avi":
            context.max_b_frames = 0  # it has no times to put them in order
        if encoder == "libx265" and form in APPLE:
            context.codec_tag = "hvc1"
        return track

    def add_copy(self, source: Stream) -> Stream:
        """A track for the packets of another one."""
        try:
            copy = self.container.add_stream_from_template(source, opaque=True)
        except ValueError as error:
            form = self.container.format.name
            raise UserError(f"{self.trouble}: its {source.type} track ({error}); {form}") from error
        self.copies[source.index] = copy
        return copy


def tags_of(metadata: Mapping[str, str]) -> dict[str, str]:
    """Tags that are still true of the new file or track."""
    return {key: text for key, text in metadata.items() if not key.lower().startswith(STALE)}


def choose_encoder(form: str, kind: FrameKind, width: int, height: int) -> tuple[str, str]:
    """An encoder and its pixel format for frames of a kind in a container.

    Raises:
        UserError: this build of FFmpeg has none.
    """
    encoders = ENCODERS.get(form, OTHER_ENCODERS)[kind.deep]
    odd = width % 2 or (height % 2 and kind.chroma == "420")
    chroma = "444" if odd and form != "webm" else kind.chroma
    depth = "10le" if kind.deep else ""
    for pixel_format in (f"yuv{chroma}p{depth}", f"yuv420p{depth}"):
        for encoder in encoders:
            if pixel_format in pixel_formats(encoder):
                return encoder, pixel_format
    raise UserError(f"no encoder ({', '.join(encoders)}) in this build of PyAV")


def pixel_formats(encoder: str) -> list[str]:
    """What an encoder takes; nothing if it is not there."""
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        formats = Codec(encoder, "w").video_formats
    except UnknownCodecError:
        return []
    return [pixel_format.name for pixel_format in formats or []]
