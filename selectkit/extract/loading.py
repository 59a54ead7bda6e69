"""Reading and decoding ahead of the model: a bounded window of images, in order, in threads."""

import os
from collections import deque
from collections.abc import Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from selectkit.artifact import content_hash
from selectkit.extract.decode import UndecodableImageError, decode
from selectkit.extract.listing import Record
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source


@dataclass(frozen=True, slots=True)
class Loaded:
    """One image ready for the model, or why it is not.

    Attributes:
        pixels: Shape (size, size, 3), uint8; None when the image failed.
        content_hash: "sha256:..." of the file, "" when it could not be read.
        status: "ok" or "failed:<reason>".
        width: Pixels of the upright image, 0 when unknown.
        height: Likewise.
    """

    pixels: npt.NDArray[np.uint8] | None
    content_hash: str
    status: str
    width: int = 0
    height: int = 0


def load(source: Source, record: Record, preprocessing: Preprocessing) -> Loaded:
    """Read, decode and resize one image; a bad one is a result, not an exception.

    Args:
        source: Where the bytes are.
        record: Which image.
        preprocessing: The geometry.

    Returns:
        Pixels and facts.
    """
    try:
        data = source.read(record.path)
    except OSError:
        return Loaded(None, "", "failed:unreadable")
    digest = content_hash(data)
    try:
        image = decode(data)
    except UndecodableImageError as error:
        return Loaded(None, digest, f"failed:{error.reason}")
    return Loaded(preprocessing.apply(image), digest, "ok", *image.size)


def default_workers() -> int:
    """Return the number of cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_ahead(
    source: Source,
    records: Iterable[Record],
    preprocessing: Preprocessing,
    *,
    workers: int,
    window: int,
) -> Generator[Loaded, None, None]:
    """Load images in threads (Pillow works outside the interpreter lock), in order.

    Args:
        source: Where the bytes are.
        records: Which images.
        preprocessing: The geometry.
        workers: Threads.
        window: Most images held in memory ahead of the consumer.

    Yields:
        One result per record. Closing the iterator stops the threads.
    """
    waiting: deque[Future[Loaded]] = deque()
    pool = ThreadPoolExecutor(workers, thread_name_prefix="decode")
    try:
        for record in records:
            waiting.append(pool.submit(load, source, record, preprocessing))
            if len(waiting) >= window:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
