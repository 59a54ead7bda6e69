"""The extraction engine: images to a feature store, resumable, any number of processes.

The unit of work is a shard: all its rows are decoded and computed, then its index and its features
are committed. Processes that extract into the same store share the shards among them.
"""

import errno
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from selectkit.cache import FeatureStore, Index, IndexPart
from selectkit.errors import CacheError, ConfigError
from selectkit.extract.backbones import Backbone
from selectkit.extract.changes import Changes, Update
from selectkit.extract.claims import Claims, tidy
from selectkit.extract.decode import decoder_policy, quiet_pillow
from selectkit.extract.flow import FEATURES, Arrays, Flow, require_finite
from selectkit.extract.listing import Record
from selectkit.extract.loading import Loaded, default_workers
from selectkit.extract.plan import (
    Assignment,
    assign_rows,
    open_or_create,
    part_of,
    settle_fingerprint,
    unfinished,
)
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source
from selectkit.extract.stop import StopRequest

DRIFT_TOLERANCE = 0.02
_PAUSE = 0.2

StoreDtype = Literal["float16", "float32", "bfloat16"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is, told after every batch.

    Attributes:
        done: Images computed by this run.
        total: Images this run has to compute.
        failed: Those of `done` that could not be used.
        seconds: Since the run began.
    """

    done: int
    total: int
    failed: int
    seconds: float


@dataclass(frozen=True, slots=True)
class ExtractionSummary:
    """What a run did.

    Attributes:
        rows: N, the rows of the store.
        done_now: Rows committed by this run.
        skipped: Rows that were there already.
        elsewhere: Rows that other processes committed meanwhile.
        failed: Number of unusable images by reason, over all rows of the store.
        seconds: Wall time of the run.
        images_per_second: `done_now` over `seconds`.
        changes: Rows that were there, and are not as they were.
        interrupted: Whether a signal stopped it; the same command goes on.
        signal: Number of that signal, 0 when there was none.
    """

    rows: int
    done_now: int
    skipped: int
    elsewhere: int
    failed: dict[str, int]
    seconds: float
    images_per_second: float
    changes: Changes
    interrupted: bool
    signal: int


def extract(
    source: Source,
    store_path: str | Path,
    *,
    backbone: Backbone,
    view: str = "base",
    preprocessing: Preprocessing | None = None,
    dtype: StoreDtype = "float16",
    batch_size: int = 32,
    rows_per_shard: int = 4096,
    workers: int | None = None,
    shard_range: str | None = None,
    rescan: bool = False,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractionSummary:
    """Compute the features of all images of a source that a store does not hold yet.

    The same call continues an interrupted run, adds images that are new in the source, and adds a
    view to an existing store. Several processes may do it at the same time. The first SIGINT or
    SIGTERM stops it after the current batch; it may be killed at any moment without harm.

    Args:
        source: The images.
        store_path: The store, made if nothing is there.
        backbone: Computes the features.
        view: Name of the view in the store.
        preprocessing: Geometry other than the backbone's default; its mean and std must be the
            backbone's.
        dtype: How features are stored.
        batch_size: Images per forward pass; part of what makes features equal to the last bit.
        rows_per_shard: Rows per unit of work; an existing store keeps its own.
        workers: Decoding threads; default one per core.
        rescan: Read every committed image again: changed ones are extracted again, those that the
            source no longer lists are marked as deleted. Without it, what is committed is trusted.
        shard_range: "i/n": only the i-th of n parts of the shards; None = all.
        progress: Called after every batch.

    Returns:
        What was done. Rows of unusable images have NaN features and a status that says why.

    Raises:
        ConfigError: If size, batch size or normalisation do not fit.
        CacheError: If the path holds something else, or a store of other images, labels, file
            contents, backbone or preprocessing.
        BackboneError: If the backbone returns numbers that are not finite.
    """
    began = time.monotonic()
    plan = preprocessing or backbone.preprocessing
    _check_settings(backbone, plan, batch_size, workers)
    part_of(1, shard_range)
    setup = _Setup(source, backbone, plan, view, dtype, rescan)
    store = open_or_create(Path(store_path), source, len(setup.records), rows_per_shard)
    with (
        quiet_pillow(),
        StopRequest() as stop,
        _disk_errors(store),
        store.sharing(partial(setup.prepare, store), partial(setup.prepared, store)),
    ):
        todo = {k: len(store.shard_rows(k)) for k in unfinished(store, view)}
        mine = [k for k in part_of(store.n_shards, shard_range) if k in todo]
        done: dict[int, int] = {}
        ordered = setup.rows.ordered
        flow = Flow(source, ordered, backbone, plan, batch_size, workers or default_workers())
        with Claims(store, view, mine) as claims:

            def finish(shard: int, loaded: Sequence[Loaded], features: Arrays) -> None:
                with store.writing_shard(shard):
                    if claims.holds(shard):
                        _commit(store, view, ordered, shard, loaded, features)
                        done[shard] = len(loaded)
                claims.release(shard)

            tell = _teller(progress, sum(todo[k] for k in mine), began)
            left = _share(store, claims, flow, finish, tell, stop)
    tidy(store, view)
    seconds, now = time.monotonic() - began, sum(done.values())
    return ExtractionSummary(
        rows=store.rows,
        done_now=now,
        skipped=store.rows - sum(todo.values()),
        elsewhere=sum(todo[k] for k in mine if k not in left) - now,
        failed=_failures(store),
        seconds=seconds,
        images_per_second=now / seconds if seconds > 0 else 0.0,
        changes=setup.changes,
        interrupted=bool(left),
        signal=stop.signal,
    )


def _share(
    store: FeatureStore,
    claims: Claims,
    flow: Flow,
    finish: Callable[[int, Sequence[Loaded], Arrays], None],
    tell: Callable[[Sequence[Loaded]], None],
    stop: StopRequest,
) -> set[int]:
    """Compute what can be claimed until nothing is left or a stop is requested; what is left."""
    while True:
        shards = ((shard, store.shard_rows(shard)) for shard in claims.available())
        flow.compute(shards, finish, tell, stop)
        left = claims.unfinished()
        if stop.requested or not left:
            return left
        time.sleep(_PAUSE)  # others are computing the rest; some of them may die


@dataclass(slots=True)
class _Setup:
    """What is done alone before shards are written: rows, source and view."""

    source: Source
    backbone: Backbone
    plan: Preprocessing
    view: str
    dtype: str
    rescan: bool
    records: Sequence[Record] = field(init=False)
    rows: Assignment = field(init=False)
    changes: Changes = field(default_factory=Changes)

    def __post_init__(self) -> None:
        self.records = self.source.records()

    def prepare(self, store: FeatureStore) -> None:
        self.changes = self._update(store).apply()
        if len(self.rows.ordered) > store.rows or store.source != self.source.describe():
            store.grow(len(self.rows.ordered), self.source.describe())
        self._prepare_view(store)

    def prepared(self, store: FeatureStore) -> bool:
        if self._update(store).is_due():
            return False
        there = (store.rows, store.source) == (len(self.rows.ordered), self.source.describe())
        if not there or self.view not in store.views():
            return False
        self._prepare_view(store)
        return True

    def _update(self, store: FeatureStore) -> Update:
        self.rows = assign_rows(store, self.records, rescan=self.rescan)
        return Update(store, self.source, self.plan, self.rows, self.rescan)

    def _prepare_view(self, store: FeatureStore) -> None:
        fingerprint = {
            **self.backbone.fingerprint(),
            "preprocessing": self.plan.to_dict(),
            "decoder": decoder_policy(),
            "store_dtype": self.dtype,
        }
        probe = _probe(self.backbone, self.plan.size)
        info = store.create_view(
            self.view,
            fingerprint=settle_fingerprint(store, self.view, fingerprint),
            features=dict.fromkeys(FEATURES, (self.backbone.dim, self.dtype)),
            drift=probe,
        )
        stored = info.drift or {}
        for name in FEATURES:
            before, now = np.array(stored.get(name, probe[name])), np.array(probe[name])
            moved = np.abs(now - before).max()
            if moved > DRIFT_TOLERANCE * np.abs(before).max():
                raise CacheError(
                    f"{store.path}: view {self.view!r} was begun on a machine that computes other "
                    f"numbers: feature {name!r} of the reference image moved by {moved:.3g}"
                    ". Continue it there, or extract into a new view."
                )


def _check_settings(
    backbone: Backbone, plan: Preprocessing, batch_size: int, workers: int | None
) -> None:
    if plan.size % backbone.patch_size:
        patch = backbone.patch_size
        near = max(patch, plan.size // patch * patch)
        raise ConfigError(
            f"image size {plan.size} is no multiple of the {patch} pixel patches of "
            f"{backbone.id}. Use {near} or {near + patch}."
        )
    normalisation = (backbone.preprocessing.mean, backbone.preprocessing.std)
    if (plan.mean, plan.std) != normalisation:
        raise ConfigError(
            f"mean and std must be those of {backbone.id}, {normalisation}; got "
            f"{(plan.mean, plan.std)}. Start from dataclasses.replace(backbone.preprocessing, ...)."
        )
    if batch_size < 1 or (workers is not None and workers < 1):
        raise ConfigError(f"batch_size and workers must be >= 1, got {batch_size} and {workers}.")


def _probe(backbone: Backbone, size: int) -> dict[str, list[float]]:
    """The first eight features of a fixed pattern, to recognise a machine that differs."""
    ramp = np.add.outer(7 * np.arange(size), 3 * np.arange(size))
    pattern = np.stack([ramp % 256, ramp // 2 % 256, ramp // 3 % 256], axis=-1).astype(np.uint8)
    features = backbone(pattern[None])
    require_finite(backbone, features, ["the reference image"])
    return {name: [float(v) for v in features[name][0, :8]] for name in FEATURES}


def _commit(
    store: FeatureStore,
    view: str,
    ordered: Sequence[Record],
    shard: int,
    loaded: Sequence[Loaded],
    features: Arrays,
) -> None:
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
        if digest != image.content_hash or (status == "ok" != image.status):
            raise CacheError(
                f"{store.path}: {index.path[i]!r} (row {index.row[i]}) is not the file that "
                f"was indexed: it was {status} {digest[:19]!r}, now it is {image.status} "
                f"{image.content_hash[:19]!r}. Restore the file, take the new one over with "
                "--rescan, or extract into a new store."
            )
        if status != "ok":
            failed.append(i)
    return failed


def _teller(
    progress: Callable[[Progress], None] | None, total: int, began: float
) -> Callable[[Sequence[Loaded]], None]:
    counts = Counter[str]()

    def tell(batch: Sequence[Loaded]) -> None:
        counts["done"] += len(batch)
        counts["failed"] += sum(image.pixels is None for image in batch)
        if progress is not None:
            seconds = time.monotonic() - began
            progress(Progress(counts["done"], total, counts["failed"], seconds))

    return tell


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


def _failures(store: FeatureStore) -> dict[str, int]:
    counts = Counter[str]()
    for part in store.parts():
        counts.update(part.statuses)
    return {
        s.removeprefix("failed:"): n for s, n in sorted(counts.items()) if s.startswith("failed:")
    }
