"""Reading every committed byte of a store, and saying all that is wrong with it."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selectkit.cache import dtypes, index, layout, ledger, manifest
from selectkit.cache.splits import SplitScheme
from selectkit.cache.views import HeadInfo
from selectkit.errors import CacheError

if TYPE_CHECKING:
    from selectkit.cache.store import FeatureStore

_AGAIN = "`selectkit verify --repair` withdraws its commit {}; then {} again."


@dataclass(frozen=True, slots=True)
class Problem:
    """Something found in a store: the file, relative to the store, and what about it."""

    path: str
    what: str


def verify(store: "FeatureStore") -> list[Problem]:
    """Return everything that is wrong; see `FeatureStore.verify`."""
    heads: dict[str, dict[str, int]] = {}
    found = [*_metadata(store, heads)]
    scopes = {"index": {}, **heads}
    for scope in ledger.scopes(store.files):
        if scope not in scopes:
            found.append(Problem(f"commits/{scope}", "belongs to no readable view or head."))
            continue
        for _, problems in _shards(store, scope, scopes[scope]):
            found.extend(problems)
    return found + ([] if found else [*_repeated_ids(store)])


def damaged_shards(store: "FeatureStore") -> Iterator[tuple[str, int]]:
    """Find the shards of readable views and heads whose commit or files are not as written.

    Args:
        store: The store.

    Yields:
        Ledger scope and number of each.
    """
    heads: dict[str, dict[str, int]] = {}
    for _ in _metadata(store, heads):
        pass
    for scope, folders in {"index": {}, **heads}.items():
        for shard, problems in _shards(store, scope, folders):
            if problems:
                yield scope, shard


def _shards(
    store: "FeatureStore", scope: str, folders: Mapping[str, int]
) -> Iterator[tuple[int, list[Problem]]]:
    """What is wrong with each shard of a scope; read several at a time where that is faster."""
    shards = ledger.shards(store.files, scope)

    def check(shard: int) -> list[Problem]:
        return [*_shard(store, scope, shard, folders)]

    if store.files.readers == 1:
        yield from zip(shards, map(check, shards), strict=True)
        return
    step = 4 * store.files.readers  # so that a caller who stops waits for few
    with ThreadPoolExecutor(store.files.readers) as pool:
        for some in (shards[i : i + step] for i in range(0, len(shards), step)):
            yield from zip(some, pool.map(check, some), strict=True)


def documents(store: "FeatureStore") -> Iterator[tuple[str, dict[str, Any]]]:
    """Return the zarr.json files that follow from manifest and views.

    Args:
        store: The store.

    Yields:
        Folder relative to the store, and its document.
    """
    yield "views", layout.group_document()
    for view in store.views():
        try:
            features = store.view(view).features
        except CacheError:
            continue
        for name, (dim, dtype) in features.items():
            document = layout.array_document((store.rows, dim), store.rows_per_shard, dtype)
            yield layout.feature_folder(view, name), document
        for name in ("features", "logits"):
            yield f"views/{view}/{name}", layout.group_document()


def leftovers(store: "FeatureStore") -> list[Problem]:
    """Return files that nothing refers to; see `FeatureStore.leftovers`."""
    known = {".lock", "splits.json"}
    found = []
    for scope in ledger.scopes(store.files):
        current = store.commits(scope)
        for shard in ledger.shards(store.files, scope):
            path = layout.commit_path(scope, shard)
            commit = ledger.read(store.files, scope, shard)
            known.update([path, *commit.files])
            if shard not in current:
                what = "its images are not those of the index: it has to be extracted again."
                found.append(Problem(path, what))
    files = (path for path, _ in store.files.walk())
    unknown = [p for p in files if p not in known and p.rpartition("/")[2] != "zarr.json"]
    what = "no commit refers to it: an interrupted writer left it."
    return found + [Problem(path, what) for path in sorted(unknown)]


def _metadata(store: "FeatureStore", files: dict[str, dict[str, int]]) -> Iterator[Problem]:
    """Check manifest, splits and zarr.json files; collect chunk sizes by folder of each scope."""
    yield from _attempt("zarr.json", lambda: manifest.read(store.files))
    yield from _attempt("splits.json", lambda: SplitScheme.load(store.files))
    yield from _document(store, "views", layout.group_document())
    for view in store.views():
        place = f"views/{view}"
        try:
            features = store.view(view).features
        except CacheError as error:
            yield Problem(f"{place}/zarr.json", str(error))
            continue
        files[view] = {}
        for name, (dim, dtype) in features.items():
            folder = layout.feature_folder(view, name)
            files[view][folder] = dtypes.chunk_size(store.rows_per_shard, dim, dtype)
            expected = layout.array_document((store.rows, dim), store.rows_per_shard, dtype)
            yield from _document(store, folder, expected)
        for name in ("features", "logits"):
            yield from _document(store, f"{place}/{name}", layout.group_document())
        yield from _heads(store, view, files)


def _heads(store: "FeatureStore", view: str, files: dict[str, dict[str, int]]) -> Iterator[Problem]:
    for name in store.files.folders(f"views/{view}/logits"):
        folder = layout.logits_folder(view, name)
        if not store.files.exists(f"{folder}/zarr.json"):
            continue
        try:
            head = HeadInfo.read(store.files, view, name)
        except CacheError as error:
            yield Problem(f"{folder}/zarr.json", str(error))
            continue
        size = dtypes.chunk_size(store.rows_per_shard, len(head.classes), "float32")
        files[layout.logits_scope(view, name)] = {folder: size}
        yield from _document(store, folder, head.document(store.rows, store.rows_per_shard))


def _attempt(path: str, read: Callable[[], object]) -> Iterator[Problem]:
    try:
        read()
    except CacheError as error:
        yield Problem(path, str(error))


def _document(store: "FeatureStore", folder: str, expected: Mapping[str, Any]) -> Iterator[Problem]:
    """A zarr.json must be the one this store writes."""
    path = f"{folder}/zarr.json"
    try:
        found = layout.read_zarr(store.files, folder)
    except CacheError as error:
        yield Problem(path, str(error))
        return
    if found != layout.like(expected, found):
        yield Problem(path, "does not describe the array or group that the manifests name.")


def _shard(
    store: "FeatureStore", scope: str, shard: int, folders: Mapping[str, int]
) -> Iterator[Problem]:
    path = layout.commit_path(scope, shard)
    try:
        document = ledger.read_document(store.files, path)
        manifest.validate(document, store.files.where(path))
        commit = ledger.read(store.files, scope, shard)
    except CacheError as error:
        yield Problem(path, str(error))
        return
    expected = {layout.chunk_path(folder, shard): size for folder, size in folders.items()}
    if set(commit.files) != set(expected or [layout.index_path(shard)]):
        yield Problem(path, "names other files than the shard consists of.")
        return
    if shard >= store.n_shards or commit.rows > len(store.shard_rows(shard)):
        yield Problem(path, f"has {commit.rows} rows, more than the manifest plans.")
    for file, stamp in commit.files.items():
        yield from _file(store, file, stamp, expected.get(file, stamp.size), path)
    if scope == "index":
        yield from _attempt(layout.index_path(shard), lambda: _index_part(store, shard, commit))


def _file(
    store: "FeatureStore", file: str, stamp: ledger.Stamp, size: int, commit: str
) -> Iterator[Problem]:
    again = _AGAIN.format(commit, "fit" if ".logits." in commit else "extract")
    try:
        data = store.files.read(file)
    except OSError:
        yield Problem(file, "is missing. " + again)
        return
    if not len(data) == stamp.size == size:
        what = f"has {len(data)} bytes instead of {size}. "
        yield Problem(file, what + again)
    elif ledger.Stamp.of(file, data) != stamp or (
        ledger.is_chunk(file) and f"{int.from_bytes(data[-4:], 'little'):08x}" != stamp.crc32c
    ):
        yield Problem(file, "is damaged: its checksum does not match. " + again)


def _index_part(store: "FeatureStore", shard: int, commit: ledger.Commit) -> None:
    path = layout.index_path(shard)
    data = ledger.read_file(store.files, path, commit.files[path])
    part = index.from_parquet([index.StoredPart(path, data, commit.rows, 0)])
    if index.images_hash(part, commit.rows) != commit.images:
        raise CacheError("lists other images than its commit.")


def _repeated_ids(store: "FeatureStore") -> Iterator[Problem]:
    counts = Counter(store.index().id)
    repeated = [name for name, n in counts.items() if n > 1]
    if repeated:
        yield Problem(
            "index", f"{len(repeated)} ids are there twice, for instance {repeated[0]!r}."
        )
