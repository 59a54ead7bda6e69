"""Who may write a store in an object store, and who computes which shard.

::

    leases/.alone/<key>              a process that is, or wants to be, the only writer
    leases/.shared/<key>             one that writes shards beside others
    leases/.shards/<shard>.<key>     it replaces the files of this shard
    leases/<view>/<shard>.<key>      it computes this shard of a view

A lease is an object whose name nobody else uses, now or later. To take one, a process writes it and
then lists all: it has it if the listing shows no other that stands in the way. Listings show every
write that was answered before, so of two that stand in each other's way, the later one sees the
earlier one. When both see each other, the smaller key waits and the other one steps back.

The first two are written again every few seconds. A key whose first two are older than `EXPIRY` by
the server's clock, or whose process was one of this machine and is gone, is dead: anybody may
remove all it left, because these names never come back. A process that could not write its own for
most of that time stops writing anything.

Nothing here needs conditional writes, which some servers ignore without a word.
"""

import json
import os
import random
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from selectkit.cache import owner
from selectkit.cache.lock import BusyError
from selectkit.errors import CacheError, RemoteError
from selectkit.location import Url
from selectkit.objects import Entry, Objects

EXPIRY = 60.0
_ALONE, _SHARED, _SHARDS, _CLOCK = ".alone", ".shared", ".shards", ".clock"
_PATIENCE = 60.0  # seconds for the files of one shard
_POLITE = 2.0  # seconds for others to step back
_GLANCE = 2.0  # seconds for which a listing is good enough to see what others compute
_in_use: set[str] = set()  # keys of this process


@dataclass(frozen=True, slots=True)
class Lease:
    """One object below `leases/`.

    Attributes:
        folder: ".alone", ".shared", ".shards" or the name of a view.
        shard: Number of the shard, None in the first two.
        key: Whose it is.
        touched: When it was written, by the server's clock.
    """

    folder: str
    shard: int | None
    key: str
    touched: float = 0.0

    @property
    def path(self) -> str:
        """Its path relative to `leases/`."""
        return f"{self.folder}/" + (self.key if self.shard is None else f"{self.shard}.{self.key}")

    @classmethod
    def of(cls, entry: Entry) -> "Lease | None":
        """Read a name; None when it is none of ours."""
        folder, _, name = entry.path.partition("/")
        shard, dot, key = name.rpartition(".")
        if "/" in name or (dot and not shard.isdecimal()):
            return None
        return cls(folder, int(shard) if dot else None, key, entry.touched)


class LeaseLock:
    """The right to write one store in an object store, and claims on its shards.

    What `held`, `share` and `shard` promise is said at `selectkit.cache.lock.WriteLock`.
    """

    pause = 0.5

    def __init__(self, place: Url) -> None:
        """Ask for nothing yet.

        Args:
            place: The store.
        """
        self._place = place
        self._objects = Objects(place / "leases")
        self._pulse_objects = Objects(place / "leases", patient=False)
        self._guard, self._one_thread = threading.RLock(), threading.RLock()
        self._pulse_guard = threading.Lock()
        self._depth, self._owner, self._shards = 0, 0, list[int]()
        self._me = Lease(_ALONE, None, "")
        self._beaten = 0.0
        self._ended = threading.Event()
        self._pulse: threading.Thread | None = None
        self._dead: set[str] = set()
        self._owners: dict[str, dict[str, str]] = {}
        self._glance: tuple[float, list[Lease]] = (float("-inf"), [])

    @property
    def is_held(self) -> bool:
        """Whether this handle holds the lock, shared or not, in this process."""
        return self._depth > 0 and self._owner == os.getpid()

    @contextmanager
    def held(self, *, shared: bool = False) -> Iterator[bool]:
        """Hold the lock; yields whether it was taken here and not already by an outer block.

        Args:
            shared: Beside other processes that share it, too.

        Yields:
            True in the outermost block.

        Raises:
            BusyError: If somebody else is writing the store.
            RemoteError: If the object store cannot be reached or written.
        """
        with self._guard:
            outermost = not self.is_held
            if outermost:
                self._acquire(shared)
            elif self._me.folder == _SHARED and not shared:
                raise BusyError(self._busy())
            self._depth += 1
        try:
            yield outermost
        finally:
            with self._guard:
                self._depth -= 1
                if self._depth == 0:
                    self._end()

    def share(self) -> None:
        """Let others in who share; the block goes on without a gap."""
        with self._guard:
            alone = self._me
            with self._pulse_guard:
                self._me = Lease(_SHARED, None, alone.key)
                self._objects.put(self._me.path, _name())
                self._objects.remove([alone.path])

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
        with self._one_thread:
            lease = Lease(_SHARDS, shard, self._me.key)
            alone = self._me.folder == _ALONE or shard in self._shards
            if not alone:
                self._wait_for(lease, patience)
            self._shards.append(shard)
            try:
                yield
            finally:
                self._shards.pop()
                if not alone:
                    self._objects.remove([lease.path])

    def require(self) -> None:
        """Check that what this process holds is still its own.

        Raises:
            CacheError: If it could not say for too long that it lives.
        """
        if self.is_held and _now() - self._beaten > EXPIRY * 0.75:
            raise CacheError(
                f"{self._place} could not be reached for {_now() - self._beaten:.0f} s, so others "
                "may have taken over. What is committed is safe: run the same command again."
            )

    def claim(self, view: str, shard: int) -> bool:
        """Take a shard of a view to compute it, within a shared `held`.

        Args:
            view: The view.
            shard: Its number.

        Returns:
            Whether nobody else computes it.
        """
        lease = Lease(view, shard, self._me.key)
        if any(self._stands_in_the_way(lease, other) for other in self._glanced()):
            return False
        return self._enter(lease)

    def claims(self, view: str, shard: int) -> bool:
        """Return whether a claim on a shard is still this process's."""
        self.require()
        return self._objects.head(Lease(view, shard, self._me.key).path) is not None

    def unclaim(self, view: str, shard: int) -> None:
        """Give a claim back."""
        self._objects.remove([Lease(view, shard, self._me.key).path])

    def tidy(self) -> None:
        """Remove what dead processes left."""
        self._living()

    def is_taken(self) -> bool:
        """Return whether anybody holds anything."""
        return bool(self._living())

    def _acquire(self, shared: bool) -> None:
        me = Lease(_SHARED if shared else _ALONE, None, secrets.token_hex(8))
        if any(self._stands_in_the_way(me, other) for other in self._living()):
            raise BusyError(self._busy())
        self._me = me
        _in_use.add(me.key)
        try:
            self._beat()
            if not self._enter(me):
                raise BusyError(self._busy())
        except BaseException:
            _in_use.discard(me.key)
            with suppress(RemoteError):
                self._objects.remove([me.path])
            raise
        self._owner, self._depth, self._shards = os.getpid(), 0, []
        self._ended = threading.Event()
        self._pulse = threading.Thread(
            target=self._keep_alive, args=(self._ended,), name="lease", daemon=True
        )
        self._pulse.start()

    def _end(self) -> None:
        self._ended.set()
        if self._pulse is not None:
            self._pulse.join()
        _in_use.discard(self._me.key)
        with suppress(RemoteError):  # it expires
            self._objects.remove([self._me.path])

    def _busy(self) -> str:
        return (
            f"{self._place} is being written by another process: wait for it, or stop it (one that "
            f"was killed elsewhere is forgotten after {EXPIRY:.0f} s)."
        )

    def _wait_for(self, lease: Lease, patience: float) -> None:
        until = time.monotonic() + patience
        while not self._enter(lease):
            if time.monotonic() > until:
                raise BusyError(f"shard {lease.shard} of {self._busy()}")
            time.sleep(random.uniform(0.1, 0.5))

    def _enter(self, lease: Lease) -> bool:
        """Write a lease and see whether that was in time; if not, it is removed again."""
        self._objects.put(lease.path, _name())
        until = time.monotonic() + _POLITE
        while True:
            others = [o for o in self._living() if self._stands_in_the_way(lease, o)]
            if not others:
                return True
            if min(o.key for o in others) < lease.key or time.monotonic() > until:
                self._objects.remove([lease.path])
                return False
            time.sleep(0.1)

    def _stands_in_the_way(self, mine: Lease, other: Lease) -> bool:
        if other.key == mine.key:
            return False
        if mine.folder == _ALONE:
            return other.folder in {_ALONE, _SHARED}
        if mine.folder == _SHARED:
            return other.folder == _ALONE
        return (other.folder, other.shard) == (mine.folder, mine.shard)

    def _glanced(self) -> list[Lease]:
        """The living leases as they were a moment ago: nobody lists without a pause."""
        if time.monotonic() - self._glance[0] > _GLANCE:
            self._living()
        return self._glance[1]

    def _living(self) -> list[Lease]:
        """All leases of processes that live; what others left is removed."""
        leases = [lease for lease in map(Lease.of, self._objects.list()) if lease is not None]
        members = {o.key: o.touched for o in leases if o.folder in {_ALONE, _SHARED}}
        strangers = {o.key for o in leases if o.folder != _CLOCK} - self._dead - {self._me.key}
        if strangers:
            now = members.get(self._me.key) or self._server_time()
            for key in strangers:
                if key not in members or abs(now - members[key]) > EXPIRY or self._is_gone(key):
                    self._dead.add(key)
            leases = [o for o in leases if o.folder != _CLOCK or abs(now - o.touched) <= EXPIRY]
        self._objects.remove([o.path for o in leases if o.key in self._dead])
        living = [o for o in leases if o.key not in self._dead and o.folder != _CLOCK]
        self._glance = time.monotonic(), living
        return living

    def _server_time(self) -> float:
        """What the server takes for the time, from an object that is written for that."""
        clock = Lease(_CLOCK, None, secrets.token_hex(8)).path
        self._objects.put(clock, b"")
        found = self._objects.head(clock)
        self._objects.remove([clock])
        if found is None:
            raise RemoteError(f"{self._place} does not show what was just written to it.")
        return found.touched

    def _is_gone(self, key: str) -> bool:
        """Whether a key's process was one of this machine and is no more, or gave it up."""
        if key not in self._owners:
            self._owners[key] = self._read_owner(key)
        name = self._owners[key]
        if name == _identity() and {"boot", "start"} <= name.keys():
            return key not in _in_use
        return owner.is_gone(name)

    def _read_owner(self, key: str) -> dict[str, str]:
        for folder in (_SHARED, _ALONE):
            with suppress(FileNotFoundError, ValueError):
                found = json.loads(self._objects.get(Lease(folder, None, key).path)[0])
                return found if isinstance(found, dict) else {}
        return {}

    def _beat(self) -> None:
        now = _now()
        with self._pulse_guard:
            self._objects.put(self._me.path, _name())
        self._beaten = now

    def _keep_alive(self, ended: threading.Event) -> None:
        """Write this process's lease again and again; never after it may have been taken."""
        while not ended.wait(EXPIRY / 6) and _now() - self._beaten < EXPIRY * 0.75:
            now = _now()
            with suppress(RemoteError), self._pulse_guard:
                self._pulse_objects.put(self._me.path, _name())
                self._beaten = now


def _identity() -> dict[str, str]:
    return {**owner.machine(), **owner.process(os.getpid())}


def _name() -> bytes:
    return json.dumps(_identity()).encode()


def _now() -> float:
    """Seconds that pass while the machine sleeps, too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))
