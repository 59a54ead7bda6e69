"""Decoding and forward passes in turn, for where both want the same cores.

Every product in a forward pass is shared out evenly and waits for the slowest of its threads, so a
thread that loses its core to a decoder for some milliseconds holds up all the others. Between two
batches nobody waits for a decoder but the next batch.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

SMALL = 0.2
"""Decoding beside forward passes: up to this share, cores that idle during the latter are few."""


class Turns:
    """Holds decoders back while a batch is computed, where that pays.

    Where images take longer to arrive than to decode, each is better decoded as it comes; and where
    decoding is a good part of the work, the model is so light that it leaves cores idle.
    """

    def __init__(self) -> None:
        """Nothing is computed yet."""
        self._free = threading.Event()
        self._free.set()
        self._lock = threading.Lock()
        self._reading = self._decoding = self._computing = 0.0

    @contextmanager
    def forward(self) -> Iterator[None]:
        """Compute a batch; images are read meanwhile, but none is begun to be decoded.

        Yields:
            Nothing.
        """
        with self._lock:
            pays = self._reading <= self._decoding <= SMALL * self._computing
        if pays:
            self._free.clear()
        start = perf_counter()
        try:
            yield
        finally:
            self._free.set()
        self._computing += perf_counter() - start

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Read an image, at any time.

        Yields:
            Nothing.
        """
        start = perf_counter()
        yield
        with self._lock:
            self._reading += perf_counter() - start

    @contextmanager
    def decoding(self) -> Iterator[None]:
        """Decode an image when it is the decoders' turn.

        Yields:
            Nothing.
        """
        self._free.wait()
        start = perf_counter()
        yield
        with self._lock:
            self._decoding += perf_counter() - start
