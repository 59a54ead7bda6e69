"""What became of images that a store already holds: other labels, other contents, deleted.

The index is brought up to date before anything is computed. Features follow by themselves: a view's
shard counts only while the index lists the images it came from, so that a changed image sends its
shard through the model again, in every view on its next run; in the view that is being computed,
the images beside it are spared that. A new label concerns no feature.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from selectkit.cache import FeatureStore, Index, IndexPart
from selectkit.errors import CacheError
from selectkit.extract.feed import Loaded
from selectkit.extract.listing import Record
from selectkit.extract.loading import Loader, default_workers, read
from selectkit.extract.plan import Assignment
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source


@dataclass(frozen=True, slots=True)
class Changes:
    """How many rows of a store were found to be different, and are now as the source says.

    Attributes:
        relabelled: With another label.
        regrouped: With another group.
        changed: With other contents; deleted ones that are back included.
        deleted: Gone from the source.
    """

    relabelled: int = 0
    regrouped: int = 0
    changed: int = 0
    deleted: int = 0

    def __add__(self, other: "Changes") -> "Changes":
        return Changes(
            self.relabelled + other.relabelled,
            self.regrouped + other.regrouped,
            self.changed + other.changed,
            self.deleted + other.deleted,
        )


@dataclass(slots=True)
class Update:
    """Compares a store's index with a source.

    Attributes:
        store: The store.
        source: The source.
        plan: How images are prepared, which is also how it is found whether they can be.
        rows: Which record is in which row.
        rescan: Whether to read every committed image again and compare its content.
        keep: Called before a shard loses its features, with its present rows and the places of
            images that changed.
        changes: What was found.
    """

    store: FeatureStore
    source: Source
    plan: Preprocessing
    rows: Assignment
    rescan: bool
    keep: Callable[[Index, Collection[int]], None] = lambda part, changed: None
    changes: Changes = field(default_factory=Changes)

    def is_due(self) -> bool:
        """Return whether `apply` would write something, as far as the listing tells."""
        return self.rescan or any(True for _ in self._differing())

    def apply(self) -> Changes:
        """Write what differs into the index.

        Returns:
            What was written.

        Raises:
            CacheError: If a group changed, and something was fitted on the store.
        """
        for part, records in self._differing():
            self._apply(part, records)
        return self.changes

    def _differing(self) -> Iterator[tuple[Index, Sequence[Record]]]:
        for part in self.store.parts():
            records = [self.rows.ordered[row] for row in part.row.tolist()]
            told = zip(part.label, part.group, part.status == "deleted", strict=True)
            listed = [(r.label, r.group, r.id in self.rows.gone) for r in records]
            if self.rescan or any(a != b for a, b in zip(told, listed, strict=True)):
                yield part, records

    def _apply(self, part: Index, records: Sequence[Record]) -> None:
        gone = np.array([r.id in self.rows.gone for r in records], dtype=bool)
        deleted = gone & (part.status != "deleted")
        regrouped = sum(a != r.group for a, r in zip(part.group, records, strict=True))
        if regrouped:
            self._refuse_regrouping(part, records)
        images = self._read_again(part, records, gone)
        status = part.status.copy()
        status[deleted] = "deleted"
        digest, width, height = part.content_hash.copy(), part.width.copy(), part.height.copy()
        for i, image in images.items():
            digest[i], status[i] = image.content_hash, image.status
            width[i], height[i] = image.width, image.height
        found = Changes(
            sum(a != r.label for a, r in zip(part.label, records, strict=True)),
            regrouped,
            len(images),
            int(deleted.sum()),
        )
        if found != Changes():
            shard = int(part.row[0]) // self.store.rows_per_shard
            new = IndexPart(
                id=part.id.tolist(),
                path=part.path.tolist(),
                label=[r.label for r in records],
                group=[r.group for r in records],
                content_hash=digest.tolist(),
                status=status.tolist(),
                width=width.tolist(),
                height=height.tolist(),
            )
            if images:
                self.keep(part, images)
            self.store.replace_index(shard, new, drop=np.flatnonzero(deleted))
            self.changes += found

    def _read_again(
        self,
        part: Index,
        records: Sequence[Record],
        gone: "np.ndarray[tuple[int], np.dtype[np.bool_]]",
    ) -> dict[int, Loaded]:
        """Those images, by place, that are not what the index says."""
        back = part.status == "deleted"
        asked = [i for i in range(len(part)) if not gone[i] and (self.rescan or back[i])]
        with ThreadPoolExecutor(default_workers(), thread_name_prefix="rescan") as pool:
            digests = list(pool.map(lambda i: self._digest(records[i]), asked))
        known = part.content_hash
        found = zip(asked, digests, strict=True)
        changed = [i for i, digest in found if back[i] or digest != known[i]]
        loader = Loader(self.source, records, self.plan, 1, 1)
        out = loader.memory()[0]
        return {i: loader.decode(*read(self.source, records[i]), out) for i in changed}

    def _digest(self, record: Record) -> str:
        return read(self.source, record)[1]

    def _refuse_regrouping(self, part: Index, records: Sequence[Record]) -> None:
        if not any(self.store.heads(view) for view in self.store.views()):
            return
        for row, old, record in zip(part.row.tolist(), part.group, records, strict=True):
            if old != record.group:
                raise CacheError(
                    f"{self.store.path}: {record.id!r} in row {row} has group {old!r}, but the "
                    f"source now says {record.group!r}, and a head was fitted: another group can "
                    "move an image to another split. Undo the change, or extract into a new store."
                )
