"""Logits beside the features: what a head says about every row, in the view that it reads first."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from selectkit.arrays import Floats
from selectkit.cache import dtypes, layout, ledger, reading
from selectkit.cache.files import Files
from selectkit.cache.views import HeadInfo
from selectkit.errors import CacheError, DataError

if TYPE_CHECKING:
    from selectkit.cache.store import FeatureStore


def heads(files: Files, view: str) -> dict[str, HeadInfo]:
    """Return what is known of every head whose logits a view holds; see `FeatureStore.heads`."""
    folder = f"views/{view}/logits"
    names = [name for name in files.folders(folder) if files.exists(f"{folder}/{name}/zarr.json")]
    return {name: HeadInfo.read(files, view, name) for name in names}


def head_in(store: "FeatureStore", view: str, head: str) -> HeadInfo:
    """Return whose logits an array holds.

    Raises:
        CacheError: If the view or the logits are missing.
    """
    store.view(view)
    found = store.heads(view)
    if head not in found:
        raise CacheError(
            f"view {view!r} of {store.path} has no logits of {head!r}; "
            f"it has: {', '.join(sorted(found)) or 'none yet, run `selectkit fit`'}."
        )
    return found[head]


def write(store: "FeatureStore", view: str, head: str, logits: Floats, info: HeadInfo) -> None:
    """Write a head's logits; see `FeatureStore.write_logits`. Only while the store is one's own."""
    home, files = view.partition("+")[0], store.files
    store.view(home)
    if logits.shape != (store.rows, len(info.classes)):
        raise DataError(
            f"logits must have shape {(store.rows, len(info.classes))} (rows of the store, "
            f"classes), got {logits.shape}."
        )
    scope, commits = layout.logits_scope(home, head), store.commits(view)
    values = _known_rows(store, logits, commits)
    if store.heads(home).get(head) != info:
        ledger.withdraw(files, scope)
    folder = layout.logits_folder(home, head)
    layout.write_zarr(files, folder, info.document(store.rows, store.rows_per_shard))
    for shard, commit in commits.items():
        first = shard * store.rows_per_shard
        stored = dtypes.encode(values[first : first + commit.rows], "float32", "logits")
        chunk = dtypes.chunk_bytes(stored, store.rows_per_shard)
        contents = {layout.chunk_path(folder, shard): chunk}
        ledger.publish(files, scope, shard, commit.rows, commit.images, contents)


def remove(store: "FeatureStore", view: str, head: str) -> None:
    """Remove a head's logits, the ledger first. Only while the store is one's own."""
    store.files.remove_folder(f"commits/{layout.logits_scope(view, head)}")
    store.files.remove_folder(layout.logits_folder(view, head))


def _known_rows(
    store: "FeatureStore", logits: Floats, commits: Mapping[int, ledger.Commit]
) -> Floats:
    """The logits with NaN in all rows but those with features."""
    index = store.index()
    keep = index.ok & reading.within(index, commits, store.rows_per_shard)
    rows = index.row[keep]
    wrong = np.flatnonzero(~np.isfinite(logits[rows]).all(axis=1))
    if wrong.size:
        name = index.id[keep][wrong[0]]
        raise DataError(f"the logits of {name!r} are not finite ({wrong.size} such rows).")
    values = np.full(logits.shape, np.nan, dtype=np.float64)
    values[rows] = logits[rows]
    return values
