"""Which JPEG files are handed to a decoder on a device, and what of them."""

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from selectkit.extract.decode import decode_pixels
from selectkit.extract.encoded import MAX_DEVICE_PIXELS, encoded_jpeg
from tests.unit.extract.extract_tools import broken_files, encoded, noise

SHARED = Path(__file__).resolve().parents[4] / "shared" / "data"
PHOTO = Image.fromarray(noise(40, 60))


def exif(orientation: int) -> Image.Exif:
    tags = Image.Exif()
    tags[0x0112] = orientation
    return tags


def marker_at(data: bytes, marker: int) -> int:
    return data.index(bytes([0xFF, marker]))


PLAIN = {
    "baseline": encoded(PHOTO, "JPEG"),
    "progressive": encoded(PHOTO, "JPEG", progressive=True),
    "grey": encoded(PHOTO.convert("L"), "JPEG"),
    "4:4:4": encoded(PHOTO, "JPEG", subsampling=0),
    "4:2:2": encoded(PHOTO, "JPEG", subsampling=1),
    "restart": encoded(PHOTO, "JPEG", restart_marker_blocks=2),
    "restart in 4:4:4": encoded(PHOTO, "JPEG", restart_marker_blocks=3, subsampling=0),
    "restart, grey": encoded(PHOTO.convert("L"), "JPEG", restart_marker_blocks=1),
    "comment": encoded(PHOTO, "JPEG", comment=b"hello"),
    "profile": encoded(PHOTO, "JPEG", icc_profile=bytes(500)),
    "turned": encoded(PHOTO, "JPEG", exif=exif(6)),
    "two pictures": encoded(PHOTO, "MPO", save_all=True, append_images=[PHOTO]),
    "more behind it": encoded(PHOTO, "JPEG") + b"\xff\xd8\xff\xe0" + bytes(100),
}


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files_are_taken_and_their_picture_is_the_same(name: str) -> None:
    found = encoded_jpeg(PLAIN[name])
    assert found is not None
    picture = found.picture().tobytes()
    assert (found.width, found.height) == (60, 40)
    assert found.orientation == (6 if name == "turned" else 1)
    assert found.size == ((40, 60) if name == "turned" else (60, 40))
    assert found.pixel_bytes == 3 * 40 * 60
    whole = simplejpeg.decode_jpeg(PLAIN[name])
    assert np.array_equal(simplejpeg.decode_jpeg(picture), whole)
    assert picture.endswith(b"\xff\xd9")
    assert len(picture) <= len(PLAIN[name])
    assert b"hello" not in picture
    assert b"Exif" not in picture


def _cut(data: bytes) -> bytes:
    return data[: len(data) // 2]


def _without_end(data: bytes) -> bytes:
    return data[:-2]


def _arithmetic(data: bytes) -> bytes:
    return data.replace(b"\xff\xc0", b"\xff\xc9")


def _twelve_bits(data: bytes) -> bytes:
    at = marker_at(data, 0xC0)
    return data[: at + 4] + b"\x0c" + data[at + 5 :]


def _rgb(data: bytes) -> bytes:
    at = marker_at(data, 0xC0) + 10
    ids = bytearray(data)
    ids[at], ids[at + 3], ids[at + 6] = b"RGB"
    return bytes(ids)


def _adobe_rgb(data: bytes) -> bytes:
    return data[:2] + b"\xff\xee\x00\x0eAdobe\x00\x64\x00\x00\x00\x00\x00" + data[2:]


def _odd_sampling(data: bytes) -> bytes:
    at = marker_at(data, 0xC0) + 11
    return data[:at] + b"\x41" + data[at + 1 :]


def _no_height(data: bytes) -> bytes:
    at = marker_at(data, 0xC0) + 5
    return data[:at] + bytes(2) + data[at + 2 :]


def _huge(data: bytes) -> bytes:
    at = marker_at(data, 0xC0) + 5
    return data[:at] + (6000).to_bytes(2, "big") * 2 + data[at + 4 :]


def _second_frame(data: bytes) -> bytes:
    at = marker_at(data, 0xC0)
    return data[:at] + data[at : at + 19] + data[at:]


def _restart_in_the_scan(data: bytes) -> bytes:
    return data[:-50] + b"\xff\xd3" + data[-50:]


def _marker_in_the_scan(data: bytes) -> bytes:
    return data[:-50] + b"\xff\x42" + data[-50:]


def _zeros_to_the_end(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes(len(data) // 2)


@pytest.mark.parametrize(
    "change",
    [
        _cut,
        _without_end,
        _arithmetic,
        _twelve_bits,
        _rgb,
        _adobe_rgb,
        _odd_sampling,
        _no_height,
        _huge,
        _second_frame,
        _restart_in_the_scan,
        _marker_in_the_scan,
        _zeros_to_the_end,
    ],
)
def test_what_is_not_plain_is_left_to_the_processor(change: Callable[[bytes], bytes]) -> None:
    changed = change(PLAIN["baseline"])
    assert changed != PLAIN["baseline"]
    assert encoded_jpeg(changed) is None


def test_a_lost_restart_interval_is_seen() -> None:
    data = PLAIN["restart"]
    start, stop = data.index(b"\xff\xd0"), data.index(b"\xff\xd1")
    assert encoded_jpeg(data[:start] + data[stop:]) is None


def test_other_files_are_left_to_the_processor() -> None:
    strip = encoded(Image.new("RGB", (1, 101)), "JPEG")
    others = [
        b"",
        b"\xff",
        b"\xff\xd8",
        b"\xff\xd8\xff\xd9",
        encoded(PHOTO, "PNG"),
        encoded(PHOTO.convert("CMYK"), "JPEG"),
        strip,
        *(data for data, _ in broken_files().values()),
    ]
    assert [encoded_jpeg(data) for data in others] == [None] * len(others)
    assert MAX_DEVICE_PIXELS < 6000 * 6000


def test_a_header_that_pillow_reads_otherwise_is_left_to_the_processor(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turned = PLAIN["turned"]
    assert encoded_jpeg(turned) is not None
    monkeypatch.setattr("selectkit.extract.encoded.header_orientation", lambda data, size: None)
    assert encoded_jpeg(turned) is None


def test_no_prefix_and_no_flipped_byte_of_a_file_is_a_traceback() -> None:
    rng = np.random.default_rng(0)
    for data in (PLAIN["progressive"], PLAIN["turned"], PLAIN["restart"]):
        for at in rng.integers(0, len(data), 300).tolist():
            assert encoded_jpeg(data[:at]) is None
            changed = data[:at] + bytes([data[at] ^ int(rng.integers(1, 256))]) + data[at + 1 :]
            if (found := encoded_jpeg(changed)) is not None:
                assert found.picture().size <= len(changed)


def test_real_files_are_plain() -> None:
    folder = SHARED / "cifar10_jpg"
    if not folder.is_dir():
        pytest.skip("the images are not here")
    files = sorted(folder.rglob("*.jpg"))[:200]
    for file in files:
        found = encoded_jpeg(file.read_bytes())
        assert found is not None
        assert decode_pixels(found.data).shape == (found.height, found.width, 3)
        with Image.open(io.BytesIO(found.picture().tobytes())) as image:
            assert image.size == found.size
