import io
import re
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageOps

from selectkit.errors import DataError
from selectkit.extract import DECODER_POLICY, UndecodableImageError, decode
from selectkit.extract.decode import MAX_PIXELS, REASONS, decoder_policy, quiet_pillow
from selectkit.extract.jpeg import jpeg_pixels
from tests.unit.extract.extract_tools import broken_files, encoded, noise, png

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
ZOO = broken_files()


def pixels(data: bytes) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    image = decode(data)
    assert image.mode == "RGB"
    return np.asarray(image)


@pytest.mark.parametrize("name", sorted(ZOO))
def test_broken_file_has_its_reason(name: str) -> None:
    data, reason = ZOO[name]
    with pytest.raises(UndecodableImageError) as caught:
        decode(data)
    assert caught.value.reason == reason
    assert caught.value.reason in REASONS
    assert str(caught.value) == f"image cannot be used ({reason}): {caught.value.detail}"
    assert isinstance(caught.value, DataError)


def test_every_reason_that_bytes_can_give_is_in_the_zoo() -> None:
    others = {"unreadable", "crashed"}  # no property of the bytes alone
    assert {reason for _, reason in ZOO.values()} | others == set(REASONS)


def test_missing_end_of_a_jpeg_is_seen_behind_a_thumbnail() -> None:
    exif = Image.Exif()
    thumbnail = encoded(Image.fromarray(noise(8, 8)), "JPEG")
    whole = encoded(Image.fromarray(noise(32, 32)), "JPEG", exif=exif.tobytes() + thumbnail)
    assert whole.count(b"\xff\xd9") >= 2
    assert decode(whole).size == (32, 32)
    assert decode(whole + b"trailer of a camera").size == (32, 32)
    with pytest.raises(UndecodableImageError, match="truncated"):
        decode(whole[:-2])


def test_lossless_pixels_are_kept() -> None:
    picture = noise(5, 7)
    for kind in ("PNG", "BMP", "TIFF", "PPM"):
        assert np.array_equal(pixels(encoded(Image.fromarray(picture), kind)), picture)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    upright = Image.fromarray(noise(6, 4))
    methods = Image.Transpose
    undo = {
        2: methods.FLIP_LEFT_RIGHT,
        3: methods.ROTATE_180,
        4: methods.FLIP_TOP_BOTTOM,
        5: methods.TRANSPOSE,
        6: methods.ROTATE_90,
        7: methods.TRANSVERSE,
        8: methods.ROTATE_270,
    }
    stored = upright.transpose(undo[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(pixels(encoded(stored, "PNG", exif=exif)), np.asarray(upright))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_jpeg_is_turned_like_every_other_format(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(noise(16, 24)), "JPEG", exif=exif)
    turned = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert np.array_equal(pixels(data), np.asarray(turned))


@pytest.mark.parametrize(
    "options",
    [
        {"quality": 95},
        {"subsampling": 0},
        {"subsampling": 1},
        {"subsampling": 2, "progressive": True},
        {"subsampling": 2, "restart_marker_blocks": 1},
        {"keep_rgb": True},
        {"icc_profile": b"no profile"},
    ],
    ids=str,
)
def test_jpeg_pixels_are_those_of_pillow(options: dict[str, Any]) -> None:
    for picture in (noise(37, 53), noise(1, 1), noise(8, 300)):
        data = encoded(Image.fromarray(picture), "JPEG", **options)
        assert jpeg_pixels(data) is not None
        assert np.array_equal(pixels(data), np.asarray(Image.open(io.BytesIO(data))))


def test_grey_jpeg_and_what_is_left_to_pillow() -> None:
    grey = encoded(Image.fromarray(noise(20, 30)).convert("L"), "JPEG")
    assert jpeg_pixels(grey) is not None
    assert np.array_equal(pixels(grey)[..., 1], np.asarray(Image.open(io.BytesIO(grey))))
    cmyk = encoded(Image.fromarray(noise(20, 30)).convert("CMYK"), "JPEG")
    assert jpeg_pixels(cmyk) is None
    assert pixels(cmyk).shape == (20, 30, 3)


def test_harmless_oddities_of_a_jpeg_are_forgiven() -> None:
    data = encoded(Image.fromarray(noise(20, 30)), "JPEG")
    future = data.replace(b"JFIF\0\1", b"JFIF\0\7", 1)  # libjpeg warns of an unknown revision
    assert future != data
    assert np.array_equal(pixels(future), pixels(data))


@pytest.mark.parametrize("place", [0.3, 0.5, 0.7, 0.9])
def test_damage_in_the_middle_of_a_jpeg_is_seen(place: float) -> None:
    data = bytearray(encoded(Image.fromarray(noise(150, 200)), "JPEG"))
    at = int(place * len(data))
    data[at : at + 40] = bytes(40)
    with pytest.raises(
        UndecodableImageError, match=r"image cannot be used \(corrupt\): Corrupt JPEG"
    ):
        decode(bytes(data))


def test_damaged_exif_leaves_the_picture() -> None:
    picture = Image.fromarray(noise(16, 16))
    data = encoded(picture, "JPEG", exif=b"Exif\0\0II*\0\xff\xff\xff\xff")
    assert decode(data).size == (16, 16)


def test_sixteen_bits_keep_the_high_byte() -> None:
    deep = np.array([[0, 255], [256, 0x8010], [0xFF00, 0xFFFF]], dtype=np.uint16)
    expected = np.repeat((deep >> 8).astype(np.uint8)[..., None], 3, axis=2)
    for kind in ("PNG", "TIFF", "PPM"):
        assert np.array_equal(pixels(encoded(Image.fromarray(deep), kind)), expected)
    color = png(1, 1, b"\0" + bytes([0x80, 0x10, 0x10, 0x80, 0xFF, 0xFF]), color=2, depth=16)
    assert pixels(color).tolist() == [[[0x80, 0x10, 0xFF]]]


def test_transparency_lies_over_white() -> None:
    rgba = np.zeros((1, 3, 4), dtype=np.uint8)
    rgba[0, :, 3] = 0, 128, 255
    assert pixels(encoded(Image.fromarray(rgba), "PNG")).tolist() == [
        [[255] * 3, [127] * 3, [0] * 3]
    ]
    palette = Image.new("P", (2, 1), 1)
    palette.putpalette([9, 9, 9, 40, 50, 60])
    palette.putpixel((0, 0), 0)
    data = encoded(palette, "PNG", transparency=0)
    assert pixels(data).tolist() == [[[255, 255, 255], [40, 50, 60]]]
    grey = Image.new("LA", (1, 1), (0, 0))
    assert pixels(encoded(grey, "PNG")).tolist() == [[[255, 255, 255]]]


def test_other_modes_become_rgb() -> None:
    assert pixels(encoded(Image.new("L", (1, 1), 77), "PNG")).tolist() == [[[77, 77, 77]]]
    assert pixels(encoded(Image.new("1", (1, 1), 1), "PNG")).tolist() == [[[255, 255, 255]]]
    red = Image.new("CMYK", (8, 8), (0, 255, 255, 0))
    got = pixels(encoded(red, "JPEG", quality=95)).reshape(-1, 3).mean(axis=0)
    assert np.abs(got - [255, 0, 0]).max() < 6


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert pixels(data)[0, 0].tolist() == [255, 0, 0]


def test_pixel_limit_does_not_depend_on_pillows_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    side = int(MAX_PIXELS**0.5) + 1
    text = f"{side} x {side} pixels; the limit is 178956970 in all"
    with pytest.raises(UndecodableImageError, match=re.escape(text)):
        decode(png(side, side, bytes(9)))


def test_no_warning_and_no_setting_leaks_from_threads() -> None:
    big = encoded(Image.new("1", (10_000, 9_500)), "PNG")  # Pillow warns from 89 million on
    small = encoded(Image.fromarray(noise(9, 9)), "PNG")
    before = list(warnings.filters)
    with quiet_pillow(), ThreadPoolExecutor(2) as pool:
        sizes = list(pool.map(lambda data: decode(data).size, [big, *[small] * 20]))
    assert sizes == [(10_000, 9_500), *[(9, 9)] * 20]
    assert list(warnings.filters) == before


def test_policy_names_the_reader() -> None:
    from PIL import __version__

    assert decoder_policy() == {
        "reader": "pillow",
        "version": __version__,
        "jpeg reader": "simplejpeg",
        "jpeg version": version("simplejpeg"),
        **DECODER_POLICY,
    }
    assert DECODER_POLICY["alpha"] == "over white"


def test_policy_names_the_reader_on_a_device() -> None:
    pytest.importorskip("torchcodec")
    here, there = decoder_policy(), decoder_policy("gpu")
    versions = f"{version('torchcodec')}, {version('simplejpeg')}"
    assert there["jpeg version"] == versions
    assert {key for key in here if here[key] != there[key]} == {
        "jpeg reader",
        "jpeg version",
        "damaged jpeg",
        "resize",
    }


def test_real_photographs_decode() -> None:
    folder = SHARED / "roadwork_frames" / "images"
    if not folder.is_dir():
        pytest.skip("the road frames are not here")
    for file in sorted(folder.glob("*.jpg"))[::20]:
        image = decode(file.read_bytes())
        assert image.size == (722, 406)
        ImageDraw.Draw(image)  # a plain image, detached from the file
