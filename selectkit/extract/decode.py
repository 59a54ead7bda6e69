"""Bytes to an RGB image, the same on every machine, or a short reason why not.

The same photo gives different features when a reader ignores its orientation or saturates its
16 bits, so every such choice is made here, explicitly, and `decoder_policy` puts it, with the
reader's version, into the fingerprint of a view.
"""

import io
import struct
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from selectkit.errors import DataError
from selectkit.extract.jpeg import DamagedJpegError, jpeg_pixels
from selectkit.extract.preprocess import MAX_ASPECT_RATIO

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from PIL.Image import Image

Pixels: TypeAlias = "npt.NDArray[np.uint8]"
JpegDecoder = Literal["cpu", "gpu"]

MAX_PIXELS = 178_956_970  # Pillow refuses above; a constant here, whatever others set there

DECODER_POLICY: dict[str, str] = {
    "orientation": "exif applied; unreadable exif = upright",
    "16-bit": "high byte",
    "alpha": "over white",  # transparent drawings are made for pages; on black, ink would vanish
    "cmyk": "pillow convert, no colour profile",
    "frames": "first",
    "truncated": "refused",
    "damaged jpeg": "refused",
    "float": "refused",
    "resize": "torch, antialiased, on bytes",
}

REASONS = (
    "corrupt",
    "crashed",
    "empty",
    "not-an-image",
    "too-large",
    "truncated",
    "unreadable",
    "unsupported",
    "zero-area",
)

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_MAGIC = (_PNG, _JPEG, b"GIF87a", b"GIF89a", b"BM", b"II*\0", b"MM\0*", b"RIFF")

_TO_UPRIGHT: dict[int, Callable[[Pixels], Pixels]] = {  # EXIF 2.32, tag 0x0112
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


class UndecodableImageError(DataError):
    """An image that cannot be used.

    Attributes:
        reason: One of `REASONS`; stable, fit for counting.
        detail: More, for people.
    """

    def __init__(self, reason: str, detail: str) -> None:
        """Say why, in short and in full."""
        super().__init__(f"image cannot be used ({reason}): {detail}")
        self.reason = reason
        self.detail = detail


def decoder_policy(jpeg_decoder: JpegDecoder = "cpu") -> dict[str, str]:
    """Return `DECODER_POLICY` with the readers and their versions.

    Args:
        jpeg_decoder: "gpu": plain JPEG files are decoded on the device, all others as always.
    """
    policy = {
        "reader": "pillow",
        "version": version("pillow"),
        "jpeg reader": "simplejpeg",
        "jpeg version": version("simplejpeg"),
        **DECODER_POLICY,
    }
    if jpeg_decoder == "cpu":
        return policy
    return policy | {
        "jpeg reader": "nvjpeg of torchcodec, else simplejpeg",
        "jpeg version": f"{version('torchcodec')}, {version('simplejpeg')}",
        "damaged jpeg": "refused where markers or the reader tell",
        "resize": "torch, antialiased, on bytes; after nvjpeg in float32, rounded to bytes",
    }


def decode(data: bytes) -> "Image":
    """Decode one image file.

    Args:
        data: The file's bytes.

    Returns:
        As `decode_pixels`, in Pillow's form, mode RGB.

    Raises:
        UndecodableImageError: With the reason.
    """
    from PIL import Image

    return Image.fromarray(decode_pixels(data))


def decode_pixels(data: bytes) -> Pixels:
    """Decode one image file.

    Args:
        data: The file's bytes.

    Returns:
        Shape (height, width, 3), uint8: the first frame in RGB, upright, at most `MAX_PIXELS`
        pixels, sides of at most a ratio of 100. Rows may lie in any order.

    Raises:
        UndecodableImageError: With the reason.
    """
    import numpy as np

    if not data:
        raise UndecodableImageError("empty", "the file has no bytes.")
    _refuse_early(data)
    with quiet_pillow():
        image = _open(data)
        _refuse_size(image)
        if (fast := _fast_jpeg(image, data)) is not None:
            return fast
        _load(image, data)
        try:
            return np.asarray(_to_rgb(_upright(image)))
        except (ValueError, OSError) as error:
            raise UndecodableImageError("unsupported", f"mode {image.mode}: {error}") from None


class _Quiet:
    """Counts its users, so that threads may overlap: the first mutes, the last restores."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._users = 0
        self._filters = warnings.catch_warnings()

    def enter(self) -> None:
        with self._guard:
            if self._users == 0:
                self._filters = warnings.catch_warnings()
                self._filters.__enter__()
                warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
            self._users += 1

    def leave(self) -> None:
        with self._guard:
            self._users -= 1
            if self._users == 0:
                self._filters.__exit__(None, None, None)


_QUIET = _Quiet()


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Mute Pillow's warnings; every problem is an `UndecodableImageError` instead.

    Filters are process-wide. The engine holds this around its whole run, in the main thread.

    Yields:
        Nothing.
    """
    _QUIET.enter()
    try:
        yield
    finally:
        _QUIET.leave()


def _refuse_early(data: bytes) -> None:
    """What Pillow calls unidentified although the header says more."""
    size: tuple[int, ...] = ()
    if data.startswith(_PNG) and len(data) >= 24:
        size = struct.unpack(">II", data[16:24])
    elif data.startswith((b"GIF87a", b"GIF89a")) and len(data) >= 10:
        size = struct.unpack("<HH", data[6:10])
    if 0 in size:
        raise UndecodableImageError("zero-area", f"the header says {size[0]} x {size[1]} pixels.")


def _open(data: bytes) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        return Image.open(io.BytesIO(data))
    except Image.DecompressionBombError as error:
        raise UndecodableImageError("too-large", str(error)) from None
    except UnidentifiedImageError:
        if not data.startswith(_MAGIC):
            detail = f"no known format starts with {data[:8]!r}."
            raise UndecodableImageError("not-an-image", detail) from None
        raise _broken(data, "the header is damaged or ends early.") from None
    except MemoryError:
        raise
    except Exception as error:  # plugins raise whatever their parser trips over
        raise _broken(data, str(error)) from None


def _refuse_size(image: "Image") -> None:
    width, height = image.size
    if width < 1 or height < 1:
        raise UndecodableImageError("zero-area", f"it has {width} x {height} pixels.")
    if width * height > MAX_PIXELS:
        raise UndecodableImageError(
            "too-large", f"{width} x {height} pixels; the limit is {MAX_PIXELS} in all."
        )
    if max(width, height) > MAX_ASPECT_RATIO * min(width, height):
        raise UndecodableImageError(
            "unsupported",
            f"{width} x {height}: one side is over {MAX_ASPECT_RATIO} times the other.",
        )


def _fast_jpeg(image: "Image", data: bytes) -> "Pixels | None":
    """The upright picture, None when Pillow has to read it; `image` has read the header only."""
    if image.format not in {"JPEG", "MPO"} or image.mode not in {"RGB", "L"}:
        return None
    try:
        pixels = jpeg_pixels(data)
    except DamagedJpegError as error:
        reason = "truncated" if error.truncated else "corrupt"
        raise UndecodableImageError(reason, str(error)) from None
    if pixels is None or pixels.shape[:2] != image.size[::-1]:
        return None
    turn = _TO_UPRIGHT.get(_orientation(image))
    return pixels if turn is None else turn(pixels)


def _orientation(image: "Image") -> int:
    try:
        return int(image.getexif().get(0x0112, 1))
    except Exception:  # damaged EXIF raises anything; the pixels are fine
        return 1


def header_orientation(data: bytes, size: tuple[int, int]) -> int | None:
    """Read how a JPEG file has to be turned; nothing is decoded.

    Args:
        data: The file's bytes.
        size: Width and height that its frame header says.

    Returns:
        1 to 8 as in EXIF, 1 when it does not say; None when the header as a whole cannot be read,
        or says another size.
    """
    try:
        image = _open(data)
    except UndecodableImageError:
        return None
    orientation = _orientation(image)
    return (orientation if orientation in _TO_UPRIGHT else 1) if image.size == size else None


def _load(image: "Image", data: bytes) -> None:
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # plugins raise whatever their decoder trips over
        raise _broken(data, str(error)) from None
    if _ends_early(data):
        raise UndecodableImageError("truncated", "the file's end marker is missing.")


def _broken(data: bytes, detail: str) -> UndecodableImageError:
    early = _ends_early(data)
    if early is None:
        early = "truncated" in detail.lower() or "ends early" in detail
    return UndecodableImageError("truncated" if early else "corrupt", detail)


def _ends_early(data: bytes) -> bool | None:
    """Whether the end marker is missing; None for formats without one."""
    if data.startswith(_PNG):
        return b"IEND" not in data
    if data.startswith(b"RIFF"):
        return len(data) < 8 + int.from_bytes(data[4:8], "little")
    if data.startswith(_JPEG):
        scan = _first_scan(data)
        return scan is None or b"\xff\xd9" not in data[scan:]
    return None


def _first_scan(data: bytes) -> int | None:
    """Where the first scan of a JPEG starts; the end markers of thumbnails lie before it."""
    at = 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xDA:
            return at
        if marker == 0xFF:  # a fill byte
            at += 1
            continue
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _upright(image: "Image") -> "Image":
    from PIL import ImageOps

    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # damaged EXIF raises anything; the pixels are fine
        return image


def _to_rgb(image: "Image") -> "Image":
    from PIL import Image

    if image.mode.startswith("I"):
        return _from_16_bit(image).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels have no fixed range. Save as 8 or 16 bits.")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        page = Image.new("RGBA", rgba.size, "white")
        return Image.alpha_composite(page, rgba).convert("RGB")
    return image.convert("RGB")


def _from_16_bit(image: "Image") -> "Image":
    import numpy as np
    from PIL import Image

    values: Any = np.asarray(image)
    if values.min() < 0 or values.max() > 0xFFFF:
        raise ValueError("32-bit pixels have no fixed range. Save as 8 or 16 bits.")
    return Image.fromarray((values >> 8).astype(np.uint8))
