"""Photographs read from files: every kind that there is, upright, with what belongs to it."""

from __future__ import annotations

import io
import os
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms, ImageOps

from compacter_arch.errors import UserError
from compacter_arch.inference import images
from compacter_arch.inference.encoding import write_photo
from compacter_arch.inference.images import ORIENTATION, Photo, read_photo, upright

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6" note="hand"/></x:xmpmeta>'
KINDS = ["L", "LA", "RGB", "RGBA"]


def random_array(mode: str, dtype: str = "uint8", size: tuple[int, int] = (9, 7)) -> np.ndarray:
    """(H, W) or (H, W, C) of the mode, random."""
    shape = size if mode == "L" else (*size, len(mode))
    generator = np.random.default_rng(len(mode))
    return generator.integers(0, np.iinfo(dtype).max + 1, shape, dtype)


def exif(orientation: int = 1) -> Image.Exif:
    """EXIF data with a camera, an exposure time and a place."""
    made = Image.Exif()
    made[271], made[ORIENTATION] = "Acme", orientation
    made[0x8769] = {0x829A: 0.02}
    made[0x8825] = {1: "N"}
    return made


def assert_tells_the_same(data: bytes) -> None:
    """The EXIF data are those of :func:`exif`, upright."""
    found = Image.Exif()
    found.load(data)
    assert found[271] == "Acme" and found.get(ORIENTATION, 1) == 1
    assert (
        float(found.get_ifd(0x8769)[0x829A]) == pytest.approx(0.02)
        and found.get_ifd(0x8825)[1] == "N"
    )


@pytest.mark.parametrize("mode", KINDS)
@pytest.mark.parametrize("suffix", [".png", ".tif", ".webp"])
def test_8_bits(tmp_path: Path, mode: str, suffix: str):
    array = random_array(mode)
    file = tmp_path / f"a{suffix}"
    Image.fromarray(array).save(
        file, **({"lossless": True, "exact": True} if suffix == ".webp" else {})
    )
    photo = read_photo(file)
    if suffix == ".webp" and mode in ("L", "LA"):  # has no gray
        assert np.array_equal(photo.pixels[..., 0], array if mode == "L" else array[..., 0])
        return
    assert photo.channels.dtype == np.uint8 and np.array_equal(photo.channels, array)
    assert (photo.alpha is not None) == mode.endswith("A")


@pytest.mark.parametrize(("mode", "suffix"), [("L", ".jpg"), ("RGB", ".jpg"), ("RGB", ".bmp")])
def test_formats_of_few_modes(tmp_path: Path, mode: str, suffix: str):
    file = tmp_path / f"a{suffix}"
    Image.fromarray(random_array(mode)).save(file)
    photo = read_photo(file)
    assert np.array_equal(photo.pixels, np.asarray(Image.open(file))) and photo.alpha is None


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bits_that_opencv_writes(tmp_path: Path, mode: str, suffix: str):
    array = random_array(mode, "uint16")
    file = tmp_path / f"a{suffix}"
    cv2.imwrite(str(file), array if mode == "L" else array[..., [2, 1, 0, 3][: len(mode)]])
    photo = read_photo(file)
    assert photo.pixels.dtype == np.uint16 and np.array_equal(photo.channels, array)


def test_16_bits_with_one_transparent_color(tmp_path: Path):
    from compacter_arch.inference.encoding import PNG_SIGNATURE, png_chunks

    array = random_array("RGB", "uint16")
    file = tmp_path / "a.png"
    write_photo(file, Photo(array))
    chunks = dict(png_chunks(file.read_bytes()))
    color = array[3, 2].astype(">u2").tobytes()
    order = [
        (b"IHDR", chunks[b"IHDR"]),
        (b"tRNS", color),
        (b"IDAT", chunks[b"IDAT"]),
        (b"IEND", b""),
    ]
    file.write_bytes(PNG_SIGNATURE + b"".join(chunk(*pair) for pair in order))
    photo = read_photo(file)
    assert np.array_equal(photo.pixels, array)
    expected = np.full(array.shape[:2], 65535)
    expected[3, 2] = 0
    assert np.array_equal(photo.alpha, expected)


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG file."""
    import zlib

    check = zlib.crc32(kind + content).to_bytes(4, "big")
    return len(content).to_bytes(4, "big") + kind + content + check


@pytest.mark.parametrize("transparent", [False, True])
def test_palette_becomes_color(tmp_path: Path, transparent: bool):
    image = Image.fromarray(random_array("RGB")).quantize(8)
    file = tmp_path / "a.png"
    image.save(file, **({"transparency": 3} if transparent else {}))
    photo = read_photo(file)
    assert np.array_equal(photo.pixels, np.asarray(image.convert("RGB")))
    if transparent:
        assert np.array_equal(photo.alpha, np.where(np.asarray(image) == 3, 0, 255))
    else:
        assert photo.alpha is None


@pytest.mark.parametrize("suffix", [".png", ".tif", ".bmp"])
def test_1_bit_becomes_gray(tmp_path: Path, suffix: str):
    file = tmp_path / f"a{suffix}"
    bits = random_array("L") > 127
    Image.fromarray(bits).save(file)
    assert np.array_equal(read_photo(file).pixels, bits * 255)


def test_gray_with_one_transparent_value(tmp_path: Path):
    array = random_array("L")
    Image.fromarray(array).save(tmp_path / "a.png", transparency=int(array[0, 0]))
    photo = read_photo(tmp_path / "a.png")
    assert np.array_equal(photo.pixels, array)
    assert np.array_equal(photo.alpha, np.where(array == array[0, 0], 0, 255))


@pytest.mark.parametrize("suffix", [".jpg", ".tif"])
def test_cmyk_becomes_rgb_and_loses_its_profile(tmp_path: Path, suffix: str):
    file = tmp_path / f"a{suffix}"
    image = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    image.save(file, icc_profile=b"\0" * 16 + b"CMYK" + b"\0" * 108)
    photo = read_photo(file)
    assert photo.pixels.shape == (8, 8, 3) and photo.icc == b""
    red = photo.pixels[4, 4].astype(int)
    assert red[0] > 200 and red[1] < 60 and red[2] < 60


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_orientation_is_carried_out(tmp_path: Path, suffix: str, orientation: int):
    file = tmp_path / f"a{suffix}"
    image = Image.fromarray(random_array("RGB", size=(24, 17)))
    image.save(
        file,
        exif=exif(orientation).tobytes(),
        **({"xmp": XMP} if suffix in (".jpg", ".webp") else {}),
    )
    with Image.open(file) as stored:
        expected = np.asarray(ImageOps.exif_transpose(stored))
    photo = read_photo(file)
    assert np.array_equal(photo.pixels, expected)
    assert photo.pixels.shape[:2] == ((24, 17) if orientation < 5 else (17, 24))
    assert_tells_the_same(photo.exif)
    if suffix in (".jpg", ".webp"):
        assert photo.xmp == XMP.replace(b'"6"', b'"1"')


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_orientation_of_16_bits(tmp_path: Path, mode: str, orientation: int):
    array = random_array(mode, "uint16")
    tags = [(ORIENTATION, 3, 1, orientation, True)]
    photometric = "rgb" if mode == "RGB" else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", array, photometric=photometric, extratags=tags)
    assert np.array_equal(read_photo(tmp_path / "a.tif").pixels, upright(array, orientation))


def write_tiff(file: Path, array: np.ndarray, planes: bool = False, **options: object) -> None:
    """(H, W, 2 to 4) as other programs write it."""
    tifffile.imwrite(
        file,
        np.moveaxis(array, 2, 0) if planes else array,
        photometric="rgb" if array.shape[2] > 2 else "minisblack",
        planarconfig="separate" if planes else "contig",
        **{**({"extrasamples": ["unassalpha"]} if array.shape[2] != 3 else {}), **options},
    )


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize("compression", [None, "adobe_deflate"])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("mode", ["LA", "RGB", "RGBA"])
def test_tiff_of_16_bits(
    tmp_path: Path, mode: str, planes: bool, compression: str | None, byteorder: str
):
    array = random_array(mode, "uint16")
    options = {"compression": compression, "byteorder": byteorder, "iccprofile": SRGB}
    tags = [(271, "s", 0, "Acme", True), (ORIENTATION, 3, 1, 6, True)]
    write_tiff(tmp_path / "a.tif", array, planes, extratags=tags, **options)
    photo = read_photo(tmp_path / "a.tif")
    assert photo.pixels.dtype == np.uint16 and photo.icc == SRGB
    assert np.array_equal(photo.channels, upright(array, 6))
    found = Image.Exif()
    found.load(photo.exif)
    assert found[271] == "Acme" and ORIENTATION not in found
    data = (tmp_path / "a.tif").read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: -array.nbytes // 2])
    with pytest.raises(UserError, match="a.tif: (damaged|not an image)"):
        read_photo(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", [None, "adobe_deflate"])
def test_tiff_of_gray_with_alpha_in_planes(tmp_path: Path, compression: str | None):
    array = random_array("LA")
    write_tiff(tmp_path / "a.tif", array, planes=True, compression=compression)
    assert np.array_equal(read_photo(tmp_path / "a.tif").channels, array)


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
def test_16_bits_multiplied_by_alpha(tmp_path: Path, mode: str):
    array = random_array(mode, "uint16") // 4 * 3
    array[..., -1] |= 0x8000
    array[0, 0, -1] = 0
    stored = array.astype(float)
    stored[..., :-1] *= stored[..., -1:] / 65535
    write_tiff(tmp_path / "a.tif", stored.round().astype(np.uint16), extrasamples=["assocalpha"])
    photo = read_photo(tmp_path / "a.tif")
    assert np.array_equal(photo.alpha, array[..., -1]) and not photo.pixels[0, 0].any()
    got, expected = photo.channels.astype(int), array.astype(int)
    expected[0, 0] = 0
    assert abs(got - expected).max() <= 1


def test_tiff_that_only_a_missing_library_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def unpacked(page: object) -> None:
        raise ValueError("<COMPRESSION.LZW: 5> requires the 'imagecodecs' package")

    monkeypatch.setattr(tifffile.TiffPage, "asarray", unpacked)
    write_tiff(tmp_path / "a.tif", random_array("LA", "uint16"))
    with pytest.raises(UserError, match="a.tif: cannot be read: .*; save it without$"):
        read_photo(tmp_path / "a.tif")


def test_profile_and_resolution(tmp_path: Path):
    for suffix in (".jpg", ".png", ".tif", ".webp"):
        file = tmp_path / f"a{suffix}"
        Image.fromarray(random_array("RGB")).save(file, icc_profile=SRGB, dpi=(300, 300))
        photo = read_photo(file)
        assert photo.icc == SRGB
        assert suffix == ".webp" or photo.dpi == pytest.approx((300, 300), abs=0.1)


def test_damaged_exif_does_not_keep_from_reading(tmp_path: Path):
    Image.fromarray(random_array("RGB")).save(tmp_path / "a.jpg", exif=b"Exif\0\0II*\0\xff\xff\xff")
    assert read_photo(tmp_path / "a.jpg").pixels.shape == (9, 7, 3)


@pytest.mark.parametrize(
    ("suffix", "dtype"),
    [(suffix, "uint8") for suffix in (".png", ".jpg", ".tif", ".bmp", ".webp")]
    + [(suffix, "uint16") for suffix in (".png", ".tif")],
)
def test_truncated(tmp_path: Path, suffix: str, dtype: str):
    file = tmp_path / f"a{suffix}"
    write_photo(file, Photo(random_array("RGB", dtype, (64, 64))))
    data = file.read_bytes()
    for size in (len(data) * 2 // 3, len(data) // 3, 20, 1, 0):
        file.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"a\.\w+: (damaged|not an image)") as caught:
            read_photo(file)
        assert "\n" not in str(caught.value)


def test_what_is_no_image(tmp_path: Path):
    file = tmp_path / "note.png"
    file.write_text("shopping list\n")
    with pytest.raises(UserError, match="note.png: not an image"):
        read_photo(file)
    with pytest.raises(UserError, match="absent.png: No such file"):
        read_photo(tmp_path / "absent.png")
    with pytest.raises(UserError, match=f"{tmp_path.name}: Is a directory"):
        read_photo(tmp_path)


def test_what_has_no_place_in_a_photo(tmp_path: Path):
    Image.fromarray(np.zeros((4, 4), np.float32)).save(tmp_path / "f.tif")
    with pytest.raises(UserError, match="f.tif: F is not gray or RGB"):
        read_photo(tmp_path / "f.tif")
    pages = [Image.new("L", (4, 4), i) for i in range(3)]
    pages[0].save(tmp_path / "p.tif", save_all=True, append_images=pages[1:])
    with pytest.raises(UserError, match="p.tif: holds 3 images"):
        read_photo(tmp_path / "p.tif")


def test_limit_of_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Ours instead of Pillow's, before anything is decoded."""
    Image.fromarray(random_array("L")).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert read_photo(tmp_path / "a.png").pixels.shape == (9, 7)
    assert Image.MAX_IMAGE_PIXELS == 10
    monkeypatch.setattr(images, "MAX_PIXELS", 62)
    monkeypatch.setattr(images, "decode", None)
    with pytest.raises(UserError, match="a.png: 7 x 9 are more than"):
        read_photo(tmp_path / "a.png")


def test_preview_of_a_jpeg_is_no_second_image(tmp_path: Path):
    first, second = (Image.fromarray(random_array("RGB", size=(s, s))) for s in (16, 8))
    buffer = io.BytesIO()
    first.save(buffer, "MPO", save_all=True, append_images=[second])
    (tmp_path / "a.jpg").write_bytes(buffer.getvalue())
    assert read_photo(tmp_path / "a.jpg").pixels.shape == (16, 16, 3)


def test_pipe_is_not_waited_for(tmp_path: Path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(UserError, match="a.png: not a regular file"):
        read_photo(tmp_path / "a.png")


def test_link_to_itself(tmp_path: Path):
    (tmp_path / "a.png").symlink_to("a.png")
    with pytest.raises(UserError, match="a.png: Too many levels of symbolic links"):
        read_photo(tmp_path / "a.png")


def test_image_without_room_is_not_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(images, "free_memory", lambda device: 9 * 7 * images.PIXEL_BYTES - 1)
    Image.fromarray(random_array("RGB")).save(tmp_path / "a.png")
    with pytest.raises(UserError, match="7 x 9 pixels take .* GB of memory, .* are free"):
        read_photo(tmp_path / "a.png")


@pytest.mark.parametrize("tag", [256, 257])
def test_tiff_without_a_size(tmp_path: Path, tag: int):
    """On which Pillow fails with a TypeError."""
    Image.fromarray(random_array("RGB")).save(tmp_path / "a.tif")
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        place = file.pages.first.tags[tag].offset
    with (tmp_path / "a.tif").open("r+b") as file:
        file.seek(place)
        file.write(struct.pack("<H", 65_000))  # a tag that nobody knows
    with pytest.raises(UserError, match="a.tif: (damaged|not an image)") as caught:
        read_photo(tmp_path / "a.tif")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("bad", [b"\x48\0\0\0\0\0\0\0", bytes(8)])
def test_resolution_that_is_none(tmp_path: Path, bad: bytes):
    """72 / 0 dots per inch, on which the writers of TIFF would fail."""
    file = tmp_path / "a.tif"
    write_photo(file, Photo(random_array("RGB", "uint16"), dpi=(72, 72)))
    with tifffile.TiffFile(file) as tiff:
        place = tiff.pages.first.tags[283].valueoffset
    with file.open("r+b") as content:
        content.seek(place)
        content.write(bad)
    photo = read_photo(file)
    assert photo.dpi is None
    write_photo(tmp_path / "b.tif", photo)
