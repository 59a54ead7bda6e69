"""Who computes which shard, when several processes extract into one store.

A shard is claimed before it is computed and given back when it is committed; the claim of a process
that died is taken over. A claim only saves work: if it is taken from an owner that is alive after
all, that one notices before it commits, and whoever commits writes the same bytes. Claims are files
in a local store (`claim_files`) and leases in an object store (`claim_leases`).
"""

import threading
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

from selectkit.cache import FeatureStore
from selectkit.errors import CacheError, RemoteError
from selectkit.extract.claim_files import FileClaims
from selectkit.extract.claim_leases import LeaseClaims

EXPIRY = 60.0


class Board(Protocol):
    """Where claims stand, for others to see."""

    def begin(self) -> None:
        """Begin to keep claims alive."""
        ...

    def end(self) -> None:
        """Keep them alive no longer."""
        ...

    def look(self, *shards: int) -> None:
        """See what others committed of some shards, or of all."""
        ...

    def take(self, shard: int) -> bool:
        """Claim a shard, unless somebody who lives has done so."""
        ...

    def holds(self, shard: int) -> bool:
        """Return whether a claim is still this process's."""
        ...

    def drop(self, shard: int) -> None:
        """Give a claim back."""
        ...

    def tidy(self) -> None:
        """Remove what dead processes left."""
        ...


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
            expiry: Seconds after which an untouched claim in a local store is void.
        """
        self._store, self._view = store, view
        self._new = iter(shards)
        self._open: dict[int, None] = {}
        self._board = _board(store, view, expiry)
        self._held: set[int] = set()
        self._guard = threading.RLock()

    def __enter__(self) -> Self:
        """Begin to keep claims alive."""
        self._board.begin()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Give all claims back."""
        self._board.end()
        for shard in list(self._held):
            with suppress(OSError, CacheError, RemoteError):
                self.release(shard)

    def available(self) -> Iterator[int]:
        """Claim one shard after the other, those that others are computing left out.

        Yields:
            Shards to compute, each claimed when it is asked for.
        """
        self._board.look()
        for shard in self._asked():
            if shard not in self._held and not self._done(shard) and self._board.take(shard):
                with self._guard:
                    self._held.add(shard)
                self._board.look(shard)
                if self._done(shard):  # its owner finished it a moment ago
                    self.release(shard)
                else:
                    yield shard

    def unfinished(self) -> set[int]:
        """Return those of the shards asked for that are not committed, whoever computes them."""
        self._board.look()
        return {shard for shard in list(self._open) if not self._done(shard)}

    def holds(self, shard: int) -> bool:
        """Return whether the claim on a shard is still this process's; ask within `writing_shard`.

        Args:
            shard: Its number.

        Returns:
            False when it expired and somebody else has taken it.
        """
        return shard in self._held and self._board.holds(shard)

    def release(self, shard: int) -> None:
        """Give a claim back, after the commit or without one."""
        with self._guard:
            held = shard in self._held
            self._held.discard(shard)
        if held:
            self._board.drop(shard)

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


def tidy(store: FeatureStore, view: str) -> None:
    """After a run, remove what dead processes left; the last of several that run does it.

    Args:
        store: The store, outside `sharing`.
        view: Name of the view.
    """
    _board(store, view, EXPIRY).tidy()


def _board(store: FeatureStore, view: str, expiry: float) -> Board:
    if store.leases is not None:
        return LeaseClaims(store, store.leases, view)
    folder = store.path
    if not isinstance(folder, Path):
        raise TypeError(f"{folder} is no folder and has no leases")
    return FileClaims(store, folder, view, expiry)
