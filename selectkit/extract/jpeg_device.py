"""JPEG decoded where the model runs: batches of files through nvJPEG, which torchcodec brings.

What it is not given, refuses or breaks off is decoded on the CPU, image by image, and named there
if it is bad. The pixels are those of another decoder than the CPU's: nvJPEG repeats colours where
libjpeg-turbo interpolates them. So the view's fingerprint says which decoder it was.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from selectkit.errors import BackboneError, ConfigError, MissingExtraError
from selectkit.extract.encoded import EncodedJpeg
from selectkit.extract.environment import installed
from selectkit.extract.preprocess import Pixels, Preprocessing

if TYPE_CHECKING:
    from torch import Tensor

TOGETHER = 1 << 28
"""Bytes of decoded pictures that lie on the device at once; one picture may have more."""

OLDEST = (0, 16)  # the first torchcodec that decodes images

_WHAT = "jpeg_decoder = 'gpu'"
_NO_ALLOCATION = re.compile(r"Failed to [^:]*: 5\b")  # NVJPEG_STATUS_ALLOCATOR_FAILURE
# By EXIF orientation: the axes of (3, height, width) to flip before, from 5 on, the last two swap.
_FLIPS = {2: (2,), 3: (1, 2), 4: (1,), 6: (1,), 7: (1, 2), 8: (2,)}


def device_decoder(device: str, plan: Preprocessing) -> "DeviceDecoder":
    """Make a decoder for a CUDA device.

    Args:
        device: Where the model runs.
        plan: The geometry.

    Returns:
        The decoder; it has decoded a picture.

    Raises:
        ConfigError: If it is no CUDA device, or torchcodec does not decode there.
        MissingExtraError: If torchcodec is not installed.
    """
    import torch

    if not torch.cuda.is_available():
        raise ConfigError(
            f"{_WHAT} needs a CUDA device, and torch finds none here. Leave jpeg_decoder at 'cpu', "
            "or run on a machine with a GPU."
        )
    if not device.startswith("cuda"):
        raise ConfigError(
            f"{_WHAT} decodes where the model runs, and that is on {device!r}. Leave jpeg_decoder "
            "at 'cpu', or set the device to 'cuda'."
        )
    if installed("torchcodec") is None:
        raise MissingExtraError.of(_WHAT, "gpu")
    if (problem := decoder_problem(device)) is not None:
        raise ConfigError(f"{_WHAT} cannot be used: {problem}. Or leave jpeg_decoder at 'cpu'.")
    return DeviceDecoder(device, plan)


@cache
def decoder_problem(device: str) -> str | None:
    """Let torchcodec decode a small grey picture.

    Args:
        device: Where.

    Returns:
        None when it can; else what is wrong, and what to do.
    """
    import simplejpeg

    found = installed("torchcodec") or "none"
    numbers = tuple(int(part) for part in found.split(".")[:2] if part.isdigit())
    if numbers < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        return f"torchcodec {found} is too old: pip install 'torchcodec>={wanted}'"
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    try:
        pixels = _decode([np.frombuffer(simplejpeg.encode_jpeg(grey), np.uint8).copy()], device)[0]
        if pixels.shape == (3, 64, 64) and int((pixels.int() - 128).abs().max()) <= 2:
            return None
        why = "a grey picture comes out otherwise"
    except (ImportError, OSError, RuntimeError) as error:
        why = (str(error).strip() or type(error).__name__).split("\n")[0]
    return (
        f"torchcodec {found} does not decode on {device} ({why}): install one that was built for "
        "this torch and its CUDA, from where torch is from"
    )


@dataclass(slots=True)
class DeviceDecoder:
    """Decodes and resizes batches of JPEG files on a device.

    Attributes:
        device: A torch device; on "cpu" libjpeg-turbo decodes, and all else is the same.
        plan: The geometry.
        together: Bytes of decoded pictures at once; less when memory ran out.
    """

    device: str
    plan: Preprocessing
    together: int = TOGETHER
    _stream: Any = None

    def decode(self, images: Sequence[EncodedJpeg], out: Sequence[Pixels]) -> list[int]:
        """Decode, turn upright, resize and crop.

        Args:
            images: The files.
            out: Where to put the pixels of each, shape (size, size, 3).

        Returns:
            Places of the files that the decoder refuses; `out` holds anything there.

        Raises:
            BackboneError: If the device has too little memory for one picture.
        """
        refused: list[int] = []
        waiting = [list(part) for part in self._parts(images)][::-1]
        while waiting:
            part = waiting.pop()
            try:
                self._put([images[i] for i in part], [out[i] for i in part])
            except RuntimeError as error:  # of memory too: torchcodec wraps it
                if _is_of_memory(error):
                    self._take_less([images[i] for i in part])
                elif len(part) == 1:
                    refused += part
                    continue
                half = len(part) // 2
                waiting += [part[half:], part[:half]]
        return refused

    def _parts(self, images: Sequence[EncodedJpeg]) -> Iterator[range]:
        """Places of images that are decoded together, one after the other."""
        start, size = 0, 0
        for i, image in enumerate(images):
            if size + image.pixel_bytes > self.together and i > start:
                yield range(start, i)
                start, size = i, 0
            size += image.pixel_bytes
        if start < len(images):
            yield range(start, len(images))

    def _put(self, images: Sequence[EncodedJpeg], out: Sequence[Pixels]) -> None:
        import torch

        with self._beside_the_model():
            decoded = _decode([image.picture() for image in images], self.device)
            for image, pixels, place in zip(images, decoded, out, strict=True):
                if pixels.shape != (3, image.height, image.width):
                    raise RuntimeError("a picture of another size than its header says")
                square = self.plan.apply_on_device(_upright(pixels, image.orientation))
                torch.from_numpy(place).copy_(square, non_blocking=True)

    @contextmanager
    def _beside_the_model(self) -> Iterator[None]:
        """Work in this block has a stream of its own, and is done at its end."""
        import torch

        if not self.device.startswith("cuda"):
            yield
            return
        if self._stream is None:
            streams: Any = torch.cuda  # not typed
            self._stream = streams.Stream(self.device)
        with torch.cuda.stream(self._stream):
            try:
                yield
            finally:
                # nvJPEG writes in another stream: no memory may be free that is still being read.
                self._stream.synchronize()

    def _take_less(self, images: Sequence[EncodedJpeg]) -> None:
        import torch

        if len(images) == 1:
            raise BackboneError(
                f"{self.device} has too little memory to decode a picture of {images[0].width} x "
                f"{images[0].height} beside the model. Take a smaller batch size, or jpeg_decoder "
                "= 'cpu' in a new view."
            )
        self.together = sum(image.pixel_bytes for image in images) // 2
        if self._stream is not None:
            torch.cuda.empty_cache()


def _decode(files: "Sequence[Pixels]", device: str) -> "list[Tensor]":
    """Pictures as they are stored, each (3, height, width), uint8."""
    import torch

    decoders: Any = import_module("torchcodec.decoders")  # not typed
    encoded = [torch.from_numpy(data) for data in files]
    pictures: list[Tensor] = decoders.decode_jpeg(encoded, mode="RGB", device=device)
    return pictures


def _upright(image: "Tensor", orientation: int) -> "Tensor":
    image = image.flip(_FLIPS.get(orientation, ()))
    return image.transpose(1, 2) if orientation >= 5 else image


def _is_of_memory(error: RuntimeError) -> bool:
    import torch

    text = str(error)
    known = "out of memory" in text or _NO_ALLOCATION.search(text) is not None
    return known or isinstance(error, torch.OutOfMemoryError)
