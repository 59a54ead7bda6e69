"""A PNG writer for small grey images whose bytes do not depend on the zlib in use."""

import struct
import zlib

import numpy as np
import numpy.typing as npt


def grey_png(pixels: npt.NDArray[np.uint8]) -> bytes:
    """Encode a grey image as PNG with stored (uncompressed) blocks.

    Compressed bytes differ between zlib builds; stored ones do not, so the content hash, and a
    split made from it, is the same on every machine.

    Args:
        pixels: Shape (H, W), uint8, at most 65,535 bytes with one filter byte per row.

    Returns:
        The file's bytes.
    """
    height, width = pixels.shape
    raw = b"".join(b"\0" + row.tobytes() for row in pixels)
    stored = struct.pack("<BHH", 1, len(raw), len(raw) ^ 0xFFFF) + raw
    stream = b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(raw))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", stream) + _chunk(b"IEND")
    )


def _chunk(name: bytes, data: bytes = b"") -> bytes:
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))
