"""Which JPEG files a GPU may decode, told from their markers, and what of them it is given.

A decoder on a GPU says little about damage, and nothing of colours that it takes for others. So it
gets only what is plain, and whole as far as markers tell: 8 bits, Huffman codes, grey or YCbCr in
the usual samplings, from the first marker to the last, restart markers in order. Everything else is
left to the decoders that name what is wrong. Markers: ITU-T T.81 (1992), annex B.
"""

import re
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.extract.decode import header_orientation
from selectkit.extract.preprocess import MAX_ASPECT_RATIO

MAX_DEVICE_PIXELS = 1 << 25
"""Larger pictures would take half a gigabyte of the device each, in float32."""

Parts: TypeAlias = tuple[slice, ...]

_SOI, _EOI, _SOS, _DRI = 0xD8, 0xD9, 0xDA, 0xDD
_BASELINE, _PROGRESSIVE = 0xC0, 0xC2
_TABLES = {0xC4, 0xDB, _DRI}
_JFIF, _EXIF, _ADOBE, _COMMENT = 0xE0, 0xE1, 0xEE, 0xFE
_METADATA = {*range(0xE0, 0xF0), _COMMENT}
_SAMPLINGS = {0x11, 0x12, 0x21, 0x22}  # of luma, horizontal and vertical; chroma has 0x11

_RESTARTS = range(0xD0, 0xD8)

_IN_A_SCAN = re.compile(rb"\xff[^\x00]")  # a zero behind it says that it is no marker


@dataclass(frozen=True, slots=True)
class EncodedJpeg:
    """A JPEG file that a GPU may decode.

    Attributes:
        data: All of its bytes.
        height: Pixels as they are stored, before the orientation is applied.
        width: Likewise.
        orientation: Of EXIF, 1 to 8; 1 = upright.
        parts: The bytes of the picture, without metadata and whatever follows the end marker.
    """

    data: bytes
    height: int
    width: int
    orientation: int
    parts: Parts

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the upright picture."""
        turned = self.orientation >= 5
        return (self.height, self.width) if turned else (self.width, self.height)

    @property
    def pixel_bytes(self) -> int:
        """Bytes of the decoded picture."""
        return 3 * self.height * self.width

    def picture(self) -> npt.NDArray[np.uint8]:
        """Return the bytes of the picture alone, as a JPEG file without orientation."""
        data = np.frombuffer(self.data, dtype=np.uint8)
        return np.concatenate([data[part] for part in self.parts])


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a frame header says."""

    progressive: bool
    height: int
    width: int
    components: tuple[tuple[int, int], ...]  # identifier, sampling

    @classmethod
    def read(cls, marker: int, body: bytes) -> "_Frame | None":
        if len(body) < 6 or body[0] != 8 or len(body) != 6 + 3 * body[5]:
            return None
        height, width = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
        components = tuple((body[i], body[i + 1]) for i in range(6, len(body), 3))
        return cls(marker == _PROGRESSIVE, height, width, components)

    @property
    def is_plain(self) -> bool:
        identifiers, samplings = zip(*self.components, strict=True)
        short, long = sorted((self.height, self.width))
        return (
            short > 0
            and long <= MAX_ASPECT_RATIO * short
            and short * long <= MAX_DEVICE_PIXELS
            and identifiers != tuple(b"RGB")
            and (samplings == (0x11,) or samplings[0] in _SAMPLINGS)
            and samplings[1:] in {(), (0x11, 0x11)}
        )

    @property
    def units(self) -> int:
        """Coding units of a scan of all components; a restart interval counts them."""
        sampling = self.components[0][1]
        across, down = 8 * (sampling >> 4), 8 * (sampling & 15)
        return -(-self.width // across) * -(-self.height // down)


def encoded_jpeg(data: bytes) -> EncodedJpeg | None:
    """Look whether a GPU may decode a file; nothing is decoded.

    Args:
        data: The file's bytes.

    Returns:
        What it is given; None when the file is to be decoded on the CPU, which also says whether it
        can be.
    """
    try:
        walk = _Walk.through(data)
    except (IndexError, ValueError):  # it ends early, or is something else
        return None
    frame = walk.frame
    orientation = header_orientation(data, (frame.width, frame.height)) if walk.exif else 1
    if orientation is None:
        return None
    return EncodedJpeg(data, frame.height, frame.width, orientation, tuple(walk.parts))


@dataclass(slots=True)
class _Walk:
    """The way from marker to marker. What is not plain is a ValueError."""

    data: bytes
    frame: _Frame
    parts: list[slice]
    exif: bool = False
    interval: int = 0  # coding units between restart markers, 0 = there are none
    scans: int = 0

    @classmethod
    def through(cls, data: bytes) -> "_Walk":
        if data[0] != 0xFF or data[1] != _SOI:
            raise ValueError("no JPEG file")
        walk = cls(data, _Frame(False, 0, 0, ()), [slice(0, 2)])
        at = 2
        while data[at + 1] != _EOI or data[at] != 0xFF:
            at = walk.step(at)
        walk.keep(at, at + 2)
        if walk.scans == 0 or (walk.scans > 1 and not walk.frame.progressive):
            raise ValueError("no scan of all components")
        return walk

    def step(self, at: int) -> int:
        """Take the segment at a place; return where the next one is."""
        if self.data[at] != 0xFF:
            raise ValueError("no marker")
        marker, end = self.data[at + 1], at + 2 + int.from_bytes(self.data[at + 2 : at + 4], "big")
        if end < at + 4 or end > len(self.data):
            raise ValueError("a segment of no length, or one that is cut off")
        body = self.data[at + 4 : end]
        if marker in _METADATA:
            self.exif |= marker == _EXIF
            if not self.matters(marker, body):
                return end
        elif marker in {_BASELINE, _PROGRESSIVE}:
            self.begin(marker, body)
        elif marker == _SOS:
            end = self.scan(end, body)
        elif marker == _DRI:
            self.interval = int.from_bytes(body, "big")
        elif marker not in _TABLES:
            raise ValueError("a marker of something that is not plain")
        self.keep(at, end)
        return end

    def keep(self, start: int, stop: int) -> None:
        if self.parts[-1].stop == start:
            start = self.parts.pop().start
        self.parts.append(slice(start, stop))

    def matters(self, marker: int, body: bytes) -> bool:
        """Whether metadata concern colours."""
        if marker != _ADOBE or not body.startswith(b"Adobe"):
            return marker == _JFIF
        if body[11] != 1:
            raise ValueError("other colours than YCbCr")
        return True

    def begin(self, marker: int, body: bytes) -> None:
        frame = _Frame.read(marker, body)
        if frame is None or not frame.is_plain or self.frame.components:
            raise ValueError("a frame that is not plain, or a second one")
        self.frame = frame

    def scan(self, start: int, body: bytes) -> int:
        """Skip the codes of a scan; return where they end."""
        restarts: list[int] = []
        for found in _IN_A_SCAN.finditer(self.data, start):
            marker = self.data[found.start() + 1]
            if marker not in _RESTARTS:
                self.finish(body, restarts)
                return found.start()
            restarts.append(marker)
        raise ValueError("it ends early")

    def finish(self, body: bytes, restarts: list[int]) -> None:
        """Compare a scan with the frame; the scans of a progressive picture hold parts of it."""
        self.scans += 1
        if not self.frame.progressive:
            expected = (self.frame.units - 1) // self.interval if self.interval else 0
            wanted = [_RESTARTS[i % 8] for i in range(expected)]
            if body[0] != len(self.frame.components) or restarts != wanted:
                raise ValueError("a part of the picture is missing")
