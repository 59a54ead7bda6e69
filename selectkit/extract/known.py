"""What a view holds already, by the content of the images: identical images are computed once.

A run remembers 64 bits of the content hash of every row that is committed or on its way, sixteen
bytes per row, and compares the whole hash before it believes them.
"""

import threading
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from selectkit.cache import FeatureStore, Index
from selectkit.extract.feed import Loaded
from selectkit.extract.flow import Arrays

LIMIT = 1 << 24
"""Rows that are remembered; of a larger store the first ones."""

Keys = npt.NDArray[np.uint64]
Rows = npt.NDArray[np.int64]


class Unavailable(Exception):  # noqa: N818 # a state, not a mistake
    """Features that were to be copied are not committed after all; compute the shard again."""


@dataclass(frozen=True, slots=True)
class _Original:
    """Where the features of an image are, and what is known of it."""

    features: Arrays
    place: int
    loaded: Loaded

    @classmethod
    def of(cls, features: Arrays, part: Index, place: int) -> "_Original":
        size = int(part.width[place]), int(part.height[place])
        loaded = Loaded(part.content_hash[place], part.status[place], *size)
        return cls(features, place, loaded)


@dataclass(slots=True)
class Kept:
    """Features of images that did not change, of shards that are about to be written again.

    Attributes:
        room: Bytes that may still be taken.
        images: What is known of an image, by its content hash.
    """

    room: int = 1 << 29
    images: dict[str, _Original] = field(default_factory=dict)

    def add(self, features: Arrays, part: Index, changed: Collection[int]) -> None:
        """Keep what is still true of a shard, while there is room.

        Args:
            features: Shape (M, D) by name.
            part: The rows of the shard.
            changed: Places of images that changed.
        """
        self.room -= sum(values.nbytes for values in features.values())
        if features and self.room >= 0:
            rows = min(len(values) for values in features.values())
            for i in range(rows):
                if part.ok[i] and i not in changed:
                    self.images[part.content_hash[i]] = _Original.of(features, part, i)


class KnownImages:
    """Rows of a view by content. Threads may ask; one writer commits."""

    def __init__(self, store: FeatureStore, view: str, kept: Kept) -> None:
        """Read what is committed.

        Args:
            store: The store.
            view: Name of the view.
            kept: What was committed until now.
        """
        self._store, self._view, self._kept = store, view, kept.images
        self._runs: list[tuple[Keys, Rows]] = []
        self._on_the_way: dict[str, int] = {}
        self._guard = threading.Lock()
        self._part = lru_cache(16)(store.index_part)
        self._arrays = lru_cache(4)(self._read)
        for shard, rows in store.committed(view).items():
            if self._room():
                part = store.index_part(shard)
                self._add(part.content_hash[:rows][part.ok[:rows]], part.row[:rows][part.ok[:rows]])

    def row_of(self, digest: str, row: int) -> int | None:
        """Return another row with this content, or take note that `row` will have it.

        Args:
            digest: Content hash of an image.
            row: Where the image is.

        Returns:
            A row of the store whose features are committed (it may be `row` itself, when its shard
            has to be written again), or on their way in this process.
        """
        if digest in self._kept:
            return row
        with self._guard:
            committed = self._committed(digest)
            if committed is not None:
                return committed
            first = self._on_the_way.setdefault(digest, row)
        return None if first == row else first

    def fill(self, rows: range, loaded: Sequence[Loaded], features: Arrays) -> list[Loaded]:
        """Copy what was not computed, before the shard is committed.

        Args:
            rows: All rows of the shard.
            loaded: What became of them.
            features: Shape (rows, D) by name; copies are put in.

        Returns:
            `loaded` with the fate of the originals for copies.

        Raises:
            Unavailable: If another process was to commit an original and did not.
        """
        whole = list(loaded)
        for place, image in enumerate(loaded):
            if image.copy_of is None:
                continue
            if image.copy_of in rows and loaded[image.copy_of - rows[0]].copy_of is None:
                original = image.copy_of - rows[0]
                whole[place] = loaded[original]
                for values in features.values():
                    values[place] = values[original]
            else:
                whole[place] = self._copy(image, place, features)
        return whole

    def committed(self, rows: range, loaded: Sequence[Loaded]) -> None:
        """Take note of a shard that is committed now.

        Args:
            rows: Its rows.
            loaded: What became of them.
        """
        good = [i for i, image in enumerate(loaded) if image.status == "ok"]
        with self._guard:
            self._forget(rows)
            self._clear_caches()
            if self._room():
                digests = [loaded[i].content_hash for i in good]
                self._add(digests, np.array([rows[i] for i in good], dtype=np.int64))

    def forget(self) -> None:
        """Take note that nothing is on its way any more."""
        with self._guard:
            self._on_the_way.clear()

    def _copy(self, image: Loaded, place: int, features: Arrays) -> Loaded:
        original = self._kept.get(image.content_hash) or self._original(image.copy_of or 0)
        if original is None or original.loaded.content_hash != image.content_hash:
            with self._guard:
                self._runs.clear()
                self._clear_caches()
            raise Unavailable
        for name, values in features.items():
            values[place] = original.features[name][original.place]
        return original.loaded

    def _original(self, row: int) -> _Original | None:
        shard, place = divmod(row, self._store.rows_per_shard)
        features = self._arrays(shard)
        there = features and all(place < len(values) for values in features.values())
        return _Original.of(features, self._part(shard), place) if there else None

    def _clear_caches(self) -> None:
        self._arrays.cache_clear()
        self._part.cache_clear()

    def _read(self, shard: int) -> Arrays:
        return self._store.shard_features(self._view, shard)

    def _committed(self, digest: str) -> int | None:
        key = np.uint64(int(digest[-16:], 16))
        for keys, rows in self._runs:
            at = int(np.searchsorted(keys, key))
            if at < len(keys) and keys[at] == key:
                row = int(rows[at])
                shard, place = divmod(row, self._store.rows_per_shard)
                if self._part(shard).content_hash[place] == digest:
                    return row
        return None

    def _forget(self, rows: range) -> None:
        gone = [digest for digest, row in self._on_the_way.items() if row in rows]
        for digest in gone:
            del self._on_the_way[digest]

    def _room(self) -> bool:
        return sum(len(rows) for _, rows in self._runs) < LIMIT

    def _add(self, digests: Iterable[str], rows: Rows) -> None:
        """Add a run; runs of like length are merged, so that there are few."""
        keys = np.fromiter((int(digest[-16:], 16) for digest in digests), np.uint64)
        order = np.argsort(keys, kind="stable")
        self._runs.append((keys[order], rows[order]))
        while len(self._runs) > 1 and len(self._runs[-1][0]) >= len(self._runs[-2][0]) / 2:
            (a, a_rows), (b, b_rows) = self._runs.pop(), self._runs.pop()
            keys, rows = np.concatenate([b, a]), np.concatenate([b_rows, a_rows])
            order = np.argsort(keys, kind="stable")
            self._runs.append((keys[order], rows[order]))
