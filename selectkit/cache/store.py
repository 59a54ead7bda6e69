"""`FeatureStore`: rows, views and logits on disk, written by shard, read by memory map.

The store knows no method and decodes no image. Layout: `selectkit.cache.layout`; how a write
becomes visible: `selectkit.cache.ledger`.
"""

import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Self

import numpy as np

from selectkit.arrays import Floats, Ints
from selectkit.cache import layout, ledger, manifest, reading, shard_files
from selectkit.cache import logits as logits_
from selectkit.cache.files import Files, files_at
from selectkit.cache.index import Index, IndexPart
from selectkit.cache.info import StoreInfo, summary
from selectkit.cache.leases import LeaseLock
from selectkit.cache.lock import BusyError
from selectkit.cache.reading import Features, Rows
from selectkit.cache.sharded import ShardedArray
from selectkit.cache.sharing import Entrance
from selectkit.cache.splits import SplitScheme
from selectkit.cache.verify import Problem, leftovers, verify
from selectkit.cache.views import HeadInfo, ViewInfo
from selectkit.errors import CacheError, ConfigError
from selectkit.location import Location, Url

_PATIENCE = 10.0  # seconds for others that write logits, which takes them one or two


class FeatureStore:
    """One store. Make it with `create` or `open`; any number of readers, one writer.

    Of a store in an object store, a reader sees what was there when it was opened, a writer what is
    there when it begins to write.

    Attributes:
        files: Its files.
    """

    def __init__(self, files: Files, document: Mapping[str, Any]) -> None:
        """Use `create` or `open`."""
        self.files = files
        self._manifest = document
        self._lock = files.lock()
        self._index: tuple[dict[int, ledger.Commit], Index] | None = None
        self._checked: set[tuple[str, ledger.Stamp]] = set()

    @classmethod
    def create(
        cls,
        path: str | Path | Url,
        *,
        source: Mapping[str, Any],
        rows: int,
        rows_per_shard: int = 4096,
    ) -> Self:
        """Make an empty store.

        Args:
            path: A folder that does not exist or is empty, or the URL of one (s3://, gs://,
                az://); by custom its name ends in ".zarr".
            source: Where the rows come from, as JSON values; kept as it is.
            rows: Rows planned (N >= 1); `grow` raises it later.
            rows_per_shard: Rows written, committed and checked together; fixed for ever.

        Returns:
            The store, with the default split scheme.

        Raises:
            CacheError: If the folder is in use or cannot be written.
            ConfigError: If a number is below 1.
        """
        files = files_at(path)
        if rows < 1 or rows_per_shard < 1:
            raise ConfigError(
                f"a store needs rows >= 1 and rows_per_shard >= 1, got {rows} and {rows_per_shard}."
            )
        files.refresh()
        manifest.claim(files)
        store = cls(files, {})
        with store._lock.held():
            files.refresh()
            manifest.claim(files)  # nobody was faster
            files.make("index", "commits", "views")
            layout.write_zarr(files, "views", layout.group_document())
            SplitScheme().save(files)
            store._manifest = manifest.write(files, rows, rows_per_shard, source)
        return store

    @classmethod
    def open(cls, path: str | Path | Url) -> Self:
        """Open an existing store.

        Args:
            path: Its folder or URL.

        Returns:
            The store.

        Raises:
            CacheError: If there is none, or its manifest is damaged or of an unknown version.
        """
        files = files_at(path)
        files.refresh()
        return cls(files, manifest.read(files))

    @staticmethod
    def exists(path: str | Path | Url) -> bool:
        """Return whether there is a store at a path or URL, or something that looks like one."""
        files = files_at(path)
        files.look("zarr.json")
        return files.exists("zarr.json")

    @staticmethod
    def is_being_written(path: str | Path | Url) -> bool:
        """Return whether another process may be making or writing a store at a path or URL."""
        return files_at(path).lock().is_taken()

    @property
    def path(self) -> Location:
        """Where it lies."""
        return self.files.place

    @property
    def leases(self) -> LeaseLock | None:
        """What claims on shards are made of in an object store; None in a local folder."""
        return self._lock if isinstance(self._lock, LeaseLock) else None

    @property
    def rows(self) -> int:
        """N, the rows planned."""
        return int(self._manifest["rows"])

    @property
    def rows_per_shard(self) -> int:
        """R, the rows of every shard but the last."""
        return int(self._manifest["rows_per_shard"])

    @property
    def n_shards(self) -> int:
        """Number of shards that N rows need."""
        return -(-self.rows // self.rows_per_shard)

    @property
    def source(self) -> dict[str, Any]:
        """What the writer said about where the rows come from."""
        return dict(self._manifest["source"])

    def shard_rows(self, shard: int) -> range:
        """Return the row numbers of a shard.

        Args:
            shard: In [0, n_shards).

        Returns:
            The row numbers.

        Raises:
            ConfigError: If there is no such shard.
        """
        if not 0 <= shard < self.n_shards:
            raise ConfigError(
                f"shard {shard} is outside the {self.n_shards} shards of {self.path}."
            )
        first = shard * self.rows_per_shard
        return range(first, min(first + self.rows_per_shard, self.rows))

    @contextmanager
    def writing(self, patience: float = 0.0) -> Iterator[None]:
        """Be the only writer for as long as the block lasts; every write does this on its own too.

        Args:
            patience: Seconds to wait for other writers.

        Yields:
            Nothing.

        Raises:
            CacheError: If another process, or another handle in this one, is writing the store.
        """
        until = time.monotonic() + patience
        with ExitStack() as stack:
            while True:
                try:
                    outermost = stack.enter_context(self._lock.held())
                    break
                except BusyError:
                    if time.monotonic() >= until:
                        raise
                    time.sleep(self._lock.pause)
            if outermost:
                self._begin()
            yield

    @contextmanager
    def sharing(
        self, prepare: Callable[[], None], prepared: Callable[[], bool], patience: float = 20.0
    ) -> Iterator[None]:
        """Write shards beside other processes that do the same, for as long as the block lasts.

        What concerns the whole store is done alone, before: the first process calls `prepare` while
        it is the only writer; one that comes later joins in if `prepared` says that nothing is left
        to do. Who writes which shard is for the processes to agree on.

        Args:
            prepare: Makes and grows what the shards need; may find it all done.
            prepared: Whether that is done; changes nothing.
            patience: Seconds to wait for other writers.

        Yields:
            Nothing.

        Raises:
            CacheError: If somebody else writes, and something is to be prepared.
        """
        entrance = Entrance(self._lock, self._begin, self._look, prepare, prepared)
        with entrance.held(patience):
            yield

    @contextmanager
    def writing_shard(self, shard: int) -> Iterator[None]:
        """Be the only writer of one shard, within `sharing` or alone.

        Args:
            shard: Its number.

        Yields:
            Nothing.

        Raises:
            CacheError: If another process is writing it and does not end.
        """
        with ExitStack() as stack:
            if not self._lock.is_held:
                stack.enter_context(self.writing())
            stack.enter_context(self._lock.shard(shard))
            yield

    def _look(self) -> None:
        """Read the manifest again."""
        self.files.refresh()
        self._manifest = manifest.read(self.files)

    def _begin(self) -> None:
        """Read the manifest again and remove what interrupted writers left. Only when alone."""
        self._look()
        self.files.clean("", "index", *(f"commits/{s}" for s in ledger.scopes(self.files)))

    def grow(self, rows: int, source: Mapping[str, Any] | None = None) -> None:
        """Plan more rows; a last shard that was not full is then to be written again, whole.

        Args:
            rows: The new N, not below the present one.
            source: The new description, None = as before.

        Raises:
            ConfigError: If rows would be taken away.
        """
        with self.writing():
            if rows < self.rows:
                raise ConfigError(f"{self.path} has {self.rows} rows; it cannot shrink to {rows}.")
            for view in self.views():
                for name, (dim, dtype) in self.view(view).features.items():
                    folder = layout.feature_folder(view, name)
                    document = layout.array_document((rows, dim), self.rows_per_shard, dtype)
                    layout.write_zarr(self.files, folder, document)
                for head, info in self.heads(view).items():
                    folder = layout.logits_folder(view, head)
                    document = info.document(rows, self.rows_per_shard)
                    layout.write_zarr(self.files, folder, document)
            source = self.source if source is None else source
            self._manifest = manifest.write(self.files, rows, self.rows_per_shard, source)

    def commits(self, scope: str) -> dict[int, ledger.Commit]:
        """Return the commit of every shard that exists for readers.

        Args:
            scope: "index", "<view>" or "<view>.logits.<head>"; "<view>+<view>" is what all of them
                hold.

        Returns:
            Commits by shard, ascending. Shards of a view whose images the index no longer lists
            are left out: they have to be extracted again.

        Raises:
            CacheError: If a commit is damaged.
        """
        if "+" in scope:
            return self._common([self.commits(view) for view in scope.split("+")])
        shards = ledger.shards(self.files, scope)
        self.files.fetch(layout.commit_path(scope, shard) for shard in shards)
        found = {shard: ledger.read(self.files, scope, shard) for shard in shards}
        if scope == "index" or not found:
            return found
        index = self.commits("index")
        return {
            shard: commit
            for shard, commit in found.items()
            if shard in index and self._same_images(shard, commit, index[shard])
        }

    @staticmethod
    def _common(views: Sequence[Mapping[int, ledger.Commit]]) -> dict[int, ledger.Commit]:
        shards = sorted(set(views[0]).intersection(*views))
        return {k: min((view[k] for view in views), key=lambda c: c.rows) for k in shards}

    def committed(self, scope: str = "index") -> dict[int, int]:
        """Return the rows of every committed shard; arguments and errors as for `commits`."""
        return {shard: commit.rows for shard, commit in self.commits(scope).items()}

    def write_index(self, shard: int, part: IndexPart) -> None:
        """Write and commit the index of a whole shard.

        Args:
            shard: In [0, n_shards).
            part: One entry per row of the shard.

        Raises:
            DataError: If a column has a wrong length or value.
        """
        with self.writing_shard(shard):
            rows = len(self.shard_rows(shard))
            part.check(rows)
            shard_files.write_index(self.files, shard, part, rows)

    def replace_index(self, shard: int, part: IndexPart, *, drop: Ints) -> None:
        """Write the committed rows of a shard's index anew.

        Features of images that are another's now stop to exist, the whole shard of every view and
        head; but where rows are only dropped, views keep the others.

        Args:
            shard: Its number.
            part: As many rows as are committed.
            drop: Places in the shard whose features become NaN.
        """
        with self.writing():
            commit = ledger.read(self.files, "index", shard)
            part.check(commit.rows)
            kept = {view: self._features(view, shard, commit) for view in self.views()}
            old = self.index_part(shard)
            images = shard_files.write_index(self.files, shard, part, commit.rows)
            others = np.delete(np.arange(commit.rows), drop)
            if images != commit.images and not any(
                (old.content_hash[i], old.status[i]) != (part.content_hash[i], part.status[i])
                for i in others.tolist()
            ):
                for view, arrays in kept.items():
                    self._drop(view, shard, arrays, drop)

    def shard_features(self, view: str, shard: int) -> dict[str, Floats]:
        """Return all features of one shard, checked.

        Args:
            view: Name of the view.
            shard: Its number.

        Returns:
            Shape (M, D) by name, float32, M the rows that are committed; nothing when none are.

        Raises:
            CacheError: If a file is missing or damaged.
        """
        index, commit = (ledger.find(self.files, scope, shard) for scope in ("index", view))
        if index is None or commit is None or not self._same_images(shard, commit, index):
            return {}
        return shard_files.read_features(self.files, self.view(view), shard, commit)

    def _features(self, view: str, shard: int, index: ledger.Commit) -> dict[str, Floats]:
        """The features of a shard that has all the rows of the index; else nothing."""
        commit = ledger.find(self.files, view, shard)
        rows = self.shard_rows(shard)
        if commit is None or (commit.rows, commit.images) != (len(rows), index.images):
            return {}
        return shard_files.read_features(self.files, self.view(view), shard, commit)

    def _drop(self, view: str, shard: int, arrays: dict[str, Floats], drop: Ints) -> None:
        for values in arrays.values():
            values[drop] = np.nan
        if arrays:
            self.write_features(view, shard, arrays)

    def index_part(self, shard: int) -> Index:
        """Return the committed rows of one shard; none when there are none.

        Args:
            shard: Its number.

        Returns:
            Its rows.

        Raises:
            CacheError: If its commit or part is damaged.
        """
        commit = ledger.find(self.files, "index", shard)
        return self._read_index({} if commit is None else {shard: commit})

    def parts(self) -> Iterator[Index]:
        """Read the committed rows shard by shard, ascending, for what has to fit into memory.

        Yields:
            The rows of each shard of the index.

        Raises:
            CacheError: If a commit or a part is damaged.
        """
        for shard in ledger.shards(self.files, "index"):
            yield self.index_part(shard)

    def is_unsettled(self, shard: int) -> bool:
        """Return whether a writer was killed while it replaced the index of a shard."""
        commit = ledger.find(self.files, "index", shard)
        return commit is not None and commit.unsettled

    def finished(self, view: str, shard: int) -> bool:
        """Return whether all rows of a shard are committed, in the index and in a view."""
        rows = len(self.shard_rows(shard))
        index, features = (ledger.find(self.files, scope, shard) for scope in ("index", view))
        if index is None or features is None or index.unsettled or features.unsettled:
            return False
        return index.rows == features.rows == rows and index.images == features.images

    def index(self) -> Index:
        """Return all committed rows of the index; read again only when a commit changed.

        Returns:
            The index.

        Raises:
            CacheError: If a commit or a part is damaged.
        """
        commits = self.commits("index")
        if self._index is None or self._index[0] != commits:
            self._index = commits, self._read_index(commits)
        return self._index[1]

    def create_view(
        self,
        view: str,
        *,
        fingerprint: Mapping[str, Any],
        features: Mapping[str, tuple[int, str]],
        drift: Mapping[str, Any] | None = None,
    ) -> ViewInfo:
        """Make a view, or open it when it was made with the same fingerprint and features.

        Args:
            view: Its name.
            fingerprint: Everything that must be equal for rows to be comparable, as JSON values.
            features: (D, dtype) by array name; dtype is "float16", "float32" or "bfloat16".
            drift: Reference numbers to recognise a machine that computes something else; kept from
                the first call and never compared for equality.

        Returns:
            What the view holds.

        Raises:
            CacheError: If the view exists and differs; every difference is named with both values.
            ConfigError: If a name, a dimension or a dtype is not usable.
        """
        wanted = ViewInfo.of(view, fingerprint, features, drift)
        if view in self.views():
            self.view(view).require_equal(wanted, self.path)
            return self.view(view)
        with self.writing():
            for name, (dim, dtype) in wanted.features.items():
                document = layout.array_document((self.rows, dim), self.rows_per_shard, dtype)
                layout.write_zarr(self.files, layout.feature_folder(view, name), document)
            for name in ("features", "logits"):
                layout.write_zarr(self.files, f"views/{view}/{name}", layout.group_document())
            layout.write_zarr(self.files, f"views/{view}", wanted.document())
        return wanted

    def views(self) -> tuple[str, ...]:
        """Return the names of the views, sorted."""
        names = self.files.folders("views")
        return tuple(name for name in names if self.files.exists(f"views/{name}/zarr.json"))

    def view(self, view: str) -> ViewInfo:
        """Return what a view holds.

        Args:
            view: Its name.

        Returns:
            Fingerprint, features and hash.

        Raises:
            CacheError: If there is no such view or its manifest is damaged.
        """
        if view not in self.views():
            known = ", ".join(self.views()) or "none yet"
            raise CacheError(f"{self.path} has no view {view!r}; it has: {known}.")
        return ViewInfo.read(self.files, view)

    def write_features(self, view: str, shard: int, arrays: Mapping[str, Floats]) -> None:
        """Write and commit the features of a whole shard; its index must be committed before.

        Args:
            view: Name of the view.
            shard: In [0, n_shards).
            arrays: Shape (M, D) for every feature of the view, M the rows of the shard. Rows that
                could not be computed are NaN.

        Raises:
            CacheError: If the index of the shard is missing, or a value is too large for the dtype.
            DataError: If the names or shapes are not those of the view.
        """
        with self.writing_shard(shard):
            about, rows = self.view(view), len(self.shard_rows(shard))
            files = shard_files.feature_files(about, shard, arrays, rows, self.rows_per_shard)
            ledger.publish(self.files, view, shard, rows, self._images(shard, rows), files)

    def array(self, view: str, name: str) -> ShardedArray:
        """Return a feature array for reading; what is committed now is what it holds.

        Args:
            view: Name of the view.
            name: Name of the feature.

        Returns:
            The array, shape (N, D).

        Raises:
            CacheError: If it does not exist, or a committed file is missing or of a wrong size.
        """
        features = self.view(view).features
        if name not in features:
            raise CacheError(
                f"view {view!r} of {self.path} has no feature {name!r}; "
                f"it has: {', '.join(sorted(features))}."
            )
        dim, dtype = features[name]
        return self._array(layout.feature_folder(view, name), dim, dtype, view)

    def write_logits(
        self, view: str, head: str, logits: Floats, *, classes: Sequence[str], head_hash: str
    ) -> None:
        """Write a head's logits beside the features; replaces those of an earlier head.

        Args:
            view: Name of the view; of several, "a+b", the logits lie in the first.
            head: Name of the head.
            logits: Shape (N, K), row i of it for row i of the store. Rows of failed images and of
                shards without features are not read; they become NaN.
            classes: K label names.
            head_hash: Content hash of the head.

        Raises:
            DataError: If the shape is wrong or the logits of a row with features are not finite.
        """
        layout.checked_name(head, "head")
        info = HeadInfo(tuple(classes), head_hash, self.splits.to_dict())
        with self.writing(_PATIENCE):
            logits_.write(self, view, head, logits, info)

    def remove_logits(self, view: str, head: str) -> None:
        """Remove a head's logits, if they are there.

        Args:
            view: Name of the view.
            head: Name of the head.

        Raises:
            CacheError: If the store cannot be written, or somebody else is writing it.
        """
        layout.checked_name(head, "head")
        with self.writing(_PATIENCE):
            logits_.remove(self, view, head)

    def heads(self, view: str) -> dict[str, HeadInfo]:
        """Return what is known of every head whose logits a view holds, by name."""
        return logits_.heads(self.files, view)

    def logits(self, view: str, head: str) -> ShardedArray:
        """Return a head's logits for reading.

        Args:
            view: Name of the view.
            head: Name of the head.

        Returns:
            The array, shape (N, K), float32; NaN in the rows of failed images.

        Raises:
            CacheError: If there are none, or a committed file is missing or of a wrong size.
        """
        info = logits_.head_in(self, view, head)
        folder, scope = layout.logits_folder(view, head), layout.logits_scope(view, head)
        return self._array(folder, len(info.classes), "float32", scope)

    @property
    def splits(self) -> SplitScheme:
        """How rows are assigned to splits."""
        return SplitScheme.load(self.files)

    def set_splits(self, scheme: SplitScheme) -> None:
        """Assign rows to splits by another scheme; earlier fingerprints no longer match then."""
        with self.writing():
            scheme.save(self.files)

    def duplicates_across_splits(self) -> int:
        """Return how many distinct images lie in more than one split, by way of several groups."""
        index = self.index()
        pairs = set(zip(index.content_hash, self.splits.assign(index.key), strict=True))
        splits = Counter(digest for digest, split in pairs if digest and split)
        return sum(n > 1 for n in splits.values())

    def read(
        self, view: str, split: str | None, *, feature: str = "cls", labelled: bool = True
    ) -> Features:
        """Return the features of one split, checked.

        Args:
            view: Name of the view; "a+b" is a and b side by side, the rows that both have.
            split: "train", "val_select", "val_calib", "val_test", or None for all rows.
            feature: Name of a feature, "a+b", or "cat" for cls and patch_mean side by side.
            labelled: Leave out rows without a label.

        Returns:
            Rows that are committed, whose image was read, in ascending order.

        Raises:
            CacheError: If a file is missing or damaged.
            ConfigError: If there is no such split.
            DataError: If the features of a row are not finite; its id is named.
        """
        return reading.read(self, view, split, feature=feature, labelled=labelled)

    def rows_of(self, view: str, split: str | None, *, labelled: bool = True) -> Rows:
        """Return the rows of one split without reading features; arguments as for `read`.

        Args:
            view: Name of the view, or "a+b".
            split: Name of the split, or None for all rows.
            labelled: Leave out rows without a label.

        Returns:
            Rows that are committed, whose image was read, in ascending order.

        Raises:
            CacheError: If a commit is damaged.
            ConfigError: If there is no such split.
        """
        return reading.rows_of(self, view, split, labelled=labelled)

    def arrays(self, view: str, feature: str, rows: Ints) -> list[ShardedArray]:
        """Return the stored arrays whose columns, side by side, are a feature.

        Args:
            view: Name of the view, or "a+b".
            feature: As for `read`.
            rows: What is to be read: the checksums of these rows' shards are compared.

        Returns:
            At least one array, each of shape (N, D_i).

        Raises:
            CacheError: If a file is missing or damaged.
        """
        return reading.arrays(self, view, feature, np.asarray(rows, dtype=np.int64))

    def info(self) -> StoreInfo:
        """Return what the store holds, in numbers."""
        return summary(self)

    def verify(self) -> list[Problem]:
        """Return everything that is wrong with the store; every committed byte is read."""
        self.files.refresh()
        return verify(self.direct())

    def direct(self) -> "FeatureStore":
        """Return the store as it is where it lies, not as a copy of it is."""
        return FeatureStore(self.files.direct(), self._manifest)

    def leftovers(self) -> list[Problem]:
        """Return files that nothing refers to, left by an interrupted writer: harmless."""
        return leftovers(self)

    def _array(self, folder: str, dim: int, dtype: str, scope: str) -> ShardedArray:
        layout.read_zarr(self.files, folder)
        shape, commits = (self.rows, dim), self.commits(scope)
        return ShardedArray(
            self.files, folder, shape, self.rows_per_shard, dtype, commits, self._checked
        )

    def _read_index(self, commits: Mapping[int, ledger.Commit]) -> Index:
        return shard_files.read_index(self.files, commits, self.rows_per_shard)

    def _same_images(self, shard: int, commit: ledger.Commit, index: ledger.Commit) -> bool:
        return shard_files.same_images(self.files, shard, commit, index, self.rows_per_shard)

    def _images(self, shard: int, rows: int) -> str:
        index = ledger.find(self.files, "index", shard)
        if index is None or index.rows < rows:
            raise CacheError(
                f"the index of shard {shard} of {self.path} is not committed for {rows} rows: "
                "write it before the features."
            )
        return index.images
