"""The files of single shards, to and from arrays; what is committed says which bytes they are."""

from collections.abc import Iterator, Mapping

import numpy as np

from selectkit.arrays import Floats
from selectkit.cache import dtypes, layout, ledger
from selectkit.cache import index as index_
from selectkit.cache.files import Files
from selectkit.cache.index import Index, IndexPart
from selectkit.cache.views import ViewInfo
from selectkit.errors import DataError


def write_index(files: Files, shard: int, part: IndexPart, rows: int) -> str:
    """Write and commit a shard's part of the index.

    Args:
        files: The store's.
        shard: Its number.
        part: One entry per row; checked by the caller.
        rows: Their number.

    Returns:
        The hash of their images.
    """
    images = index_.images_hash(part, rows)
    contents = {layout.index_path(shard): index_.to_parquet(part)}
    ledger.publish(files, "index", shard, rows, images, contents)
    return images


def read_index(files: Files, commits: Mapping[int, ledger.Commit], rows_per_shard: int) -> Index:
    """Read committed parts of the index.

    Args:
        files: The store's.
        commits: Of the index, by shard.
        rows_per_shard: R.

    Returns:
        Their rows.

    Raises:
        CacheError: If a part is missing or damaged.
    """

    def parts() -> Iterator[index_.StoredPart]:
        files.fetch(layout.index_path(shard) for shard in commits)
        for shard, commit in commits.items():
            path = layout.index_path(shard)
            data = ledger.read_file(files, path, commit.files[path])
            yield index_.StoredPart(path, data, commit.rows, shard * rows_per_shard)

    return index_.from_parquet(parts())


def same_images(
    files: Files, shard: int, commit: ledger.Commit, index: ledger.Commit, rows_per_shard: int
) -> bool:
    """Return whether the index still lists the images that a commit's rows came from.

    Args:
        files: The store's.
        shard: Its number.
        commit: Of a view or of logits.
        index: Of the index.
        rows_per_shard: R.

    Raises:
        CacheError: If the part of the index is missing or damaged.
    """
    if commit.rows >= index.rows:
        return commit.rows == index.rows and commit.images == index.images
    listed = read_index(files, {shard: index}, rows_per_shard)
    return index_.images_hash(listed, commit.rows) == commit.images


def feature_files(
    view: ViewInfo, shard: int, arrays: Mapping[str, Floats], rows: int, rows_per_shard: int
) -> dict[str, bytes]:
    """Return the contents of a shard's feature files, by path.

    Args:
        view: The view.
        shard: Its number.
        arrays: Shape (M, D) for every feature of the view.
        rows: M.
        rows_per_shard: R.

    Raises:
        CacheError: If a value is too large for the dtype.
        DataError: If the names or shapes are not those of the view.
    """
    if set(arrays) != set(view.features):
        raise DataError(
            f"view {view.name!r} holds {', '.join(sorted(view.features))}; "
            f"got {', '.join(sorted(arrays)) or 'nothing'}."
        )
    files: dict[str, bytes] = {}
    for name, (dim, dtype) in sorted(view.features.items()):
        what = f"feature {name!r} of shard {shard} of view {view.name!r}"
        if arrays[name].shape != (rows, dim):
            raise DataError(f"{what} must have shape {(rows, dim)}, got {arrays[name].shape}.")
        path = layout.chunk_path(layout.feature_folder(view.name, name), shard)
        stored = dtypes.encode(arrays[name], dtype, what)
        files[path] = dtypes.chunk_bytes(stored, rows_per_shard)
    return files


def read_features(
    files: Files, view: ViewInfo, shard: int, commit: ledger.Commit
) -> dict[str, Floats]:
    """Read all features of a shard, checked.

    Args:
        files: The store's.
        view: The view.
        shard: Its number.
        commit: Of the view.

    Returns:
        Shape (M, D) by name, float32, M the rows of the commit.

    Raises:
        CacheError: If a file is missing or damaged.
    """
    arrays = {}
    for name, (dim, dtype) in view.features.items():
        path = layout.chunk_path(layout.feature_folder(view.name, name), shard)
        data = ledger.read_file(files, path, commit.files[path])
        stored = np.frombuffer(data[:-4], dtypes.stored_dtype(dtype)).reshape(-1, dim)
        arrays[name] = dtypes.decode(stored[: commit.rows].copy(), dtype)
    return arrays
