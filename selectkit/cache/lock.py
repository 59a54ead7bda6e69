"""Who may write a store, on one machine or on a file system that shares locks.

Byte 0 of the file `.lock` is the store's: one writer holds it exclusively, or any number of shard
writers share it. Byte 1 + k is shard k's, held for as long as its files are replaced.

POSIX record locks end with the process and are not inherited by worker processes (which would keep
a flock alive after the parent died): a killed writer leaves no lock behind. They do not exclude a
second handle in the same process, so the process also keeps a list of what it holds.
"""

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from selectkit.errors import CacheError

_PATIENCE = 60.0  # seconds for the files of one shard
_held: set[tuple[int, str]] = set()
_guard = threading.Lock()


class BusyError(CacheError):
    """Somebody else is writing."""


class UnwritableError(CacheError):
    """The place is read-only, full, or not the user's to write."""


class Lock(Protocol):
    """The right to write one store; what its methods promise is said at `WriteLock`.

    Attributes:
        pause: Seconds after which it is worth asking again.
    """

    pause: float

    @property
    def is_held(self) -> bool:
        """Whether this handle holds the lock, shared or not, in this process."""
        ...

    def is_taken(self) -> bool:
        """Return whether somebody may be writing, or have been."""
        ...

    def held(self, *, shared: bool = False) -> AbstractContextManager[bool]:
        """Hold the lock."""
        ...

    def share(self) -> None:
        """Let others in who share."""
        ...

    def shard(self, shard: int, patience: float = _PATIENCE) -> AbstractContextManager[None]:
        """Be the only one that replaces the files of one shard."""
        ...


class WriteLock:
    """The right to write a local store; entered again by the same handle at no cost."""

    pause = 0.05

    def __init__(self, root: Path) -> None:
        self._root = root
        self._file = root / ".lock"
        self._key = str(root.resolve())
        self._depth = 0
        self._owner = 0
        self._handle = -1
        self._shared = False
        self._one_thread = threading.RLock()
        self._shards: list[int] = []

    @property
    def is_held(self) -> bool:
        """Whether this handle holds the lock, shared or not, in this process."""
        return self._depth > 0 and self._owner == os.getpid()

    def is_taken(self) -> bool:
        """Return whether somebody may be writing, or have been: there is a lock file."""
        return self._file.exists()

    @contextmanager
    def held(self, *, shared: bool = False) -> Iterator[bool]:
        """Hold the lock; yields whether it was taken here and not already by an outer block.

        Args:
            shared: Beside other processes that share it, too.

        Yields:
            True in the outermost block.

        Raises:
            BusyError: If somebody else is writing the store.
            UnwritableError: If the place cannot be written.
        """
        with _guard:
            outermost = not self.is_held
            if outermost:
                self._acquire(shared)
            elif self._shared and not shared:
                raise BusyError(self._busy())
            self._depth += 1
        try:
            yield outermost
        finally:
            with _guard:
                self._depth -= 1
                if self._depth == 0:
                    _held.discard((self._owner, self._key))
                    os.close(self._handle)

    def share(self) -> None:
        """Let others in who share; the block goes on without a gap."""
        fcntl.lockf(self._handle, fcntl.LOCK_SH | fcntl.LOCK_NB, 1, 0)
        self._shared = True

    @contextmanager
    def shard(self, shard: int, patience: float = _PATIENCE) -> Iterator[None]:
        """Within `held`, be the only one that replaces the files of one shard.

        Args:
            shard: Its number.
            patience: Seconds to wait for another process that is at it.

        Yields:
            Nothing.

        Raises:
            BusyError: If the other process does not end.
        """
        until = time.monotonic() + patience
        with self._one_thread:
            while shard not in self._shards and not self._try(fcntl.LOCK_EX, 1 + shard):
                if time.monotonic() > until:
                    raise BusyError(f"shard {shard} of {self._busy()}")
                time.sleep(0.01)
            self._shards.append(shard)
            try:
                yield
            finally:
                self._shards.pop()
                if shard not in self._shards:
                    fcntl.lockf(self._handle, fcntl.LOCK_UN, 1, 1 + shard)

    def _busy(self) -> str:
        return f"{self._root} is being written by another process: wait for it, or stop it."

    def _try(self, mode: int, byte: int) -> bool:
        try:
            fcntl.lockf(self._handle, mode | fcntl.LOCK_NB, 1, byte)
        except (BlockingIOError, PermissionError):
            return False
        return True

    def _acquire(self, shared: bool) -> None:
        if (os.getpid(), self._key) in _held:
            raise BusyError(self._busy())
        try:
            self._handle = os.open(self._file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise UnwritableError(f"{self._root} cannot be written: {error.strerror}.") from None
        if not self._try(fcntl.LOCK_SH if shared else fcntl.LOCK_EX, 0):
            os.close(self._handle)
            raise BusyError(self._busy())
        self._owner, self._depth, self._shared = os.getpid(), 0, shared
        _held.add((self._owner, self._key))
