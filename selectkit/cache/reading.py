"""The way from a store to arrays for a method: one split, checked, in ascending row order."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from selectkit import artifact
from selectkit.arrays import Bools
from selectkit.cache.index import Index
from selectkit.cache.ledger import Commit
from selectkit.cache.splits import SPLITS, SplitScheme
from selectkit.errors import ConfigError, DataError

if TYPE_CHECKING:
    from selectkit.cache.sharded import ShardedArray
    from selectkit.cache.store import FeatureStore


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of one split of one view, without their features. M rows, K classes.

    Attributes:
        rows: Row numbers in the store, (M,) int64, ascending.
        ids: Ids, (M,) object.
        y: Codes into `classes`, (M,) int64, -1 = unlabelled.
        groups: Group of each row, its content hash where it has none, (M,) object: what is
            independent of one another, for splits and bootstraps.
        classes: The K label names of the whole store, sorted (by value when all are integers).
        split: Name of the split, "all" for all rows.
        fingerprint: Content hash of split scheme, split name and [id, content hash, label] of all
            rows, sorted: the same rows in the same role, whatever view or machine.
    """

    rows: npt.NDArray[np.int64]
    ids: npt.NDArray[np.object_]
    y: npt.NDArray[np.int64]
    groups: npt.NDArray[np.object_]
    classes: tuple[str, ...]
    split: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Features(Rows):
    """Rows with their features.

    Attributes:
        x: Features, (M, D) float32 whatever the stored dtype.
    """

    x: npt.NDArray[np.float32]


def read(
    store: "FeatureStore", view: str, split: str | None, *, feature: str, labelled: bool
) -> Features:
    """Return the features of one split; see `FeatureStore.read`."""
    found = rows_of(store, view, split, labelled=labelled)
    parts = [
        array[found.rows].astype(np.float32, copy=False)
        for array in arrays(store, view, feature, found.rows)
    ]
    x = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    wrong = np.flatnonzero(~np.isfinite(x).all(axis=1))
    if wrong.size:
        raise DataError(not_finite(found.ids[wrong[0]], view, wrong.size))
    return Features(**{f.name: getattr(found, f.name) for f in fields(found)}, x=x)


def rows_of(store: "FeatureStore", view: str, split: str | None, *, labelled: bool) -> Rows:
    """Return the rows of one split; see `FeatureStore.rows_of`."""
    if split is not None and split not in SPLITS:
        raise ConfigError(f"no split {split!r}: use one of {', '.join(SPLITS)}, or None for all.")
    index, scheme = store.index(), store.splits
    keep = index.ok & within(index, store.commits(view), store.rows_per_shard)
    if labelled:
        keep &= index.labelled
    keys = index.key
    if split is not None:
        keep &= scheme.assign(keys) == split
    code = {name: k for k, name in enumerate(index.classes)}
    y = np.array([-1 if name is None else code[name] for name in index.label[keep]], dtype=np.int64)
    name = "all" if split is None else split
    fingerprint = _fingerprint(index, keep, scheme, name)
    return Rows(index.row[keep], index.id[keep], y, keys[keep], index.classes, name, fingerprint)


def not_finite(name: str, view: str, n_rows: int) -> str:
    """Return what to say about features that are not finite."""
    return (
        f"the features of {name!r} in view {view!r} are not finite "
        f"({n_rows} such rows). Look at this image, then extract again."
    )


def within(index: Index, commits: Mapping[int, Commit], rows_per_shard: int) -> Bools:
    """Return which rows of the index are within these commits of a view."""
    shard, offset = np.divmod(index.row, rows_per_shard)
    extent = np.zeros(int(shard.max(initial=0)) + 1, dtype=np.int64)
    for k, commit in commits.items():
        extent[k] = commit.rows
    return np.asarray(offset < extent[shard])


def arrays(
    store: "FeatureStore", view: str, feature: str, rows: npt.NDArray[np.int64]
) -> "list[ShardedArray]":
    """Return stored arrays whose columns are a feature; see `FeatureStore.arrays`."""
    names = ["cls", "patch_mean"] if feature == "cat" else feature.split("+")
    shards = np.unique(rows // store.rows_per_shard).tolist()
    found = [store.array(one, name) for one in view.split("+") for name in names]
    for array in found:
        array.fetch(shards)
        for shard in shards:
            array.check(shard)
    return found


def _fingerprint(index: Index, keep: Bools, scheme: SplitScheme, split: str) -> str:
    columns = zip(index.id[keep], index.content_hash[keep], index.label[keep], strict=True)
    rows = sorted((list(row) for row in columns), key=lambda row: (row[0], row[1], row[2] or ""))
    return artifact.content_hash([scheme.to_dict(), split, rows])
