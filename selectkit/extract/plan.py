"""Which record belongs in which row, and whether a store may be continued with a listing.

A row keeps its image for ever. Records that a store already holds keep their rows whatever the
order of the listing is now; all others follow in the order of the listing.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from selectkit.cache import FeatureStore
from selectkit.errors import CacheError
from selectkit.extract.listing import Record
from selectkit.extract.sources import Source


def open_or_create(path: Path, source: Source, rows: int, rows_per_shard: int) -> FeatureStore:
    """Open the store at a path, or make one.

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
    if (path / "zarr.json").exists():
        return FeatureStore.open(path)
    return FeatureStore.create(
        path, source=source.describe(), rows=rows, rows_per_shard=rows_per_shard
    )


def assign_rows(store: FeatureStore, records: Sequence[Record]) -> list[Record]:
    """Put the records of a listing in the order of the store's rows.

    Args:
        store: The store, perhaps with committed rows.
        records: The listing.

    Returns:
        One record per row, at least as many as the store plans.

    Raises:
        CacheError: If a committed record is gone or has another label or group, or the listing
            is shorter than the store.
    """
    index = store.index()
    by_id = {record.id: record for record in records}
    held: dict[int, Record] = {}
    for row, name, label, group in zip(
        index.row.tolist(), index.id, index.label, index.group, strict=True
    ):
        record = by_id.get(name)
        if record is None:
            raise CacheError(
                f"{store.path}: row {row} is {name!r}, which the source no longer lists. Restore "
                "it, or extract into a new store."
            )
        _compare(store.path, row, "label", label, record.label, name)
        _compare(store.path, row, "group", group, record.group, name)
        held[row] = record
    if len(records) < store.rows:
        raise CacheError(
            f"{store.path} was planned for {store.rows} images, but the source now lists "
            f"{len(records)}. Restore the others, or extract into a new store."
        )
    taken = {record.id for record in held.values()}
    rest = iter([record for record in records if record.id not in taken])
    return [held[row] if row in held else next(rest) for row in range(len(records))]


def unfinished(store: FeatureStore, view: str) -> list[int]:
    """Return the shards of a view that are missing or lack rows, ascending."""
    index, features = store.committed("index"), store.committed(view)
    return [
        shard
        for shard in range(store.n_shards)
        if not index.get(shard, 0) == features.get(shard, 0) == len(store.shard_rows(shard))
    ]


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
    """
    if view not in store.views():
        return fingerprint
    there = dict(store.view(view).fingerprint)
    same = {**there, "id": None} == {**fingerprint, "id": None}
    return there if same else fingerprint


def _compare(
    path: Path, row: int, what: str, stored: str | None, listed: str | None, name: str
) -> None:
    if stored != listed:
        raise CacheError(
            f"{path}: {name!r} in row {row} has {what} {stored!r}, but the source now says "
            f"{listed!r}. Undo the change, or extract into a new store."
        )
