"""One writer at a time, on one machine; a killed writer leaves no lock behind.

POSIX record locks end with the process and are not inherited by worker processes (which would keep
a flock alive after the parent died). They do not exclude a second handle in the same process, so
the process also keeps a list of what it holds.
"""

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from selectkit.errors import CacheError

_held: set[tuple[int, str]] = set()
_guard = threading.Lock()


class WriteLock:
    """The exclusive right to write one store; entered again by the same handle at no cost."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / ".lock"
        self._key = str(root.resolve())
        self._depth = 0
        self._owner = 0
        self._handle = -1

    @contextmanager
    def held(self) -> Iterator[bool]:
        """Hold the lock; yields whether it was taken here and not already by an outer block.

        Yields:
            True in the outermost block.

        Raises:
            CacheError: If somebody else is writing the store, or the place cannot be written.
        """
        with _guard:
            outermost = self._depth == 0 or self._owner != os.getpid()
            if outermost:
                self._acquire()
            self._depth += 1
        try:
            yield outermost
        finally:
            with _guard:
                self._depth -= 1
                if self._depth == 0:
                    _held.discard((self._owner, self._key))
                    os.close(self._handle)

    def _acquire(self) -> None:
        busy = f"{self._root} is being written by another process: wait for it, or stop it."
        if (os.getpid(), self._key) in _held:
            raise CacheError(busy)
        try:
            handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise CacheError(f"{self._root} cannot be written: {error.strerror}.") from None
        try:
            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(handle)
            raise CacheError(busy) from None
        self._owner, self._handle, self._depth = os.getpid(), handle, 0
        _held.add((self._owner, self._key))
