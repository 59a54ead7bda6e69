"""What a store holds, in numbers."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selectkit.cache import layout
from selectkit.cache.index import sorted_classes
from selectkit.cache.splits import SPLITS

if TYPE_CHECKING:
    from selectkit.cache.store import FeatureStore


@dataclass(frozen=True, slots=True)
class ViewSummary:
    """One view in numbers.

    Attributes:
        name: Its name.
        hash: Content hash of fingerprint and features.
        rows: Rows committed; below the store's while the view lags behind.
        features: (D, dtype) by array name.
        logits: Rows committed, by head.
    """

    name: str
    hash: str
    rows: int
    features: Mapping[str, tuple[int, str]]
    logits: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class StoreInfo:
    """A store in numbers.

    Attributes:
        path: Where it lies.
        rows: Rows planned.
        rows_per_shard: Rows of every shard but the last.
        rows_committed: Rows in the index.
        statuses: Rows by status: "ok", "failed:<reason>".
        labels: Rows by label name, of ok rows, in the order of the classes.
        unlabelled: Ok rows without a label.
        groups: Number of different groups (images, where a row has none), of ok rows.
        splits: Rows by label name ("" = unlabelled) by split, of ok rows.
        views: The views, by name.
        bytes: Size of all files.
    """

    path: str
    rows: int
    rows_per_shard: int
    rows_committed: int
    statuses: Mapping[str, int]
    labels: Mapping[str, int]
    unlabelled: int
    groups: int
    splits: Mapping[str, Mapping[str, int]]
    views: tuple[ViewSummary, ...]
    bytes: int


def summary(store: "FeatureStore") -> StoreInfo:
    """Return what a store holds; see `FeatureStore.info`."""
    index = store.index()
    label, key = index.label[index.ok], index.key[index.ok]
    counts = Counter(label)
    unlabelled = counts.pop(None, 0)
    by_split: dict[str, Counter[str]] = {name: Counter() for name in SPLITS}
    for split, name in zip(store.splits.assign(key), label, strict=True):
        by_split[split][name or ""] += 1
    return StoreInfo(
        path=str(store.path),
        rows=store.rows,
        rows_per_shard=store.rows_per_shard,
        rows_committed=len(index),
        statuses=dict(sorted(Counter(index.status).items())),
        labels={name: counts[name] for name in sorted_classes(set(counts))},
        unlabelled=unlabelled,
        groups=len(set(key)),
        splits={split: dict(sorted(found.items())) for split, found in by_split.items()},
        views=tuple(_view(store, name) for name in store.views()),
        bytes=sum(size for _, size in store.files.walk()),
    )


def _view(store: "FeatureStore", name: str) -> ViewSummary:
    view = store.view(name)
    return ViewSummary(
        name=name,
        hash=view.hash,
        rows=sum(store.committed(name).values()),
        features=dict(view.features),
        logits={
            head: sum(store.committed(layout.logits_scope(name, head)).values())
            for head in store.heads(name)
        },
    )
