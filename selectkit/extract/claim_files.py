"""Claims as files, for stores in a local folder.

A claim is a file, `leases/<view>/<shard>.json` in the store, made atomically and removed when its
shard is committed; a finished store has none. Its owner touches it every few seconds. The claim of
an owner that died is taken over: at once if it was a process of this machine that is gone, else
when the file has not been touched for `expiry` seconds. All times compared are those that the
file system wrote, so the clocks of the machines do not matter; and because a clock can also be
set, a claim that looks too old must stay untouched for a while under the eyes of its taker.
"""

import json
import os
import threading
import time
from contextlib import suppress
from pathlib import Path

from selectkit.cache import BusyError, FeatureStore, UnwritableError
from selectkit.cache.owner import identity, is_gone
from selectkit.errors import CacheError


class FileClaims:
    """The claims on the shards of a view, as files."""

    def __init__(self, store: FeatureStore, folder: Path, view: str, expiry: float) -> None:
        """Claim nothing yet.

        Args:
            store: The store, within `sharing`.
            folder: Where it lies.
            view: Name of the view.
            expiry: Seconds after which an untouched claim is void.
        """
        self._store, self._view, self._expiry = store, view, expiry
        self._folder = folder / "leases" / view
        self._me = identity()
        self._held: dict[int, int] = {}  # shard: open file
        self._watched: dict[int, tuple[float, float]] = {}  # shard: touched, first seen so
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="claims", daemon=True)

    def begin(self) -> None:
        """Begin to keep claims alive."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{self._store.path} cannot be written: {error.strerror}.") from None
        self._beat.start()

    def end(self) -> None:
        """Keep them alive no longer."""
        self._ended.set()
        self._beat.join()

    def look(self, *shards: int) -> None:
        """Do nothing: what others commit is seen at once."""

    def take(self, shard: int) -> bool:
        """Claim a shard, unless somebody who lives has done so."""
        if self._create(shard):
            return True
        if not self._is_void(shard):
            return False
        with self._store.writing_shard(shard):  # of several that want it, one gets it
            if self._is_void(shard):
                self._file(shard).unlink(missing_ok=True)
                return self._create(shard)
        return False

    def holds(self, shard: int) -> bool:
        """Return whether a claim is still this process's."""
        with self._guard:
            return shard in self._held and self._owner(shard) == self._me

    def drop(self, shard: int) -> None:
        """Give a claim back."""
        with self._store.writing_shard(shard), self._guard:
            mine = self.holds(shard)
            handle = self._held.pop(shard, None)
            if handle is not None:
                os.close(handle)
            if mine:
                self._file(shard).unlink(missing_ok=True)

    def tidy(self) -> None:
        """Remove what dead processes left; the last of several that run does it."""
        folder = self._folder
        with suppress(BusyError, UnwritableError), self._store.writing():
            with suppress(FileNotFoundError):
                for file in folder.iterdir():
                    if file.stem.isdecimal() and self._store.finished(self._view, int(file.stem)):
                        file.unlink()
            for place in (folder, folder.parent):
                with suppress(OSError):  # not empty, or not there
                    place.rmdir()

    def _create(self, shard: int) -> bool:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            handle = os.open(self._file(shard), flags, 0o666)
        except FileExistsError:
            return False
        with self._guard:
            self._held[shard] = handle
        os.write(handle, json.dumps(self._me).encode())
        return True

    def _is_void(self, shard: int) -> bool:
        try:
            touched = self._file(shard).stat().st_mtime
        except FileNotFoundError:
            return False  # the next round can have it
        if is_gone(self._owner(shard)):
            return True
        seen, since = self._watched.get(shard, (None, 0.0))
        if touched != seen:
            since = time.monotonic()
            self._watched[shard] = touched, since
        watched = time.monotonic() - since
        if watched >= self._expiry:
            return True
        return watched >= self._expiry / 3 and self._now() - touched >= self._expiry

    def _now(self) -> float:
        """What the file system takes for the time."""
        os.utime(self._folder)
        return self._folder.stat().st_mtime

    def _owner(self, shard: int) -> dict[str, str]:
        try:
            owner = json.loads(self._file(shard).read_bytes())
        except (OSError, ValueError):
            return {}
        return owner if isinstance(owner, dict) else {}

    def _file(self, shard: int) -> Path:
        return self._folder / f"{shard:05d}.json"

    def _keep_alive(self) -> None:
        while not self._ended.wait(self._expiry / 6):
            with self._guard:
                for handle in self._held.values():
                    with suppress(OSError):
                        os.utime(handle)
