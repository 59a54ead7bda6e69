"""The extraction engine: images to a feature store, resumable, one process.

The unit of work is a shard: all its rows are decoded and computed, then its index and its features
are committed.
"""

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from selectkit.cache import FeatureStore, Index, IndexPart
from selectkit.errors import CacheError, ConfigError
from selectkit.extract.backbones import Backbone
from selectkit.extract.decode import decoder_policy, quiet_pillow
from selectkit.extract.flow import FEATURES, Arrays, Flow, require_finite
from selectkit.extract.listing import Record
from selectkit.extract.loading import Loaded, default_workers
from selectkit.extract.plan import assign_rows, open_or_create, settle_fingerprint, unfinished
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source
from selectkit.extract.stop import StopRequest

DRIFT_TOLERANCE = 0.02

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
        failed: Number of unusable images by reason, over all rows of the store.
        seconds: Wall time of the run.
        images_per_second: `done_now` over `seconds`.
        interrupted: Whether a signal stopped it; the same command goes on.
    """

    rows: int
    done_now: int
    skipped: int
    failed: dict[str, int]
    seconds: float
    images_per_second: float
    interrupted: bool


@dataclass(frozen=True, slots=True)
class _Job:
    """What a finished shard is committed with."""

    store: FeatureStore
    view: str
    records: Sequence[Record]
    known: Mapping[int, int]  # rows of each shard that were indexed before the run
    index: Index


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
    progress: Callable[[Progress], None] | None = None,
) -> ExtractionSummary:
    """Compute the features of all images of a source that a store does not hold yet.

    The same call continues an interrupted run, adds images that are new in the source, and adds a
    view to an existing store. The first SIGINT or SIGTERM stops it after the current batch; it may
    be killed at any moment without harm.

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
    records = source.records()
    store = open_or_create(Path(store_path), source, len(records), rows_per_shard)
    with store.writing(), quiet_pillow(), StopRequest() as stop:
        ordered = assign_rows(store, records)
        if len(ordered) > store.rows or store.source != source.describe():
            store.grow(len(ordered), source.describe())
        _prepare_view(store, view, backbone, plan, dtype)
        known = store.committed("index")
        job = _Job(store, view, ordered, known, store.index())
        todo = unfinished(store, view)
        total = sum(len(store.shard_rows(shard)) for shard in todo)
        done: list[int] = []

        def finish(shard: int, loaded: Sequence[Loaded], features: Arrays) -> None:
            _commit(job, shard, loaded, features)
            done.append(len(loaded))

        Flow(source, ordered, backbone, plan, batch_size, workers or default_workers()).compute(
            ((shard, store.shard_rows(shard)) for shard in todo),
            finish,
            _teller(progress, total, began),
            stop,
        )
    return _summary(store, sum(done), total, time.monotonic() - began)


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


def _prepare_view(
    store: FeatureStore, view: str, backbone: Backbone, plan: Preprocessing, dtype: str
) -> None:
    fingerprint = {
        **backbone.fingerprint(),
        "preprocessing": plan.to_dict(),
        "decoder": decoder_policy(),
        "store_dtype": dtype,
    }
    probe = _probe(backbone, plan.size)
    info = store.create_view(
        view,
        fingerprint=settle_fingerprint(store, view, fingerprint),
        features=dict.fromkeys(FEATURES, (backbone.dim, dtype)),
        drift=probe,
    )
    stored = info.drift or {}
    for name in FEATURES:
        before, now = np.array(stored.get(name, probe[name])), np.array(probe[name])
        if np.abs(now - before).max() > DRIFT_TOLERANCE * np.abs(before).max():
            raise CacheError(
                f"{store.path}: view {view!r} was begun on a machine that computes other numbers: "
                f"feature {name!r} of the reference image moved by {np.abs(now - before).max():.3g}"
                ". Continue it there, or extract into a new view."
            )


def _probe(backbone: Backbone, size: int) -> dict[str, list[float]]:
    """The first eight features of a fixed pattern, to recognise a machine that differs."""
    ramp = np.add.outer(7 * np.arange(size), 3 * np.arange(size))
    pattern = np.stack([ramp % 256, ramp // 2 % 256, ramp // 3 % 256], axis=-1).astype(np.uint8)
    features = backbone(pattern[None])
    require_finite(backbone, features, ["the reference image"])
    return {name: [float(v) for v in features[name][0, :8]] for name in FEATURES}


def _commit(job: _Job, shard: int, loaded: Sequence[Loaded], features: Arrays) -> None:
    records = [job.records[row] for row in job.store.shard_rows(shard)]
    known = job.known.get(shard, 0)
    failed = _compare_contents(job, shard, loaded[:known])
    if known < len(records):
        job.store.write_index(
            shard,
            IndexPart(
                id=[r.id for r in records],
                path=[r.path for r in records],
                label=[r.label for r in records],
                group=[r.group for r in records],
                content_hash=[image.content_hash for image in loaded],
                status=[image.status for image in loaded],
                width=[image.width for image in loaded],
                height=[image.height for image in loaded],
            ),
        )
    for values in features.values():
        values[failed] = np.nan
    job.store.write_features(job.view, shard, features)


def _compare_contents(job: _Job, shard: int, loaded: Sequence[Loaded]) -> list[int]:
    """Refuse files that changed since they were indexed; return the rows that failed back then."""
    index, first = job.index, job.store.shard_rows(shard)[0]
    at = int(np.searchsorted(index.row, first))
    failed: list[int] = []
    for i, image in enumerate(loaded):
        digest, status = index.content_hash[at + i], index.status[at + i]
        if digest != image.content_hash or (status == "ok" != image.status):
            raise CacheError(
                f"{job.store.path}: {index.path[at + i]!r} (row {first + i}) is not the file that "
                f"was indexed: it was {status} {digest[:19]!r}, now it is {image.status} "
                f"{image.content_hash[:19]!r}. Restore the file, or extract into a new store."
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


def _summary(store: FeatureStore, done: int, total: int, seconds: float) -> ExtractionSummary:
    reasons = [str(s).removeprefix("failed:") for s in store.index().status if s != "ok"]
    return ExtractionSummary(
        rows=store.rows,
        done_now=done,
        skipped=store.rows - total,
        failed=dict(sorted(Counter(reasons).items())),
        seconds=seconds,
        images_per_second=done / seconds if seconds > 0 else 0.0,
        interrupted=done < total,
    )
