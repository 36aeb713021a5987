"""Videos restored frame by frame: what changes, and all that must not."""

from __future__ import annotations

import signal
import time
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from compacter_arch.errors import UserError
from compacter_arch.inference import selection, video, video_writer
from compacter_arch.inference.frames import EXACTLY, FULL, LIMITED, MATRICES, FrameKind
from compacter_arch.inference.images import upright
from compacter_arch.inference.restoration import Job, Restorer, restore_files, restore_video
from compacter_arch.inference.video import rewrite_video

from ..conftest import Project
from .tools import Double, tiny_weights

av = pytest.importorskip("av", reason='needs PyAV: pip install "compacter-arch[video]"')

TICK = Fraction(1, 1000)  # second; the unit of the times below
UNEVEN = [0, 40, 80, 200, 240, 320]
EVEN = [40 * number for number in range(6)]
CODECS = {".webm": ("libvpx-vp9", "libopus"), ".avi": ("libx264", "mp2")}
LOSSLESS = {
    "libx264": {"qp": "0"},
    "libx265": {"x265-params": "lossless=1:log-level=none"},
    "libvpx-vp9": {"lossless": "1"},
}
BT709, BT601, BT2020, PQ = 1, 6, 9, 16
FLAGS = av.codec.context.Flags
INTERLACED = FLAGS.interlaced_dct | FLAGS.interlaced_me | FLAGS.global_header


def picture(number: int = 0, size: tuple[int, int] = (48, 64)) -> np.ndarray:
    """(H, W, 3), smooth and colorful, brighter with each number."""
    noise = np.random.default_rng(0).integers(0, 200, (4, 5, 3), np.uint8)
    image = cv2.resize(noise, size[::-1], interpolation=cv2.INTER_CUBIC)
    return (image.clip(0, 200) + 8 * (number % 6)).astype(np.uint8)


def make_video(
    file: Path,
    times: list[int] = UNEVEN,
    *,
    size: tuple[int, int] = (48, 64),
    pixel_format: str = "yuv420p",
    codec: str = "",
    options: dict[str, str] | None = None,
    rotation: int = 0,
    tags: dict[str, str] | None = None,
    rich: bool = False,
    **context: Any,
) -> Path:
    """A video with frames (:func:`picture`) at ``times``, lossless but for density of colour.

    Args:
        rich: with a subtitle, a chapter and a cover (MP4).
        context: of the encoder, ``colorspace`` and ``color_range`` among them.
    """
    context = {"colorspace": BT601, "color_range": LIMITED, **context}
    encoder, sounds = CODECS.get(file.suffix, ("libx264", "aac"))
    encoder = codec or encoder
    muxing = {"movflags": "use_metadata_tags"} if file.suffix == ".mov" else {}
    with av.open(str(file), "w", options=muxing) as out:
        out.metadata.update(tags or {})
        stream = out.add_stream(encoder, 25, {**LOSSLESS.get(encoder, {}), **(options or {})})
        stream.width, stream.height, stream.pix_fmt = size[1], size[0], pixel_format
        stream.codec_context.time_base = Fraction(1, 25) if file.suffix == ".avi" else TICK
        stream.codec_context.flags |= FLAGS.frame_duration
        for key, value in context.items():
            setattr(stream.codec_context, key, value)
        if rotation:
            if not hasattr(stream, "set_display_rotation"):
                pytest.skip("this PyAV cannot write rotations")
            stream.set_display_rotation(rotation)
        stream.metadata["language"] = "fin"
        sound = out.add_stream(sounds, 48000)
        sound.metadata["language"] = "swe"
        packets = add_extras(out) if rich else []
        for number, pts in enumerate(times):
            frame = av.VideoFrame.from_ndarray(picture(number, size))
            matrix = context["colorspace"] if context["colorspace"] in MATRICES else BT601
            frame.colorspace, frame.color_range = matrix, FULL
            frame = frame.reformat(
                format=pixel_format,
                dst_color_range=context["color_range"],
                interpolation=EXACTLY,
            )
            frame.pts, frame.time_base = pts, TICK
            frame.duration = 40 if number < len(times) - 1 else 90
            packets += stream.encode(frame)
        wave = np.sin(np.arange(48 * (times[-1] + 40)) / 20, dtype=np.float32)[None] / 2
        frame = av.AudioFrame.from_ndarray(np.vstack([wave] * 2), "fltp", "stereo")
        frame.sample_rate = 48000
        for packet in [*packets, *stream.encode(), *sound.encode(frame), *sound.encode()]:
            out.mux(packet)
    return file


def add_extras(out: Any) -> list[Any]:
    """A subtitle, a chapter and a cover, in the container or as packets for it."""
    out.set_chapters(
        [{"id": 1, "start": 0, "end": 200, "time_base": TICK, "metadata": {"title": "dawn"}}]
    )
    text = av.Packet(b"\0\5hello")
    text.stream, text.pts, text.dts = out.add_mux_stream("mov_text", time_base=TICK), 40, 40
    text.time_base, text.duration = TICK, 100
    cover = av.Packet(cv2.imencode(".jpg", picture(size=(8, 8)))[1].tobytes())
    cover.stream, cover.pts, cover.dts = out.add_mux_stream("mjpeg", width=8, height=8), 0, 0
    cover.stream.disposition = av.stream.Disposition.attached_pic
    return [cover, text]


def difference(array: np.ndarray, expected: np.ndarray) -> float:
    """The mean one; what H.264 costs is below 3."""
    return float(abs(array.astype(int) - expected).mean())


class Seen:
    """A video as it is in a file."""

    def __init__(self, file: Path) -> None:
        with av.open(str(file)) as reader:
            self.format, self.tags = reader.format.name, dict(reader.metadata)
            self.chapters = reader.chapters()
            stream = reader.streams.video[0]
            self.streams = [(s.type, s.metadata.get("language")) for s in reader.streams]
            self.codec, self.rate = stream.codec_context.name, stream.average_rate
            self.tag, self.aspect = stream.codec_context.codec_tag, stream.sample_aspect_ratio
            self.frames: list[Any] = []
            self.packets: list[Any] = []
            for packet in reader.demux():
                if packet.stream is stream:
                    self.frames += packet.decode()
                elif packet.size:
                    self.packets.append((packet.stream.index, packet.pts, bytes(packet)))
            context = stream.codec_context
            self.transfer = context.color_primaries, context.color_trc
        self.size = self.frames[0].width, self.frames[0].height
        self.pixel_format = self.frames[0].format.name
        self.colors = self.frames[0].colorspace, self.frames[0].color_range
        self.times = [frame.time for frame in self.frames]
        self.last = self.frames[-1].duration * self.frames[-1].time_base

    def of(self, index: int) -> list[Any]:
        """The packets of a copied track."""
        return [packet for packet in self.packets if packet[0] == index]

    def arrays(self) -> list[np.ndarray]:
        """Frames in RGB, of 8 bits."""
        return [
            frame.reformat(format="rgb24", dst_color_range=FULL, interpolation=EXACTLY).to_ndarray()
            for frame in self.frames
        ]


def twice(array: np.ndarray) -> list[np.ndarray]:
    """Each pixel 2 x 2 times."""
    return [array.repeat(2, 0).repeat(2, 1)]


def same(array: np.ndarray) -> list[np.ndarray]:
    """Unchanged."""
    return [array]


@pytest.mark.parametrize(
    ("suffix", "times"),
    [
        *((suffix, EVEN) for suffix in (".m4v", ".avi")),
        *(
            (suffix, times)
            for suffix in (".mp4", ".mov", ".mkv", ".webm")
            for times in (EVEN, UNEVEN)
        ),
    ],
)
def test_containers(tmp_path: Path, suffix: str, times: list[int]):
    source, target = tmp_path / f"a{suffix}", tmp_path / "out" / f"b{suffix}"
    make_video(source, times)
    told = []
    rewrite_video(source, [target], twice, lambda *count: told.append(count))
    before, after = Seen(source), Seen(target)
    assert after.format == before.format and after.size == (128, 96)
    assert after.codec == before.codec == ("vp9" if suffix == ".webm" else "h264")
    assert after.times == before.times and (times != EVEN or after.rate == before.rate)
    assert after.packets == before.packets and len(after.packets) > 9  # the sound
    assert after.streams == before.streams
    if suffix in (".mp4", ".mkv"):
        assert after.streams == [("video", "fin"), ("audio", "swe")]
    if suffix in (".mp4", ".mov") and times == EVEN:
        assert after.last == before.last == 90 * TICK
    for number, array in enumerate(after.arrays()):
        assert difference(array[::2, ::2], picture(number)) < 3
    assert [done for done, _ in told] == [1, 2, 3, 4, 5, 6] and told[-1][1] >= 6
    assert [path.name for path in target.parent.iterdir()] == [target.name]


def test_all_that_belongs_to_a_video(tmp_path: Path):
    source = make_video(tmp_path / "a.mp4", rich=True, tags={"title": "Sea", "genre": "waves"})
    rewrite_video(source, [tmp_path / "b.mp4"], twice)
    before, after = Seen(source), Seen(tmp_path / "b.mp4")
    kinds = ["video", "audio", "subtitle", "data", "video"]  # data: of the chapters
    assert [kind for kind, _ in after.streams] == kinds
    assert after.of(1) == before.of(1) and len(after.of(4)) == 1  # sound, cover
    assert after.of(4) == before.of(4)
    assert [p for p in after.of(2) if p[2] != b"\0\0"] == [(2, 40, b"\0\5hello")]
    assert after.chapters == before.chapters and after.chapters[0]["metadata"]["title"] == "dawn"
    assert (after.tags["title"], after.tags["genre"]) == ("Sea", "waves")


def test_tags_of_a_telephone(tmp_path: Path):
    tags = {"com.apple.quicktime.make": "Acme", "com.apple.quicktime.software": "1.0"}
    source = make_video(tmp_path / "a.mov", tags=tags)
    rewrite_video(source, [tmp_path / "b.mov"], twice)
    after = Seen(tmp_path / "b.mov").tags
    assert tags.items() <= after.items() and after["major_brand"] == "qt  "


def test_fonts(tmp_path: Path):
    plain = make_video(tmp_path / "plain.mkv")
    with av.open(str(plain)) as reader, av.open(str(tmp_path / "a.mkv"), "w") as out:
        copy = out.add_stream_from_template(reader.streams.video[0], opaque=True)
        out.add_attachment("a.ttf", "font/ttf", b"letters")
        for packet in reader.demux(reader.streams.video[0]):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    rewrite_video(tmp_path / "a.mkv", [tmp_path / "b.mkv"], twice)
    with av.open(str(tmp_path / "b.mkv")) as reader:
        (font,) = (s for s in reader.streams if s.type == "attachment")
        assert (font.name, font.mimetype, font.data) == ("a.ttf", "font/ttf", b"letters")


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize(
    ("matrix", "red", "blue"),
    [(BT709, 0.2126, 0.0722), (BT601, 0.299, 0.114), (BT2020, 0.2627, 0.0593)],
)
def test_luma_and_chroma(matrix: int, red: float, blue: float, color_range: int):
    """As ITU-T H.273 defines them."""
    kind = FrameKind((64, 48), "yuv444p", matrix, color_range, False, False, "444", 1)
    r, g, b = np.moveaxis(picture() / 255, 2, 0)
    luma = red * r + (1 - red - blue) * g + blue * b
    chroma = (b - luma) / (2 - 2 * blue), (r - luma) / (2 - 2 * red)
    scales = (219, 224, 224) if color_range == LIMITED else (255, 255, 255)
    offsets = (16, 128, 128) if color_range == LIMITED else (0, 128, 128)
    frame = kind.frame(picture(), "yuv444p")
    for plane, value, scale, offset in zip(
        frame.to_ndarray(), (luma, *chroma), scales, offsets, strict=True
    ):
        assert abs(plane - (value * scale + offset)).max() < 1.2
    assert abs(kind.array(frame).astype(int) - picture()).max() <= 2


@pytest.mark.parametrize("color_range", [LIMITED, FULL])
@pytest.mark.parametrize("matrix", [BT709, BT601, BT2020])
def test_colors(tmp_path: Path, matrix: int, color_range: int):
    """They are read and written by the tags of the file, which stay."""
    source = make_video(
        tmp_path / "a.mkv",
        [0, 40],
        pixel_format="yuv444p",
        colorspace=matrix,
        color_range=color_range,
        color_primaries=matrix,
        color_trc=PQ,
    )
    arrays = []
    rewrite_video(source, [tmp_path / "b.mkv"], lambda array: [arrays.append(array) or array])
    for number, array in enumerate(arrays):
        assert abs(array.astype(int) - picture(number)).max() <= 2
    after = Seen(tmp_path / "b.mkv")
    assert after.colors == (matrix, color_range) and after.transfer == (matrix, PQ)
    for number, array in enumerate(after.arrays()):
        assert difference(array, picture(number)) < 3


@pytest.mark.parametrize(("size", "matrix"), [((48, 64), 5), ((48, 1280), BT709)])
def test_colors_of_which_the_file_does_not_tell(tmp_path: Path, size: tuple, matrix: int):
    """As players guess, by the size before: afterwards they would guess otherwise."""
    source = make_video(tmp_path / "a.mkv", [0], size=size, colorspace=2)
    rewrite_video(source, [tmp_path / "b.mkv"], twice)
    assert Seen(source).colors[0] == 2 and Seen(tmp_path / "b.mkv").colors == (matrix, LIMITED)


@pytest.mark.parametrize(("width", "matrix"), [(1280, BT709), (1278, BT601)])
def test_such_colors_are_converted_as_guessed(width: int, matrix: int):
    image = picture(0, (48, width))
    frame = av.VideoFrame.from_ndarray(image)
    frame.colorspace, frame.color_range = matrix, FULL
    frame = frame.reformat(format="yuv444p", dst_color_range=LIMITED, interpolation=EXACTLY)
    frame.colorspace, frame.color_range = 2, 0  # what the file does not tell
    assert abs(FrameKind.of(frame).array(frame).astype(int) - image).max() <= 2


@pytest.mark.parametrize("form", ["gray", "gray16le"])
@pytest.mark.parametrize("color_range", [0, LIMITED, FULL])
def test_gray(color_range: int, form: str):
    """It has all values but where the file says otherwise, and comes out as it came in."""
    whole = 65535 if form == "gray16le" else 255
    values = np.linspace(16, 235, 64) / 255 * whole
    luma = np.tile(values.round().astype(np.uint16 if whole > 255 else np.uint8), (48, 1))
    frame = av.VideoFrame.from_ndarray(luma, form)
    frame.color_range = color_range
    kind = FrameKind.of(frame)
    array = kind.array(frame)
    expected = (values / whole * 255 - 16) / 219 * whole if color_range == LIMITED else values
    assert array.shape == (48, 64) and array.dtype == luma.dtype
    assert abs(array - expected).max() < whole / 200
    assert kind.color_range == (color_range or FULL)
    back = kind.frame(array, "yuv420p").to_ndarray()[:48]
    assert abs(back - values / whole * 255).max() < 1.6


@pytest.mark.parametrize("times", [[0], [0, 40]], ids=len)
def test_few_frames_of_10_bits(tmp_path: Path, times: list[int]):
    source = make_video(tmp_path / "a.mp4", times, pixel_format="yuv420p10le")
    for _ in range(4):  # x265 tells nonsense of their order only now and then
        rewrite_video(source, [tmp_path / "b.mp4"], same)
        assert Seen(tmp_path / "b.mp4").times == Seen(source).times


@pytest.mark.parametrize(
    ("name", "codec", "pixel_format", "becomes"),
    [
        ("a.mp4", "libx265", "yuv420p10le", ("hevc", "yuv420p10le", "hvc1")),
        ("a.mkv", "libx265", "yuv422p12le", ("hevc", "yuv422p10le", "")),
        ("a.avi", "libx264", "yuv422p10le", ("h264", "yuv422p10le", "H264")),
        ("a.webm", "libsvtav1", "yuv420p10le", ("libdav1d", "yuv420p10le", "")),
        ("a.mkv", "ffv1", "yuv411p", ("h264", "yuv422p", "")),
        ("a.mkv", "ffv1", "gray", ("h264", "yuv420p", "")),
        ("a.mkv", "libx264rgb", "rgb24", ("h264", "yuv444p", "")),
        ("a.mov", "libx264", "yuvj422p", ("h264", "yuvj422p", "avc1")),
    ],
)
def test_depth_and_density_of_color(
    tmp_path: Path, name: str, codec: str, pixel_format: str, becomes: tuple[str, str, str]
):
    source = make_video(tmp_path / name, EVEN[:4], codec=codec, pixel_format=pixel_format)
    seen = []
    rewrite_video(source, [tmp_path / f"b{name}"], lambda a: seen.append(a) or twice(a))
    after = Seen(tmp_path / f"b{name}")
    assert (after.codec, after.pixel_format, after.tag.strip(" \0")) == becomes
    assert after.times == Seen(source).times
    assert seen[0].dtype == (np.uint16 if "1" in pixel_format[6:8] else np.uint8)
    assert seen[0].ndim == (2 if pixel_format == "gray" else 3)


def test_ten_bits_are_more_than_eight(tmp_path: Path):
    source = make_video(tmp_path / "a.mkv", [0], pixel_format="yuv444p10le")
    ramp = np.arange(64 * 48, dtype=np.uint16).reshape(48, 64) * 16 + 4000
    rewrite_video(source, [tmp_path / "b.mkv"], lambda a: [np.dstack([ramp] * 3)])
    after = Seen(tmp_path / "b.mkv").frames[0].reformat(format="gray16le").to_ndarray()
    assert len(np.unique(after)) > 400


@pytest.mark.parametrize("name", ["a.mkv", "a.webm"])
def test_odd_sizes(tmp_path: Path, name: str):
    source = make_video(tmp_path / name, [0, 40], size=(45, 63), pixel_format="yuv444p")
    rewrite_video(source, [tmp_path / "out" / name], same)
    after = Seen(tmp_path / "out" / name)
    assert after.size == (63, 45) and after.pixel_format == "yuv444p"
    assert difference(after.arrays()[0], picture(0, (45, 63))) < 3


def test_odd_size_at_half_density(tmp_path: Path):
    source = make_video(tmp_path / "a.mkv", [0], size=(45, 63), codec="libvpx-vp9")
    rewrite_video(source, [tmp_path / "b.mkv"], same)
    assert (Seen(source).pixel_format, Seen(tmp_path / "b.mkv").pixel_format) == (
        "yuv420p",
        "yuv444p",
    )


@pytest.mark.parametrize(("angle", "orientation"), [(90, 8), (180, 3), (270, 6)])
def test_rotation_is_carried_out(tmp_path: Path, angle: int, orientation: int):
    """With the shape of the pixels."""
    aspect = Fraction(4, 3)
    source = make_video(tmp_path / "a.mp4", [0], rotation=angle, sample_aspect_ratio=aspect)
    rewrite_video(source, [tmp_path / "b.mp4"], same)
    after = Seen(tmp_path / "b.mp4")
    assert after.frames[0].rotation == 0
    assert after.aspect == (aspect if angle == 180 else 1 / aspect)
    assert difference(after.arrays()[0], upright(picture(), orientation)) < 5


def test_other_angles(tmp_path: Path):
    source = make_video(tmp_path / "a.mp4", [0], rotation=30)
    with pytest.raises(UserError, match="a.mp4: is turned by an angle that is no quarter turn"):
        rewrite_video(source, [tmp_path / "b.mp4"], same)


def test_more_than_one_target(tmp_path: Path):
    source = make_video(tmp_path / "a.mkv")
    targets = [tmp_path / "b.mkv", tmp_path / "c.mkv"]
    rewrite_video(source, targets, lambda a: [a, np.hstack([a, a])])
    first, second = map(Seen, targets)
    assert (first.size, second.size) == ((64, 48), (128, 48))
    assert len(first.streams) == 2 and len(second.streams) == 1
    assert first.times == second.times


@pytest.mark.parametrize("name", ["a.mkv", "a.webm", "a.mp4", "a.avi"])
def test_damage(tmp_path: Path, name: str):
    source = make_video(tmp_path / name, [40 * number for number in range(50)])
    data = source.read_bytes()
    for size in (len(data) * 2 // 3, len(data) // 4, 20, 0):
        source.write_bytes(data[:size])
        with pytest.raises(UserError, match=rf"{name}: damaged") as caught:
            rewrite_video(source, [tmp_path / "out" / name], same)
        assert "\n" not in str(caught.value)
        assert list((tmp_path / "out").glob("*")) == []
    middle = len(data) // 2
    if name != "a.avi":  # of which FFmpeg reads what it can, and does not tell
        source.write_bytes(data[:middle] + b"\xa5" * 3000 + data[middle + 3000 :])
        with pytest.raises(UserError, match=rf"{name}: damaged"):
            rewrite_video(source, [tmp_path / "out" / name], same)
        assert list((tmp_path / "out").glob("*")) == []


@pytest.mark.parametrize("where", ["packet", "frame"])
def test_damage_that_decoders_conceal(where: str):
    frame = SimpleNamespace(is_corrupt=where == "frame", time=0.04, pts=1)
    video_track = SimpleNamespace(decode=lambda packet: [frame], duration=None)
    packet = SimpleNamespace(
        is_corrupt=where == "packet", pts=1, duration=1, time_base=TICK, stream=video_track
    )
    reader = SimpleNamespace(
        format=SimpleNamespace(name="mp4"), duration=0, demux=lambda *streams: [packet]
    )
    with pytest.raises(UserError, match="damaged at its beginning"):
        next(video.contents(reader, video_track, []))


def test_mp4_that_begins_with_its_index(tmp_path: Path):
    """So that it can be played while it is loaded, and read in part."""
    plain = make_video(tmp_path / "a.mp4", [40 * number for number in range(50)])
    fast = tmp_path / "fast.mp4"
    with (
        av.open(str(plain)) as reader,
        av.open(str(fast), "w", options={"movflags": "faststart"}) as out,
    ):
        copy = out.add_stream_from_template(reader.streams.video[0], opaque=True)
        for packet in reader.demux(reader.streams.video[0]):
            if packet.size:
                packet.stream = copy
                out.mux(packet)
    fast.write_bytes(fast.read_bytes()[: fast.stat().st_size * 2 // 3])
    with pytest.raises(UserError, match="fast.mp4: damaged"):
        rewrite_video(fast, [tmp_path / "b.mp4"], same)


def test_what_is_no_video(tmp_path: Path):
    (tmp_path / "note.mp4").write_text("shopping list")
    with pytest.raises(UserError, match="note.mp4: damaged, or no video"):
        rewrite_video(tmp_path / "note.mp4", [tmp_path / "b.mp4"], same)
    with pytest.raises(UserError, match="absent.mp4: .*No such file"):
        rewrite_video(tmp_path / "absent.mp4", [tmp_path / "b.mp4"], same)
    with av.open(str(tmp_path / "sound.mp4"), "w") as out:
        sound = out.add_stream("aac", 48000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 4096), np.float32), "fltp", "stereo")
        frame.sample_rate = 48000
        out.mux([*sound.encode(frame), *sound.encode()])
    with pytest.raises(UserError, match="sound.mp4: holds no video tracks"):
        rewrite_video(tmp_path / "sound.mp4", [tmp_path / "b.mp4"], same)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"codec": "ffv1", "pixel_format": "yuva420p"}, "is transparent"),
        ({"flags": INTERLACED}, "is interlaced"),
        ({"colorspace": 8}, "has colors"),
    ],
)
def test_kinds_that_are_not_restored(tmp_path: Path, options: dict[str, Any], words: str):
    source = make_video(tmp_path / "a.mkv", [0, 40, 80], **options)
    with pytest.raises(UserError, match=f"a.mkv: {words}"):
        rewrite_video(source, [tmp_path / "b.mkv"], same)
    assert not (tmp_path / "b.mkv").exists()


def test_a_size_that_changes(tmp_path: Path):
    """Two videos, one after the other, as in a stream that was recorded."""
    source, sizes = tmp_path / "a.mkv", [(48, 64), (32, 80)]
    packets = []
    for size in sizes:
        with av.open(str(make_video(tmp_path / "part.mkv", [0], size=size, codec="mpeg4"))) as part:
            packets.append(bytes(next(part.demux(part.streams.video[0]))))
            header = part.streams.video[0].codec_context.extradata
            packets[-1] = header + packets[-1]
    with av.open(str(source), "w") as out:
        stream = out.add_mux_stream("mpeg4", 25, width=64, height=48, time_base=TICK)
        for number, data in enumerate(packets):
            packet = av.Packet(data)
            packet.stream, packet.time_base = stream, TICK
            packet.pts = packet.dts = 40 * number
            packet.is_keyframe = True
            out.mux(packet)
    with pytest.raises(UserError, match="changes at 0.04 s from 64 x 48 .* to 80 x 32"):
        rewrite_video(source, [tmp_path / "b.mkv"], same)


def test_what_a_container_cannot_hold(tmp_path: Path):
    source = make_video(tmp_path / "a.mp4", rich=True)
    for name, track in (("b.mkv", "subtitle"), ("b.webm", "audio")):
        with pytest.raises(UserError, match=rf"a.mp4: cannot be written to .*{name}: .*{track}"):
            rewrite_video(source, [tmp_path / name], same)
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_no_place_to_write(tmp_path: Path):
    source = make_video(tmp_path / "a.mp4", [0])
    with pytest.raises(UserError, match="a.mp4: cannot be written to .*a.mp4/b.mp4"):
        rewrite_video(source, [source / "b.mp4"], same)


def test_in_place(tmp_path: Path):
    source = make_video(tmp_path / "a.mp4")
    rewrite_video(source, [source], twice)
    assert Seen(source).size == (128, 96)


def test_no_encoder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = make_video(tmp_path / "a.mkv", [0])
    monkeypatch.setattr(video_writer, "OTHER_ENCODERS", (["nonesuch"], []))
    with pytest.raises(UserError, match="a.mkv: .*no encoder .*nonesuch"):
        rewrite_video(source, [tmp_path / "b.mkv"], same)


def test_times_that_are_missing_or_go_back():
    writer = object.__new__(video_writer.VideoWriter)
    writer.time, times = None, []
    context = SimpleNamespace(framerate=Fraction(25), time_base=TICK)
    writer.track = SimpleNamespace(codec_context=context)
    for pts in (None, None, 50, 50, 30, None, 200):
        writer.time = writer.next_time(pts, Fraction(1))
        times.append(writer.time)
    assert times == [0, 40, 50, 51, 52, 92, 200]


@pytest.mark.parametrize("channels", [1, 3])
def test_restored_as_images_are(tmp_path: Path, channels: int):
    source = make_video(tmp_path / "a.mp4", [0, 40])
    network = Double(channels)
    job = Job(source, tmp_path / "b.mp4", tmp_path / "c.mp4")
    told = []
    restore_video(job, Restorer(network), lambda *count: told.append(count))
    assert told == [(1, 2), (2, 2)] and len(network.seen) == (2 if channels == 3 else 6)
    before, after, both = map(Seen, (source, job.target, job.comparison))
    assert after.size == (128, 96) and both.size == (256, 96)
    for old, new, pair in zip(before.arrays(), after.arrays(), both.arrays(), strict=True):
        assert difference(new, twice(old)[0]) < 4
        assert difference(pair[:, 128:], new) < 4 and difference(pair[:, :128], new) < 9


def test_one_that_fails_does_not_keep_others(tmp_path: Path):
    good = make_video(tmp_path / "good.mp4", [0])
    (tmp_path / "bad.mp4").write_bytes(b"no")
    jobs = [Job(tmp_path / name, tmp_path / "out" / name) for name in ("bad.mp4", good.name)]
    (_, error), (_, none) = restore_files(jobs, Restorer(Double()))
    assert "bad.mp4: damaged" in str(error) and none is None
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["good.mp4"]


class TestSelection:
    @pytest.fixture
    def folder(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        monkeypatch.chdir(tmp_path)
        for name in ("a.png", "deep/b.MP4", "c.txt"):
            (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "in" / name).touch()
        return tmp_path / "in"

    def test_in_folders(self, folder: Path):
        sources, others = selection.find_sources(["in"], Path("out"), [])
        assert [source.file.name for source in sources] == ["a.png", "b.MP4"]
        assert list(selection.reasons(others)) == ["1 left out, no images: c.txt"]

    def test_without_pyav(self, folder: Path, monkeypatch: pytest.MonkeyPatch):
        for module in (selection, video):
            monkeypatch.setattr(module, "has_pyav", lambda: False)
        sources, others = selection.find_sources(["in"], Path("out"), [])
        assert [source.file.name for source in sources] == ["a.png"]
        assert list(selection.reasons(others)) == [
            "1 left out, no images: c.txt",
            '1 left out, videos need PyAV; give: pip install "compacter-arch[video]": b.MP4',
        ]
        (source,), _ = selection.find_sources(["in/deep/b.MP4"], Path("out"), [])
        with pytest.raises(UserError, match=r'b.MP4: videos need .*"compacter-arch\[video\]"'):
            rewrite_video(source.file, [Path("out.mp4")], same)

    def test_targets(self, folder: Path):
        sources, _ = selection.find_sources(["in"], Path("out"), [])
        image, clip = selection.plan(sources, Path("out"), "webp", "_x2", compare=True)
        assert image.target == Path("out/a_x2.webp") and clip.target == Path("out/deep/b_x2.MP4")
        assert clip.comparison == Path("out/deep/b_x2_compare.MP4")
        (job,) = selection.plan(sources[1:], Path("b.mkv"))
        assert job.target == Path("b.mkv")

    def test_refused(self, folder: Path):
        sources, _ = selection.find_sources(["in"], Path("out"), [])
        for source, name in zip(sources, ("b.mp4", "a.png"), strict=True):
            with pytest.raises(UserError, match="of an image an image is made, of a video a"):
                selection.plan([source], Path(name))


class TestCommand:
    @pytest.fixture
    def clip(self, project: Project) -> Path:
        tiny_weights(project.root / "x2.pth")
        return make_video(project.root / "in" / "a.mp4")

    @pytest.fixture(autouse=True)
    def folder(self, project: Project) -> None:
        (project.root / "in").mkdir()

    def test_images_and_videos(self, project: Project, clip: Path):
        (clip.parent / "cut.mp4").write_bytes(clip.read_bytes()[:3000])
        cv2.imwrite(str(clip.parent / "a.png"), picture())
        command = ("restore", "in", "-o", "out", "--weights", "x2.pth", "--device", "cpu")
        result = project.run(*command, "--compare")
        assert result.status == 1 and result.out == "restored: 2 of 3 files, to out\n"
        (line,) = result.err.splitlines()
        assert line.startswith("basicsr restore: error: in/cut.mp4: damaged")
        names = ["a.mp4", "a.png", "a_compare.mp4", "a_compare.png"]
        assert sorted(path.name for path in Path("out").iterdir()) == names
        assert Seen(Path("out/a.mp4")).times == Seen(clip).times

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_interrupted(self, project: Project, clip: Path, number: int):
        make_video(clip, [40 * n for n in range(2000)], options={"preset": "ultrafast"})
        # A parent that runs in the background of a shell leaves its children deaf to Ctrl-C.
        hear = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler)"
        process = project.start(
            *("restore", "in/a.mp4", "-o", "out", "--weights", "x2.pth", "--device", "cpu"),
            python=("-c", f"{hear}; from compacter_arch.cli import main; sys.exit(main())"),
        )
        until = time.monotonic() + 60
        while not list(project.root.glob("out/.*")):
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(number)
        _, err = process.communicate(timeout=300)
        assert process.returncode == 130 and err == "basicsr restore: interrupted\n"
        assert list(project.root.glob("out/*")) == []
