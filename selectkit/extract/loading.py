"""Reading and decoding ahead of the model: batches of images, in order, filled by threads."""

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.artifact import content_hash
from selectkit.extract.decode import UndecodableImageError, decode
from selectkit.extract.listing import Record
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source

Pixels: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image ready for the model, or why it is not.

    Attributes:
        pixels: Shape (size, size, 3), uint8; None when the image failed. In a batch they are a
            view of the batch's pixels and as short-lived.
        content_hash: "sha256:..." of the file, "" when it could not be read.
        status: "ok" or "failed:<reason>".
        width: Pixels of the upright image, 0 when unknown.
        height: Likewise.
    """

    pixels: Pixels | None
    content_hash: str
    status: str
    width: int = 0
    height: int = 0


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one shard that go through the model together.

    Attributes:
        shard: Its number.
        rows: All rows of the shard.
        start: Position of the first image in the shard.
        images: What became of each.
        pixels: Shape (B, size, size, 3), uint8, black where an image failed. The memory is used
            again when the second batch after this one has been asked for.
    """

    shard: int
    rows: range
    start: int
    images: Sequence[Loaded]
    pixels: Pixels


def load(
    source: Source, record: Record, preprocessing: Preprocessing, out: Pixels | None = None
) -> Loaded:
    """Read, decode and resize one image; a bad one is a result, not an exception.

    Args:
        source: Where the bytes are.
        record: Which image.
        preprocessing: The geometry.
        out: Where to put the pixels, shape (size, size, 3); black when the image failed.

    Returns:
        Pixels and facts.
    """
    loaded = _load(source, record, preprocessing, out)
    if loaded.pixels is None and out is not None:
        out[...] = 0
    return loaded


def _load(
    source: Source, record: Record, preprocessing: Preprocessing, out: Pixels | None
) -> Loaded:
    try:
        data = source.read(record.path)
    except OSError:
        return Loaded(None, "", "failed:unreadable")
    digest = content_hash(data)
    try:
        image = decode(data)
    except UndecodableImageError as error:
        return Loaded(None, digest, f"failed:{error.reason}")
    return Loaded(preprocessing.apply(image, out), digest, "ok", *image.size)


def default_workers() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def new_pixels(count: int, size: int) -> Pixels:
    """Return memory for `count` images of `size` pixels, with anything in it."""
    return np.empty((count, size, size, 3), dtype=np.uint8)


def load_batches(
    load_one: Callable[[int, Pixels], Loaded],
    shards: Iterable[tuple[int, range]],
    *,
    size: int,
    batch_size: int,
    workers: int,
    memory: Callable[[int, int], Pixels] = new_pixels,
) -> Generator[Batch, None, None]:
    """Load images in threads (decoding works outside the interpreter lock), in order.

    Args:
        load_one: Loads the image of a row into the pixels it is given, shape (size, size, 3).
        shards: Number and rows of each shard; pulled only as far as images are loaded ahead.
        size: Height and width of the images in pixels.
        batch_size: Images per batch; the last one of a shard may have fewer.
        workers: Threads.
        memory: Makes the pixels of a batch from number and size.

    Yields:
        All batches. Closing the iterator stops the threads.
    """
    ahead = 1 + -(-2 * workers // batch_size)  # batches in work beyond the one asked for
    ring: list[Pixels] = []
    waiting: deque[Callable[[], Batch]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for number, (shard, rows, start) in enumerate(_parts(shards, batch_size)):
            if number < ahead + 2:  # those, the one asked for, and the one before
                ring.append(memory(batch_size, size))
            part = rows[start : start + batch_size]
            pixels = ring[number % len(ring)][: len(part)]
            jobs = [pool.submit(load_one, *job) for job in zip(part, pixels, strict=True)]
            waiting.append(partial(_collect, shard, rows, start, jobs, pixels))
            if len(waiting) > ahead:
                yield waiting.popleft()()
        while waiting:
            yield waiting.popleft()()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _parts(
    shards: Iterable[tuple[int, range]], batch_size: int
) -> Iterator[tuple[int, range, int]]:
    for shard, rows in shards:
        for start in range(0, len(rows), batch_size):
            yield shard, rows, start


def _collect(
    shard: int, rows: range, start: int, jobs: Sequence[Future[Loaded]], pixels: Pixels
) -> Batch:
    return Batch(shard, rows, start, [job.result() for job in jobs], pixels)
