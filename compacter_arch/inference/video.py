"""Videos whose frames are changed one by one, with everything else in them kept as it is.

Kept are the container, time stamps (also of a variable frame rate), the shape of the pixels, depth,
colors and how densely they are stored; copied are sound, subtitles, covers, fonts, chapters and
tags. A rotation is carried out, as with photographs. Not kept are other tracks, as of positions,
and what HDR tells of the display it was made on. Memory does not grow with the length.
"""

from __future__ import annotations

import importlib.util
import math
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..atomic import part_of
from ..errors import UserError
from .frames import FrameKind
from .video_writer import CONTAINERS, VideoWriter, telling

if TYPE_CHECKING:
    from av import Packet, VideoFrame
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

MISSING = 'videos need PyAV; give: pip install "compacter-arch[video]"'
CUT = 0.2  # seconds that may be missing at the end

Change = Callable[[np.ndarray], Sequence[np.ndarray]]
Progress = Callable[[int, int], None]  # frames done, frames in all


def is_video(path: Path) -> bool:
    """Whether a file is named as a video."""
    return path.suffix.lower() in CONTAINERS


def has_pyav() -> bool:
    """Whether videos can be read and written."""
    return importlib.util.find_spec("av") is not None


def rewrite_video(
    source: Path, targets: Sequence[Path], change: Change, progress: Progress | None = None
) -> None:
    """Change every frame of a video. Each target is complete or absent at any moment.

    Args:
        source: to read.
        targets: to write, named as videos; the first gets sound and all else, others the picture.
        change: of (H, W) gray or (H, W, 3) RGB, ``uint8`` or ``uint16``, makes a frame for each
            target, of the same type and always of the same size.
        progress: told after every frame; frames in all are 0 where the file does not tell.

    Raises:
        UserError: PyAV is not there; the video is damaged, or of a kind that is not kept (see
            :meth:`FrameKind.of`); a target cannot be written. One line that names the file.
    """
    parts = [part_of(target) for target in targets]
    try:
        if not has_pyav():
            raise UserError(MISSING)
        with ExitStack() as stack:
            rewrite(source, targets, parts, change, progress, stack)
        for part, target in zip(parts, targets, strict=True):
            with telling(f"cannot be written to {target}"):
                os.replace(part, target)
    except (UserError, MemoryError) as error:
        raise UserError(f"{source}: {error}") from error
    finally:
        for part in filter(Path.exists, parts):
            part.unlink()


def rewrite(
    source: Path,
    targets: Sequence[Path],
    parts: Sequence[Path],
    change: Change,
    progress: Progress | None,
    stack: ExitStack,
) -> None:
    """As :func:`rewrite_video`, into ``parts``, with files that ``stack`` closes.

    Raises:
        UserError: without the name of the file.
    """
    import av

    with telling("damaged, or no video"):
        reader = stack.enter_context(av.open(str(source), metadata_errors="replace"))
    video, others = tracks(reader)
    writers = [
        stack.enter_context(VideoWriter(target, part, reader, video, [] if number else others))
        for number, (target, part) in enumerate(zip(targets, parts, strict=True))
    ]
    kind, done, total = None, 0, frame_count(reader, video)
    for item in contents(reader, video, others):
        if isinstance(item, av.Packet):
            writers[0].copy(item)
            continue
        kind = kind or FrameKind.of(item)
        for writer, array in zip(writers, change(kind.array(item)), strict=True):
            writer.write(array, item, kind)
        done += 1
        if progress is not None:
            progress(done, max(done, total) if total else 0)
    if not done:
        raise UserError("damaged: holds no frame")
    for writer in writers:
        writer.finish()


def tracks(reader: InputContainer) -> tuple[VideoStream, list[Stream]]:
    """The one track of moving pictures, and those to be copied.

    Raises:
        UserError: there is none, or there are several.
    """
    from av.stream import Disposition

    moving = [s for s in reader.streams.video if not s.disposition & Disposition.attached_pic]
    if len(moving) != 1:
        count = len(moving) or "no"
        raise UserError(f"holds {count} video tracks, not one; extract the one to restore")
    kinds = ("video", "audio", "subtitle", "attachment")
    moving[0].thread_type = "AUTO"
    return moving[0], [s for s in reader.streams if s.type in kinds and s is not moving[0]]


def contents(
    reader: InputContainer, video: VideoStream, others: Sequence[Stream]
) -> Iterator[VideoFrame | Packet]:
    """Frames of the one track and packets of the others, as they come.

    Raises:
        UserError: something is damaged or missing.
    """
    expected, end = length(reader, video, others), 0.0
    read = [stream for stream in others if stream.type != "attachment"]
    place = "at its beginning"
    early: int | None = None
    with telling(lambda: f"damaged {place}"):
        for packet in reader.demux(video, *read):
            corrupt = packet.is_corrupt
            if packet.pts is not None and packet.time_base:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base))
            if packet.stream is not video:
                if packet.size:  # not the mark of the end
                    yield packet
                continue
            for frame in video.decode(packet):
                corrupt = corrupt or frame.is_corrupt
                if not corrupt:
                    if reader.format.name == "avi" and frame.pts is not None:
                        # AVI tells no times of display, and those that FFmpeg guesses are late.
                        early = frame.pts if early is None else early
                        frame.pts -= early
                    place = f"after {frame.time or 0:.2f} s"
                    yield frame
            if corrupt:
                raise UserError(f"damaged {place}")
    if end < expected - CUT:
        raise UserError(f"damaged: ends after {end:.2f} of {expected:.2f} s")


def length(reader: InputContainer, video: VideoStream, others: Sequence[Stream]) -> float:
    """When the last packet ends as the file tells, in seconds; 0 if it does not."""
    if reader.format.name == "avi":  # the rest FFmpeg takes from what is there
        return video.frames / float(video.average_rate or math.inf)
    ends = [
        float((stream.duration + (stream.start_time or 0)) * stream.time_base)
        for stream in (video, *others)
        if stream.duration and stream.time_base
    ]
    return max(ends, default=(reader.duration or 0) / 1e6)


def frame_count(reader: InputContainer, video: VideoStream) -> int:
    """How many frames there are, about; 0 if the file does not tell."""
    return video.frames or round((reader.duration or 0) / 1e6 * float(video.average_rate or 0))
