"""The extraction engine: images to a feature store, resumable, any number of processes.

Processes that extract into the same store share the shards among them.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from selectkit.extract.backbones import Backbone
from selectkit.extract.changes import Changes
from selectkit.extract.decode import JpegDecoder
from selectkit.extract.feed import Loaded
from selectkit.extract.plan import part_of
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.session import Computed, Extraction, Tell
from selectkit.extract.setup import Settings, StoreDtype
from selectkit.extract.sources import Source
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Timings


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
        timings: What the thread that feeds the model waited for.
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
    timings: Timings
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
    batch_size: int | None = None,
    rows_per_shard: int = 4096,
    workers: int | None = None,
    shard_range: str | None = None,
    rescan: bool = False,
    jpeg_decoder: JpegDecoder = "cpu",
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
        batch_size: Images per forward pass; None = what the view was begun with, or what the
            device takes.
        rows_per_shard: Rows per unit of work; an existing store keeps its own.
        workers: Decoding threads; default one per core.
        rescan: Read every committed image again: changed ones are extracted again, those that the
            source no longer lists are marked as deleted. Without it, what is committed is trusted.
        jpeg_decoder: "gpu" decodes plain JPEG files on the backbone's CUDA device (extra `gpu`),
            and all others on the CPU; a view keeps to one decoder.
        shard_range: "i/n": only the i-th of n parts of the shards; None = all.
        progress: Called after every batch.

    Returns:
        What was done. Rows of unusable images have NaN features and a status that says why.

    Raises:
        ConfigError: If size, batch size or normalisation do not fit, or JPEG cannot be decoded
            where it is to be.
        CacheError: If the path holds something else, or a store of other images, labels, file
            contents, backbone or preprocessing.
        BackboneError: If the backbone returns numbers that are not finite.
        MissingExtraError: If what decodes JPEG on a GPU is not installed.
    """
    settings = Settings(
        view, preprocessing, dtype, batch_size, rows_per_shard, workers, rescan, jpeg_decoder
    )
    work = Extraction(source, store_path, backbone, settings)
    return run(work, shard_range=shard_range, progress=progress)


def run(
    part: Extraction,
    *,
    shard_range: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractionSummary:
    """Compute what a store does not hold yet, in this process; see `extract`.

    Args:
        part: Source, store, backbone and settings.
        shard_range: "i/n": only the i-th of n parts of the shards; None = all.
        progress: Called after every batch.

    Returns:
        What was done.
    """
    began = time.monotonic()
    part_of(1, shard_range)
    with StopRequest() as stop, part as work:
        mine = [k for k in part_of(work.store.n_shards, shard_range) if k in work.todo]
        tell = _teller(progress, sum(work.todo[k] for k in mine), began)
        done = work.compute(mine, tell, stop) if mine else Computed(0, 0, frozenset(), Timings())
    seconds, rows = time.monotonic() - began, work.store.rows
    return ExtractionSummary(
        rows=rows,
        done_now=done.rows,
        skipped=rows - sum(work.todo.values()),
        elsewhere=done.elsewhere,
        failed=work.failures(),
        seconds=seconds,
        images_per_second=done.rows / seconds if seconds > 0 else 0.0,
        changes=work.changes,
        timings=done.timings,
        interrupted=bool(done.left),
        signal=stop.signal,
    )


def _teller(progress: Callable[[Progress], None] | None, total: int, began: float) -> Tell:
    done, failed = 0, 0

    def tell(batch: Sequence[Loaded]) -> None:
        nonlocal done, failed
        done += len(batch)
        failed += sum(image.status.startswith("failed:") for image in batch)
        if progress is not None:
            progress(Progress(done, total, failed, time.monotonic() - began))

    return tell
