"""Synthetic photographs: colour noise with the 1/f spectrum of natural images, as JPEG files."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image


def photograph(seed: int, width: int = 500, height: int = 375) -> npt.NDArray[np.uint8]:
    """Draw one image whose amplitude falls as 1/f, channels correlated, standard deviation 50."""
    rng = np.random.default_rng(seed)
    frequency = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None])
    frequency[0, 0] = 1
    shape = (4, *frequency.shape)
    spectrum = (rng.normal(size=shape) + 1j * rng.normal(size=shape)) / frequency
    common, *colours = np.fft.irfft2(spectrum, s=(height, width))
    layers = np.stack([common + colour / 2 for colour in colours], axis=-1)
    layers = (layers - layers.mean(axis=(0, 1))) / layers.std(axis=(0, 1)) * 50 + 128
    pixels: npt.NDArray[np.uint8] = np.clip(layers, 0, 255).astype(np.uint8)
    return pixels


def write_photographs(folder: Path, distinct: int, copies: int) -> list[Path]:
    """Write JPEG files of 500 x 375, 4:2:0, about 100 kB each.

    Args:
        folder: Made if it is not there.
        distinct: Different images.
        copies: Files of each; a comment makes their contents differ.

    Returns:
        The files, sorted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for seed in range(distinct):
        image = Image.fromarray(photograph(seed))
        for copy in range(copies):
            buffer = io.BytesIO()
            image.save(buffer, "JPEG", quality=85, subsampling=2, comment=f"copy {copy}".encode())
            files.append(folder / f"{copy:03d}-{seed:03d}.jpg")
            files[-1].write_bytes(buffer.getvalue())
    return sorted(files)
