"""One process's part in filling a view: what is set up once, and the shards it computes.

The unit of work is a shard: all its rows are decoded and computed, then its index and its features
are committed. Whoever computes a shard, and however often, writes the same bytes.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from selectkit.cache import FeatureStore, UnwritableError
from selectkit.errors import CacheError
from selectkit.extract.backbones import Backbone
from selectkit.extract.claims import Claims, tidy
from selectkit.extract.commit import commit
from selectkit.extract.decode import quiet_pillow
from selectkit.extract.feed import Loaded
from selectkit.extract.flow import Arrays, Flow
from selectkit.extract.jpeg_device import device_decoder
from selectkit.extract.known import KnownImages, Unavailable
from selectkit.extract.loading import Loader, default_workers
from selectkit.extract.plan import open_or_create, unfinished
from selectkit.extract.setup import Settings, Setup, check_settings
from selectkit.extract.sources import Source
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Timings

_PAUSE = 0.2

Tell = Callable[[Sequence[Loaded]], None]


@dataclass(frozen=True, slots=True)
class Computed:
    """What one call of `Extraction.compute` did.

    Attributes:
        rows: Rows that this process committed.
        elsewhere: Rows that other processes committed meanwhile.
        left: Shards that are not committed, because a stop was requested.
        timings: Where the time went.
    """

    rows: int
    elsewhere: int
    left: frozenset[int]
    timings: Timings


class Extraction:
    """Fills a view of a store, beside other processes that do the same. A context manager.

    Attributes:
        store: The store, made if nothing was there.
        todo: Rows by shard, of the shards that were not finished when the block began.
        changes: Rows that were there, and are not as they were.
    """

    store: FeatureStore
    todo: dict[int, int]

    def __init__(
        self, source: Source, store_path: str | Path, backbone: Backbone, settings: Settings
    ) -> None:
        """Nothing is read or written before the block.

        Args:
            source: The images.
            store_path: The store.
            backbone: Computes the features.
            settings: The rest.

        Raises:
            ConfigError: If size, batch size or normalisation do not fit, or JPEG cannot be decoded
                where it is to be.
            MissingExtraError: If what decodes JPEG on a GPU is not installed.
        """
        self.settings = settings
        self._plan = settings.preprocessing or backbone.preprocessing
        check_settings(backbone, self._plan, settings)
        self._source, self._path, self._backbone = source, store_path, backbone
        self._device = None
        if settings.jpeg_decoder == "gpu":
            self._device = device_decoder(getattr(backbone, "device", "cpu"), self._plan)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Open or make the store and the view."""
        with ExitStack() as stack:
            setup = Setup(self._source, self._backbone, self._plan, self.settings)
            rows = len(setup.records)
            self.store = store = open_or_create(
                self._path, self._source, rows, self.settings.rows_per_shard
            )
            stack.enter_context(quiet_pillow())
            stack.enter_context(_disk_errors(store))
            prepare, prepared = partial(setup.prepare, store), partial(setup.prepared, store)
            try:
                stack.enter_context(store.sharing(prepare, prepared))
            except UnwritableError:
                if not prepared() or unfinished(store, self.settings.view):
                    raise  # else there is nothing to write
            todo = unfinished(store, self.settings.view)
            self.todo = {shard: len(store.shard_rows(shard)) for shard in todo}
            self.changes = setup.changes
            self._ordered = setup.rows.ordered
            self._known = (
                KnownImages(store, self.settings.view, setup.kept) if setup.copies else None
            )
            workers = self.settings.workers or default_workers()
            loader = Loader(
                self._source,
                self._ordered,
                self._plan,
                setup.batch_size,
                workers,
                self._known,
                self._device,
            )
            self._flow = Flow(loader, self._backbone)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let others write; remove what this process left."""
        self._stack.__exit__(kind, error, trace)
        if error is None:
            tidy(self.store, self.settings.view)

    def compute(
        self,
        shards: Iterable[int],
        tell: Tell,
        stop: StopRequest,
        finished: Callable[[int, Sequence[Loaded]], None] | None = None,
    ) -> Computed:
        """Compute those of the shards that nobody else does, and wait for the others.

        Args:
            shards: Their numbers, asked for only as far as images are loaded ahead; finished ones
                are passed over.
            tell: Called after every batch with its images.
            stop: When it is requested, the call ends after the current batch.
            finished: Called after every commit, in another thread, with the shard and its images.

        Returns:
            What was done.
        """
        mine: list[int] = []
        asked = self._asked(shards, mine)
        done: dict[int, int] = {}
        timings, view = Timings(), self.settings.view
        with Claims(self.store, view, asked) as claims:

            def finish(shard: int, loaded: Sequence[Loaded], features: Arrays) -> None:
                rows = self.store.shard_rows(shard)
                with suppress(Unavailable):
                    if self._known is not None:
                        loaded = self._known.fill(rows, loaded, features)
                    with self.store.writing_shard(shard):
                        if claims.holds(shard):
                            commit(self.store, view, self._ordered, shard, loaded, features)
                            done[shard] = len(loaded)
                    if shard in done:
                        if self._known is not None:
                            self._known.committed(rows, loaded)
                        if finished is not None:
                            finished(shard, loaded)
                claims.release(shard)

            while True:
                if self._known is not None:
                    self._known.forget()
                available = ((k, self.store.shard_rows(k)) for k in claims.available())
                timings += self._flow.compute(available, finish, tell, stop)
                left = claims.unfinished()
                if stop.requested or not left:
                    break
                time.sleep(_PAUSE)  # others are computing the rest; some of them may die
        left |= set(asked)
        rows = sum(done.values())
        there = sum(self.todo[k] for k in mine if k not in left)
        return Computed(rows, there - rows, frozenset(left), timings)

    def _asked(self, shards: Iterable[int], mine: list[int]) -> Iterator[int]:
        """Those that are to be done, noted in `mine`."""
        for shard in shards:
            if shard in self.todo:
                mine.append(shard)
                yield shard

    def failures(self) -> dict[str, int]:
        """Return the number of unusable images by reason, over all rows of the store."""
        return failures(self.store)


def failures(store: FeatureStore) -> dict[str, int]:
    """Return the number of unusable images by reason, over all rows of a store."""
    counts = Counter[str]()
    for part in store.parts():
        counts.update(part.statuses)
    return {
        s.removeprefix("failed:"): n for s, n in sorted(counts.items()) if s.startswith("failed:")
    }


@contextmanager
def _disk_errors(store: FeatureStore) -> Iterator[None]:
    """Say what a full or broken disk means."""
    try:
        yield
    except CacheError:
        raise
    except OSError as error:
        inside = str(error.filename or "").startswith(str(store.path))
        if not inside and error.errno not in {errno.ENOSPC, errno.EDQUOT, errno.EROFS}:
            raise
        raise CacheError(
            f"{store.path} cannot be written: {error.strerror}. What is committed is safe: put it "
            "right and run the same command again."
        ) from None
