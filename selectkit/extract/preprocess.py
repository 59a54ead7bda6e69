"""From an RGB image to the square of pixels a backbone sees. Normalisation is the backbone's part.

Two ways, because DINOv3 material uses both: "meta-eval" is the transform of Meta's evaluation code
(shorter side to 256/224 of the size, then the centre; dinov3/data/transforms.py), "squash" is that
of its model card (both sides to the size). They give different features for the same photo, so the
choice is part of a view's fingerprint. A file may set every part of the geometry.
"""

import json
import tomllib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from selectkit.config import build
from selectkit.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
MAX_ASPECT_RATIO = 100

Mode = Literal["meta-eval", "squash"]
Interpolation = Literal["bicubic", "bilinear"]
Rgb = tuple[float, float, float]
Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """Size, geometry and normalisation of the pixels a backbone sees.

    Attributes:
        size: Height and width of the result in pixels.
        mode: "meta-eval" (resize the shorter side to `shorter`, centre crop) or "squash" (resize
            both sides to `size`).
        interpolation: Filter of the resize, antialiased.
        mean: Per-channel mean in [0, 1], subtracted on the device.
        std: Per-channel standard deviation, divided by on the device.
        resize: "meta-eval": the shorter side before the crop; None = round(size * 256 / 224).
    """

    size: int
    mode: Mode = "meta-eval"
    interpolation: Interpolation = "bicubic"
    mean: Rgb = IMAGENET_MEAN
    std: Rgb = IMAGENET_STD
    resize: int | None = None

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ConfigError(f"image size must be a positive number of pixels, got {self.size}.")
        if self.mode not in {"meta-eval", "squash"}:
            raise ConfigError(f"mode must be 'meta-eval' or 'squash', got {self.mode!r}.")
        if self.interpolation not in {"bicubic", "bilinear"}:
            raise ConfigError(
                f"interpolation must be 'bicubic' or 'bilinear', got {self.interpolation!r}."
            )
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ConfigError(
                f"mean and std must be three numbers each, std positive; got {self.mean} "
                f"and {self.std}."
            )
        if self.resize is not None and self.mode == "squash":
            raise ConfigError("resize is the shorter side before a crop, and squash crops nothing.")
        if self.resize is not None and self.resize < self.size:
            raise ConfigError(f"resize must be at least the size {self.size}, got {self.resize}.")

    @property
    def shorter(self) -> int:
        """The shorter side in pixels before the centre crop of "meta-eval"."""
        return round(self.size * 256 / 224) if self.resize is None else self.resize

    def apply(self, pixels: Pixels, out: Pixels | None = None) -> Pixels:
        """Resize one image and keep the square of it that the backbone sees.

        The result is that of torchvision's Resize (antialiased) and CenterCrop, `transforms.v2`, on
        a tensor of bytes. On a Pillow image they take six times as long, and differ by one grey
        level in a few of 1,000 pixels (by two where the image is enlarged).

        Args:
            pixels: Shape (height, width, 3), RGB, sides of at most a ratio of 100.
            out: Where to put the pixels; without it, a new array.

        Returns:
            Shape (size, size, 3), uint8; `out` when it was given.
        """
        import torch

        height, width = pixels.shape[:2]
        image = torch.from_numpy(np.require(pixels, requirements=["C", "W"]))
        resized = torch.nn.functional.interpolate(
            image.permute(2, 0, 1)[np.newaxis],
            size=self._resized(height, width),
            mode=self.interpolation,
            antialias=True,
        )[0].permute(1, 2, 0)
        if out is None:
            out = np.empty((self.size, self.size, 3), dtype=np.uint8)
        torch.from_numpy(out).copy_(resized[self._window(*resized.shape[:2])])
        return out

    def apply_on_device(self, image: "Tensor") -> "Tensor":
        """Do as `apply` does, where an image lies; on devices torch resizes no bytes.

        The filter is the same, columns before rows and bytes in between, but its weights are not
        rounded: from those of `apply` a pixel differs by at most one or two grey levels.

        Args:
            image: Shape (3, height, width), uint8, RGB, sides of at most a ratio of 100.

        Returns:
            Shape (size, size, 3), uint8, contiguous, on the same device.
        """
        import torch

        height, width = self._resized(*image.shape[1:])
        rows, columns = self._window(height, width)

        def resized(x: "Tensor", height: int, width: int) -> "Tensor":
            x = torch.nn.functional.interpolate(
                x, size=(height, width), mode=self.interpolation, antialias=True
            )
            return x.clamp(0, 255).round()

        x = resized(image[np.newaxis].float(), image.shape[1], width)[..., columns]
        x = resized(x, height, self.size)[0, :, rows]
        return x.permute(1, 2, 0).to(torch.uint8).contiguous()

    def _window(self, height: int, width: int) -> tuple[slice, slice]:
        """The centre of a resized image, rows and columns."""
        top, left = (round((side - self.size) / 2) for side in (height, width))
        return slice(top, top + self.size), slice(left, left + self.size)

    def _resized(self, height: int, width: int) -> tuple[int, int]:
        if self.mode == "squash":
            return self.size, self.size
        short = self.shorter
        long = int(short * max(width, height) / min(width, height))
        return (long, short) if width <= height else (short, long)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON types; "resize" only when it is set."""
        fields = {**asdict(self), "mean": list(self.mean), "std": list(self.std)}
        if self.resize is None:
            del fields["resize"]
        return fields

    @classmethod
    def from_dict(cls, fields: dict[str, Any]) -> "Preprocessing":
        """Build it from what `to_dict` returned.

        Args:
            fields: The fields.

        Returns:
            The equal object.

        Raises:
            ConfigError: If a value is not allowed.
        """
        return cls(**{**fields, "mean": tuple(fields["mean"]), "std": tuple(fields["std"])})


@dataclass(frozen=True)
class _File:
    """What a file of `--preprocess` may say."""

    size: int | None = None
    mode: Mode | None = None
    interpolation: Interpolation | None = None
    resize: int | None = None


def read_preprocessing(path: Path, default: Preprocessing) -> Preprocessing:
    """Read a geometry from a TOML or JSON file: size, mode, interpolation, resize.

    Args:
        path: The file, ending in .toml or .json. What it leaves out is as in `default`; mean and
            std are the backbone's and cannot be in it.
        default: The backbone's own.

    Returns:
        The geometry.

    Raises:
        ConfigError: If the file cannot be read or says something that cannot be done, with all
            unknown keys and unusable values in one message.
    """
    try:
        text = path.read_text(encoding="utf-8")
        values = tomllib.loads(text) if path.suffix.lower() == ".toml" else json.loads(text)
    except FileNotFoundError:
        raise ConfigError(f"{path} is missing: there is no preprocessing to read.") from None
    except (OSError, ValueError) as error:  # of both formats
        raise ConfigError(f"{path} cannot be read: {error}.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a table: size, mode, interpolation or resize.")
    wanted = {
        k: v for k, v in asdict(build(_File, values, where=str(path))).items() if v is not None
    }
    if not values:
        raise ConfigError(f"{path} says nothing: set size, mode, interpolation or resize.")
    try:
        return replace(default, **wanted)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
