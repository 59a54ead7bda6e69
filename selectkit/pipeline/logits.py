"""What a head says about every row of a store: computed once, by blocks, and kept in the store."""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from selectkit import heads
from selectkit.arrays import Floats
from selectkit.cache import FeatureStore, Rows
from selectkit.cache.reading import not_finite
from selectkit.errors import CacheError, DataError
from selectkit.pipeline.fitted import FittedHead

_BLOCK_ENTRIES = 2**24  # 64 MB of float32


def logits_of(head: FittedHead, store: FeatureStore) -> Floats:
    """Return the head's logits for every row of the store, float32 (N, K), NaN where none.

    They are computed once per head and view, and written back to the store; they are computed
    again when the store has grown or they are damaged, and each time while it cannot be written.
    """
    return _cached(head, store, head.name, head.classes, head.head.logits)


def gate_of(head: FittedHead, store: FeatureStore) -> Floats | None:
    """Return the gate's logits for every row, float32 (N,), as `logits_of`; None without a gate."""
    compute: Callable[[Floats], Floats] | None = getattr(head.head, "gate_logits", None)
    if compute is None:
        return None
    z = _cached(head, store, f"{head.name}-gate", ("gate",), lambda x: compute(x)[:, np.newaxis])
    return np.asarray(z[:, 0])


def _cached(
    head: FittedHead,
    store: FeatureStore,
    name: str,
    columns: tuple[str, ...],
    compute: Callable[[Floats], Floats],
) -> Floats:
    written = _written(head, store, name)
    if written is not None:
        return written
    z = logits_by_blocks(store, head.view, head.feature, compute, len(columns))
    with suppress(CacheError):  # read-only, or others are at it: it can be read all the same
        store.write_logits(head.view, name, z, classes=columns, head_hash=head.hash)
    return z


def forget_logits(head: FittedHead, store: FeatureStore) -> None:
    """Remove all that a head which is no more has said from a store, if it can be written."""
    names = (head.name, f"{head.name}-gate", f"{head.name}-oof")
    with suppress(CacheError):
        for name in set(names) & set(store.heads(head.home)):
            store.remove_logits(head.home, name)


def logits_by_blocks(
    store: FeatureStore,
    view: str,
    feature: str,
    compute: Callable[[Floats], Floats],
    n_columns: int,
) -> Floats:
    """Apply a head to every row of a store, some rows in memory at a time.

    Args:
        store: The store.
        view: View, or "a+b".
        feature: Feature of it.
        compute: Maps features (M, D) to (M, K).
        n_columns: K.

    Returns:
        Shape (N, K), float32; NaN where there are no features.
    """
    everything = store.rows_of(view, None, labelled=False)
    z = np.full((store.rows, n_columns), np.nan, dtype=np.float32)
    for start, block in feature_blocks(store, view, feature, everything):
        z[everything.rows[start : start + len(block)]] = compute(block)
    return z


def feature_blocks(
    store: FeatureStore, view: str, feature: str, rows: Rows
) -> Iterator[tuple[int, Floats]]:
    """Read features of rows, 64 megabytes at a time.

    Args:
        store: The store.
        view: View, or "a+b".
        feature: Feature of it.
        rows: The rows.

    Yields:
        Place of the first row, and the features of a block of rows, float32.

    Raises:
        DataError: If the features of a row are not finite; its id is named.
    """
    x = heads.LazyRows(*store.arrays(view, feature, rows.rows), rows=rows.rows)
    height = max(1, _BLOCK_ENTRIES // x.shape[1])
    for start in range(0, len(rows.rows), height):
        block = np.asarray(x[start : start + height], dtype=np.float32)
        wrong = np.flatnonzero(~np.isfinite(block).all(axis=1))
        if wrong.size:
            raise DataError(not_finite(rows.ids[start + wrong[0]], view, wrong.size))
        yield start, block


def _written(head: FittedHead, store: FeatureStore, name: str) -> Floats | None:
    """The logits in the store; None when they are absent, incomplete or damaged."""
    known = store.heads(head.home).get(name)
    shards = store.committed(f"{head.home}.logits.{name}")
    if known is None or known.head_hash != head.hash or shards != store.committed(head.view):
        return None
    try:
        written = store.logits(head.home, name)
        for shard in shards:
            written.check(shard)
    except CacheError:
        return None
    z = np.full(written.shape, np.nan, dtype=np.float32)
    z[written.rows] = written[written.rows]
    return z
