"""The three ways a number is stored, and the bytes of a chunk.

bfloat16 is the upper half of a float32, rounded to nearest even; NumPy has no such type, so it is
stored as uint16 and returned as float32.
"""

from collections.abc import Mapping
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt

from selectkit.arrays import Floats
from selectkit.errors import CacheError, ConfigError

_STORED: Mapping[str, str] = {"float16": "<f2", "float32": "<f4", "bfloat16": "<u2"}
_LARGEST = {
    "float16": 65504.0,
    "float32": float(np.finfo(np.float32).max),
    "bfloat16": float.fromhex("0x1.fep127"),
}
_INFINITY = {  # all bits but the sign, and what they are for an infinite number
    "float16": (0x7FFF, 0x7C00),
    "float32": (0x7FFFFFFF, 0x7F800000),
    "bfloat16": (0x7FFF, 0x7F80),
}
_QUIET_NAN = 0x7FC0


def checked_dtype(name: str) -> str:
    """Return the name of a stored dtype.

    Args:
        name: "float16", "float32" or "bfloat16".

    Returns:
        The name itself.

    Raises:
        ConfigError: If it is another.
    """
    if name not in _STORED:
        raise ConfigError(f"dtype {name!r} cannot be stored: use one of {', '.join(_STORED)}.")
    return name


def stored_dtype(name: str) -> np.dtype[np.generic]:
    """Return the NumPy dtype of the bytes on disk, little-endian."""
    return np.dtype(_STORED[name])


def encode(values: Floats, dtype: str, what: str) -> npt.NDArray[np.generic]:
    """Return values as they are stored.

    Args:
        values: Shape (M, D), any float dtype. NaN stays NaN.
        dtype: Name of the stored dtype.
        what: Which array this is; used in the message.

    Returns:
        Shape (M, D), the dtype on disk, C order.

    Raises:
        CacheError: If a value is infinite, or becomes so by rounding to the dtype.
    """
    with np.errstate(over="ignore"):
        if dtype == "bfloat16":
            bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
            rounded = (bits + (0x7FFF + ((bits >> 16) & 1))) >> 16
            stored = np.where(np.isnan(values), _QUIET_NAN, rounded).astype("<u2")
        else:
            stored = np.ascontiguousarray(values, dtype=_STORED[dtype])
    mask, infinity = _INFINITY[dtype]
    bits = stored.view(f"<u{stored.itemsize}")
    if not _all_finite(bits, mask, infinity) and ((bits & mask) == infinity).any():
        largest = float(np.nanmax(np.abs(values)))
        wider = [d for d in ("float32", "bfloat16") if _LARGEST[d] >= largest]
        raise CacheError(
            f"{what} holds values up to {largest:.6g}, but {dtype} ends at {_LARGEST[dtype]:.6g}: "
            + (f"store them as {' or '.join(wider)}." if wider else "no stored dtype holds them.")
        )
    return stored


def _all_finite(bits: npt.NDArray[Any], mask: int, infinity: int) -> bool:
    """Whether no value is infinite or NaN, by the largest bits of either sign: no copies."""
    if not bits.size:
        return True
    positive = int(bits.view(f"<i{bits.itemsize}").max())
    return positive < infinity and int(bits.max()) < mask + 1 + infinity


def decode(stored: npt.NDArray[np.generic], dtype: str) -> Floats:
    """Return what `encode` was given, up to rounding: float16 or float32 (also for bfloat16)."""
    if dtype != "bfloat16":
        return np.asarray(stored, dtype=np.dtype(dtype))
    return (stored.astype("<u4") << 16).view("<f4")


def chunk_bytes(stored: npt.NDArray[np.generic], chunk_rows: int) -> bytes:
    """Return a Zarr chunk file: the rows, NaN rows up to `chunk_rows`, then their CRC-32C.

    Args:
        stored: Shape (M, D), M <= chunk_rows, as `encode` returns it.
        chunk_rows: Rows of a whole chunk.

    Returns:
        The bytes of the file.
    """
    fill = _QUIET_NAN if stored.dtype.kind == "u" else np.nan
    padding = np.full((chunk_rows - len(stored), stored.shape[1]), fill, dtype=stored.dtype)
    parts = [np.ascontiguousarray(stored), padding]
    checksum = 0
    for part in parts:
        part = part.view()
        part.flags.writeable = False  # else the library refuses it, and wants a copy
        checksum = int(google_crc32c.extend(checksum, part))
    return b"".join((*(part.data for part in parts), checksum.to_bytes(4, "little")))


def chunk_size(chunk_rows: int, dim: int, dtype: str) -> int:
    """Return the size of a chunk file in bytes."""
    return chunk_rows * dim * stored_dtype(dtype).itemsize + 4
