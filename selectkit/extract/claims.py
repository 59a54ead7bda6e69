"""Who computes which shard, when several processes extract into one store.

A claim is a file, `leases/<view>/<shard>.json` in the store, made atomically and removed when its
shard is committed; a finished store has none. Its owner touches it every few seconds. The claim of
an owner that died is taken over: at once if it was a process of this machine that is gone, else
when the file has not been touched for `expiry` seconds. All times compared are those that the
file system wrote, so the clocks of the machines do not matter; and because a clock can also be
set, a claim that looks too old must stay untouched for a while under the eyes of its taker.

A claim only saves work. If it is taken from an owner that is alive after all, that one notices
before it commits, and whoever commits writes the same bytes.
"""

import json
import os
import secrets
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from selectkit.cache import BusyError, FeatureStore
from selectkit.errors import CacheError

EXPIRY = 60.0


class Claims:
    """The unfinished shards of a view, and this process's claims on them."""

    def __init__(
        self, store: FeatureStore, view: str, shards: Iterable[int], *, expiry: float = EXPIRY
    ) -> None:
        """Claim nothing yet.

        Args:
            store: The store, within `sharing`.
            view: Name of the view.
            shards: The shards that this process has to see finished; asked for one by one.
            expiry: Seconds after which an untouched claim is void.
        """
        self._store, self._view, self._expiry = store, view, expiry
        self._new = iter(shards)
        self._open: dict[int, None] = {}
        self._folder = store.path / "leases" / view
        self._me = _identity()
        self._held: dict[int, int] = {}  # shard: open file
        self._watched: dict[int, tuple[float, float]] = {}  # shard: touched, first seen so
        self._guard = threading.RLock()
        self._ended = threading.Event()
        self._beat = threading.Thread(target=self._keep_alive, name="claims", daemon=True)

    def __enter__(self) -> Self:
        """Begin to keep claims alive."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CacheError(f"{self._store.path} cannot be written: {error.strerror}.") from None
        self._beat.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give all claims back."""
        self._ended.set()
        self._beat.join()
        for shard in list(self._held):
            with suppress(OSError, CacheError):
                self.release(shard)

    def available(self) -> Iterator[int]:
        """Claim one shard after the other, those that others are computing left out.

        Yields:
            Shards to compute, each claimed when it is asked for.
        """
        for shard in self._asked():
            if shard not in self._held and not self._done(shard) and self._claim(shard):
                if self._done(shard):  # its owner finished it a moment ago
                    self.release(shard)
                else:
                    yield shard

    def unfinished(self) -> set[int]:
        """Return those of the shards asked for that are not committed, whoever computes them."""
        return {shard for shard in list(self._open) if not self._done(shard)}

    def holds(self, shard: int) -> bool:
        """Return whether the claim on a shard is still this process's; ask within `writing_shard`.

        Args:
            shard: Its number.

        Returns:
            False when it expired and somebody else has taken it.
        """
        with self._guard:
            return shard in self._held and self._owner(shard) == self._me

    def release(self, shard: int) -> None:
        """Give a claim back, after the commit or without one."""
        with self._store.writing_shard(shard), self._guard:
            mine = self.holds(shard)
            handle = self._held.pop(shard, None)
            if handle is not None:
                os.close(handle)
            if mine:
                self._file(shard).unlink(missing_ok=True)

    def _asked(self) -> Iterator[int]:
        """Those that were asked for and others have, then new ones."""
        yield from list(self._open)
        for shard in self._new:
            self._open[shard] = None
            yield shard

    def _done(self, shard: int) -> bool:
        if shard in self._open and self._store.finished(self._view, shard):
            del self._open[shard]
        return shard not in self._open

    def _claim(self, shard: int) -> bool:
        if self._create(shard):
            return True
        if not self._is_void(shard):
            return False
        with self._store.writing_shard(shard):  # of several that want it, one gets it
            if self._is_void(shard):
                self._file(shard).unlink(missing_ok=True)
                return self._create(shard)
        return False

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
        if _is_gone(self._owner(shard)):
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


def tidy(store: FeatureStore, view: str) -> None:
    """After a run, remove what dead processes left; the last of several that run does it.

    Args:
        store: The store, outside `sharing`.
        view: Name of the view.
    """
    folder = store.path / "leases" / view
    with suppress(BusyError), store.writing():
        with suppress(FileNotFoundError):
            for file in folder.iterdir():
                if file.stem.isdecimal() and store.finished(view, int(file.stem)):
                    file.unlink()
        for place in (folder, folder.parent):
            with suppress(OSError):  # not empty, or not there
                place.rmdir()


def _identity() -> dict[str, str]:
    """Names this use of this process, and where to look whether the process still lives."""
    return {**_machine(), **_process(os.getpid()), "key": secrets.token_hex(8)}


@cache
def _machine() -> dict[str, str]:
    """This boot of this machine and its name space of processes; nothing where that is unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return {"boot": boot, "space": os.readlink("/proc/self/ns/pid")}  # noqa: PTH115 # no path
    except OSError:
        return {}


def _process(number: int) -> dict[str, str]:
    """A process by number and start; without the start when there is none."""
    try:
        state = Path(f"/proc/{number}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {"process": str(number)}
    fields = state.rpartition(")")[2].split()
    return {"process": str(number)} | ({} if fields[0] in "ZX" else {"start": fields[19]})


def _is_gone(owner: dict[str, str]) -> bool:
    """Whether a claim's owner was a process of this machine that is no more."""
    here = _machine()
    if not here or {key: owner.get(key) for key in here} != here or "start" not in owner:
        return False
    return _process(int(owner["process"])).get("start") != owner["start"]
