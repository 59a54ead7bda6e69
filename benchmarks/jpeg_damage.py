"""How much damage inside a JPEG file is noticed: by the CPU's decoder, by markers alone, by nvJPEG?

Run `python -m benchmarks.jpeg_damage > benchmarks/results/jpeg_damage.jsonl`; a minute. Photographs
of 500 x 375; random bytes stand at a random place inside the scan. nvJPEG takes part where there is
a CUDA device and torchcodec: what it gets has passed the markers.
"""

import argparse
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from benchmarks._figures import figure
from benchmarks._photographs import photograph
from selectkit.errors import SelectkitError
from selectkit.extract import Preprocessing, UndecodableImageError
from selectkit.extract.decode import decode_pixels
from selectkit.extract.encoded import encoded_jpeg
from selectkit.extract.jpeg_device import device_decoder

PACKAGES = ("simplejpeg", "torchcodec", "numpy")


def damaged(rng: np.random.Generator, data: bytes, size: int) -> bytes:
    """Replace `size` bytes inside the scan."""
    at = int(rng.integers(data.rindex(b"\xff\xda") + 14, len(data) - 2 - size))
    return data[:at] + rng.bytes(size) + data[at + size :]


def processor_notices(data: bytes) -> bool:
    """Whether the CPU's decoder refuses a file."""
    try:
        decode_pixels(data)
    except UndecodableImageError:
        return True
    return False


def markers_notice(data: bytes) -> bool:
    """Whether a file is left to the CPU because of its markers."""
    return encoded_jpeg(data) is None


def device_notices() -> Callable[[bytes], bool] | None:
    """Whether markers or nvJPEG refuse a file; None without a device."""
    plan = Preprocessing(224)
    try:
        decoder = device_decoder("cuda", plan)
    except SelectkitError:
        return None
    out = np.empty((plan.size, plan.size, 3), dtype=np.uint8)

    def notices(data: bytes) -> bool:
        found = encoded_jpeg(data)
        return found is None or bool(decoder.decode([found], [out]))

    return notices


def main() -> None:
    """Print the shares."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=2000, help="for each size of the damage")
    options = parser.parse_args()
    files = []
    for seed in range(16):
        buffer = io.BytesIO()
        Image.fromarray(photograph(seed)).save(buffer, "JPEG", quality=85, subsampling=2)
        files.append(buffer.getvalue())
    judges: dict[str, Callable[[bytes], bool]] = {
        "the CPU's decoder": processor_notices,
        "markers alone": markers_notice,
    }
    if (by_device := device_notices()) is not None:
        judges["markers and nvJPEG"] = by_device
    for size in (1, 16, 1024):
        rng = np.random.default_rng(size)
        broken = [damaged(rng, files[i % 16], size) for i in range(options.files)]
        for name, notices in judges.items():
            share = float(np.mean([notices(data) for data in broken]))
            what = f"wrong bytes in a JPEG of 100 kB, {size:,} together: noticed by {name}"
            figure(what, share, "share", packages=PACKAGES)


if __name__ == "__main__":
    main()
