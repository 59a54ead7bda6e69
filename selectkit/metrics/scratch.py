"""Working memory that is used again: for large arrays, getting it costs more than filling it."""

import threading
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt


class Scratch(threading.local):
    """Named buffers of one thread; what one call returned is overwritten by the next."""

    def __init__(self) -> None:
        self._bytes: dict[str, npt.NDArray[np.uint8]] = {}

    def array(self, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> npt.NDArray[Any]:
        """Return an array of arbitrary content.

        Args:
            name: Which buffer; two that are needed at a time have two names.
            shape: Its shape.
            dtype: Its dtype.

        Returns:
            A view of the buffer, which grows when it must.
        """
        size = prod(shape) * np.dtype(dtype).itemsize
        if name not in self._bytes or len(self._bytes[name]) < size:
            self._bytes[name] = np.empty(size, dtype=np.uint8)
        return self._bytes[name][:size].view(dtype).reshape(shape)
