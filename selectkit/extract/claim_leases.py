"""Claims as leases, for stores in an object store; see `selectkit.cache.leases`."""

import time

from selectkit.cache import FeatureStore
from selectkit.cache.layout import commit_path, index_path
from selectkit.cache.leases import LeaseLock

_GLANCE = 2.0  # seconds between two listings of what others committed


class LeaseClaims:
    """The claims on the shards of a view, as leases."""

    def __init__(self, store: FeatureStore, leases: LeaseLock, view: str) -> None:
        """Claim nothing yet.

        Args:
            store: The store, within `sharing`.
            leases: Its lock.
            view: Name of the view.
        """
        self._store, self._leases, self._view = store, leases, view
        self._looked = float("-inf")

    def begin(self) -> None:
        """Do nothing: the store's lock keeps claims alive, too."""

    def end(self) -> None:
        """Do nothing."""

    def look(self, *shards: int) -> None:
        """See what others committed: of some shards at once, of all every now and then."""
        if shards:
            for shard in shards:
                commits = [commit_path(scope, shard) for scope in ("index", self._view)]
                self._store.files.look(*commits, index_path(shard))
        elif time.monotonic() - self._looked > _GLANCE:
            self._store.files.refresh("commits/index", f"commits/{self._view}")
            self._looked = time.monotonic()

    def take(self, shard: int) -> bool:
        """Claim a shard, unless somebody who lives has done so."""
        return self._leases.claim(self._view, shard)

    def holds(self, shard: int) -> bool:
        """Return whether a claim is still this process's."""
        self._store.files.look(commit_path("index", shard))
        return self._leases.claims(self._view, shard)

    def drop(self, shard: int) -> None:
        """Give a claim back."""
        self._leases.unclaim(self._view, shard)

    def tidy(self) -> None:
        """Remove what dead processes left, and see what others did."""
        self._leases.tidy()
        self._store.files.refresh()
