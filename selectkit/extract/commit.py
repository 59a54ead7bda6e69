"""A computed shard goes into the store, unless its files changed since they were indexed."""

from collections.abc import Sequence

import numpy as np

from selectkit.cache import FeatureStore, Index, IndexPart
from selectkit.errors import CacheError
from selectkit.extract.feed import Loaded
from selectkit.extract.flow import Arrays
from selectkit.extract.listing import Record


def commit(
    store: FeatureStore,
    view: str,
    ordered: Sequence[Record],
    shard: int,
    loaded: Sequence[Loaded],
    features: Arrays,
) -> None:
    """Write the rows of a shard that the index lacks, and then its features.

    Args:
        store: The store; the caller is the only writer of the shard.
        view: Name of the view.
        ordered: One record per row of the store.
        shard: Its number.
        loaded: What became of the shard's images.
        features: Shape (rows, D) by name, NaN where an image failed.

    Raises:
        CacheError: If a file is not the one that the index lists.
    """
    records = [ordered[row] for row in store.shard_rows(shard)]
    index = store.index_part(shard)
    failed = _compare_contents(store, index, loaded)
    if len(index) < len(records) or store.is_unsettled(shard):
        old, new = len(index), loaded[len(index) :]
        store.write_index(
            shard,
            IndexPart(
                id=[r.id for r in records],
                path=[*index.path, *(r.path for r in records[old:])],
                label=[r.label for r in records],
                group=[r.group for r in records],
                content_hash=[*index.content_hash, *(image.content_hash for image in new)],
                status=[*index.status, *(image.status for image in new)],
                width=[*index.width.tolist(), *(image.width for image in new)],
                height=[*index.height.tolist(), *(image.height for image in new)],
            ),
        )
    for values in features.values():
        values[failed] = np.nan
    store.write_features(view, shard, features)


def _compare_contents(store: FeatureStore, index: Index, loaded: Sequence[Loaded]) -> list[int]:
    """Refuse files that changed since they were indexed; return the rows that failed back then."""
    failed: list[int] = []
    for i, image in enumerate(loaded[: len(index)]):
        digest, status = index.content_hash[i], index.status[i]
        if status == "deleted":
            failed.append(i)
            continue
        if digest == image.content_hash and status == "ok" != image.status:
            raise CacheError(
                f"{store.path}: {index.path[i]!r} (row {index.row[i]}) was decoded when it was "
                f"indexed, and is now {image.status}, though not a byte changed: the index was "
                "written with another decoder or machine, or --jpeg-decoder gpu, which does not "
                "notice all damage. Replace the file and take it over with --rescan, or extract "
                "into a new store."
            )
        if digest != image.content_hash:
            raise CacheError(
                f"{store.path}: {index.path[i]!r} (row {index.row[i]}) is not the file that "
                f"was indexed: it was {status} {digest[:19]!r}, now it is {image.status} "
                f"{image.content_hash[:19]!r}. Restore the file, take the new one over with "
                "--rescan, or extract into a new store."
            )
        if status != "ok":
            failed.append(i)
    return failed
