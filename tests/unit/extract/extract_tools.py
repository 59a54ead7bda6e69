"""What the tests of extraction share: broken files, a backbone without torch, a child process."""

import io
import struct
import sys
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from selectkit.extract import Preprocessing, Progress, extract, load_backbone, open_source

Pixels = npt.NDArray[np.uint8]


def noise(height: int, width: int, seed: int = 0) -> Pixels:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def png(width: int, height: int, raw: bytes, color: int = 2, depth: int = 8) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def broken_files() -> Mapping[str, tuple[bytes, str]]:
    """Content and expected reason by name; one for every way in which a file can be bad."""
    photo = Image.fromarray(noise(40, 60))
    jpeg, ping = encoded(photo, "JPEG"), encoded(photo, "PNG")
    smooth = encoded(photo.resize((3, 3)).resize((400, 300)), "JPEG")
    gif, webp = encoded(photo.convert("P"), "GIF"), encoded(photo, "WEBP")
    real = Image.fromarray(np.ones((4, 4), dtype=np.float32))
    wide = Image.fromarray(np.full((4, 4), 2**30, dtype=np.int32))
    return {
        "nothing.jpg": (b"", "empty"),
        "half.jpg": (jpeg[: len(jpeg) // 2], "truncated"),
        "header.jpg": (jpeg[:20], "truncated"),
        "no_end.jpg": (smooth[:-2], "truncated"),
        "half.png": (ping[: len(ping) // 2], "truncated"),
        "no_end.png": (ping[:-20], "truncated"),
        "half.gif": (gif[: len(gif) // 2], "truncated"),
        "half.webp": (webp[: len(webp) // 2], "truncated"),
        "half.bmp": (encoded(photo, "BMP")[:500], "truncated"),
        "half.tif": (encoded(photo, "TIFF")[:500], "truncated"),
        "damaged.png": (ping[:60] + bytes(20) + ping[80:], "corrupt"),
        "text.jpg": (b"<html>404 not found</html>", "not-an-image"),
        "zero.png": (png(0, 0, b""), "zero-area"),
        "zero_width.png": (png(0, 5, bytes(5)), "zero-area"),
        "zero.gif": (b"GIF89a" + bytes(7) + b";", "zero-area"),
        "bomb.png": (png(20_000, 20_000, bytes(100)), "too-large"),
        "strip.png": (encoded(Image.new("RGB", (1, 101)), "PNG"), "unsupported"),
        "float.tif": (encoded(real, "TIFF"), "unsupported"),
        "int32.tif": (encoded(wide, "TIFF"), "unsupported"),
    }


@dataclass(frozen=True)
class StubBackbone:
    """Features by a fixed random projection: fast, and needs no torch."""

    id: str = "stub"
    dim: int = 6
    patch_size: int = 4
    preprocessing: Preprocessing = field(default_factory=lambda: Preprocessing(8, "squash"))
    seed: int = 0
    scale: float = 1.0

    def fingerprint(self) -> dict[str, Any]:
        return {"id": self.id, "seed": self.seed}

    def __call__(self, pixels: Pixels) -> dict[str, npt.NDArray[np.float32]]:
        flat = pixels.reshape(len(pixels), -1).astype(np.float64) / 255
        rng = np.random.default_rng(self.seed)
        cls, mean = rng.normal(size=(2, flat.shape[1], self.dim)) * self.scale
        return {
            "cls": (flat @ cls).astype(np.float32),
            "patch_mean": (flat @ mean).astype(np.float32),
        }


def image_folder(root: Path, classes: Mapping[str, int], seed: int = 0) -> Path:
    """A folder of 10 x 12 PNG images, `classes` says how many of each."""
    for number, (name, count) in enumerate(classes.items()):
        (root / name).mkdir(parents=True, exist_ok=True)
        for i in range(count):
            data = encoded(Image.fromarray(noise(10, 12, seed + 100 * number + i)), "PNG")
            (root / name / f"{i:03d}.png").write_bytes(data)
    return root


def content(store: Path) -> dict[str, bytes]:
    """All files of a store by relative path."""
    return {
        p.relative_to(store).as_posix(): p.read_bytes()
        for p in sorted(store.rglob("*"))
        if p.is_file()
    }


def main(store: str, backbone: str) -> int:
    """The child process: extract the digits, tell every batch, say how it ended."""

    def tell(progress: Progress) -> None:
        print(progress.done, flush=True)
        time.sleep(0.01)  # so that a signal finds it at work

    model = load_backbone("tiny", device="cpu") if backbone == "tiny" else StubBackbone()
    source = open_source("digits")
    summary = extract(source, store, backbone=model, rows_per_shard=256, progress=tell)
    return 130 if summary.interrupted else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
