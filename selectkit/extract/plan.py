"""Which record belongs in which row, and whether a store may be continued with a listing.

A row keeps its image for ever. Records that a store already holds keep their rows whatever the
order of the listing is now; all others follow in the order of the listing.
"""

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selectkit.cache import BusyError, FeatureStore
from selectkit.errors import CacheError, ConfigError
from selectkit.extract.listing import Record
from selectkit.extract.sources import Source
from selectkit.location import Url

PATIENCE = 20.0  # seconds to wait for a process that is just making the store


def open_or_create(
    path: str | Path | Url, source: Source, rows: int, rows_per_shard: int
) -> FeatureStore:
    """Open the store at a path or URL, or make one.

    Args:
        path: A store, or a place where nothing is.
        source: What a new store is made from.
        rows: Its number of rows.
        rows_per_shard: Its rows per shard; an existing store keeps its own.

    Returns:
        The store.

    Raises:
        CacheError: If something else is at the path.
    """
    until = time.monotonic() + PATIENCE
    while not FeatureStore.exists(path):
        try:
            return FeatureStore.create(
                path, source=source.describe(), rows=rows, rows_per_shard=rows_per_shard
            )
        except BusyError:  # another process is making it
            if time.monotonic() > until:
                raise
        except CacheError:  # it may be, or have just made it
            there = FeatureStore.exists(path) or FeatureStore.is_being_written(path)
            if time.monotonic() > until or not there:
                raise
        time.sleep(0.05)
    return FeatureStore.open(path)


@dataclass(frozen=True, slots=True)
class Assignment:
    """Which record belongs in which row.

    Attributes:
        ordered: One record per row, at least as many as the store plans; its path is "" where the
            source no longer lists it.
        gone: Ids of the rows that the source no longer lists.
    """

    ordered: Sequence[Record]
    gone: frozenset[str] = frozenset()


def assign_rows(
    store: FeatureStore, records: Sequence[Record], *, rescan: bool = False
) -> Assignment:
    """Put the records of a listing in the order of the store's rows.

    Args:
        store: The store, perhaps with committed rows.
        records: The listing.
        rescan: Whether committed records may be gone now.

    Returns:
        The order.

    Raises:
        CacheError: If a committed record is gone (with `rescan`: if all are), or the listing is
            shorter than the store.
    """
    if len(records) >= store.rows and _in_order(store, records):
        return Assignment(records)
    index = store.index()
    by_id = {record.id: record for record in records}
    rows = zip(index.row.tolist(), index.id, index.label, index.group, index.status, strict=True)
    held: dict[int, Record] = {}
    gone: set[str] = set()
    for row, name, label, group, status in rows:
        held[row] = by_id.get(name, Record(name, "", label, group))
        if name not in by_id:
            gone.add(name)
            if not rescan and status != "deleted":
                raise CacheError(
                    f"{store.path}: row {row} is {name!r}, which the source no longer lists. "
                    "Restore it, mark such rows as deleted with --rescan, or extract into a new "
                    "store."
                )
    if held and len(gone) == len(held):
        raise CacheError(
            f"{store.path}: the source lists not one of its {len(held)} images. Is it the right "
            "one? Otherwise extract into a new store."
        )
    taken = set(index.id)
    rest = [record for record in records if record.id not in taken]
    total = len(held) + len(rest)
    if total < store.rows:
        raise CacheError(
            f"{store.path} was planned for {store.rows} images, but the source now lists "
            f"{len(records)}. Restore the others, or extract into a new store."
        )
    following = iter(rest)
    ordered = [held[row] if row in held else next(following) for row in range(total)]
    return Assignment(ordered, frozenset(gone))


def _in_order(store: FeatureStore, records: Sequence[Record]) -> bool:
    """Whether the store's rows are the first records, as usual; takes no memory."""
    return all(
        name == records[row].id
        for part in store.parts()
        for row, name in zip(part.row.tolist(), part.id, strict=True)
    )


def unfinished(store: FeatureStore, view: str) -> list[int]:
    """Return the shards of a view that are missing, lack rows or are half replaced, ascending."""
    index, features = store.commits("index"), store.commits(view)
    whole = {
        shard
        for shard in index.keys() & features.keys()
        if index[shard].rows == features[shard].rows == len(store.shard_rows(shard))
        and not (index[shard].unsettled or features[shard].unsettled)
    }
    return [shard for shard in range(store.n_shards) if shard not in whole]


def part_of(shards: int, part: str | None) -> range:
    """Return the shards that are one process's, of several that share a store.

    Args:
        shards: Number of shards of the store.
        part: "i/n": the i-th of n parts, 1 <= i <= n; None = all of it.

    Returns:
        The shards; none when there are fewer shards than parts.

    Raises:
        ConfigError: If it is not of this form.
    """
    i, n = 1, 1
    if part is not None:
        found = re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", part)
        i, n = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= i <= n:
        raise ConfigError(
            f"shard range {part!r} is not of the form i/n with 1 <= i <= n, for instance 3/8."
        )
    return range(shards * (i - 1) // n, shards * i // n)


def settle_fingerprint(
    store: FeatureStore, view: str, fingerprint: dict[str, Any]
) -> dict[str, Any]:
    """Return the fingerprint to open a view with.

    A backbone that only goes by another name now (a checkpoint folder that was moved, a hub id for
    the same weights) is the same backbone: the name of the existing view is kept.

    Args:
        store: The store.
        view: Name of the view.
        fingerprint: What the engine would write for a new view.

    Returns:
        The fingerprint, its "id" perhaps replaced.

    Raises:
        CacheError: If JPEG files were decoded by another decoder.
    """
    if view not in store.views():
        return fingerprint
    there = dict(store.view(view).fingerprint)
    begun, now = (f.get("decoder", {}).get("jpeg reader") for f in (there, fingerprint))
    if begun != now:
        raise CacheError(
            f"{store.path}: view {view!r} was begun with JPEG decoded by {begun}, and would go on "
            f"with {now}, whose pixels are others. Use the --jpeg-decoder it was begun with, "
            "another --view name or another store."
        )
    same = {**there, "id": None} == {**fingerprint, "id": None}
    return there if same else fingerprint
