"""Requests to an object store that an extraction makes, counted on one in memory."""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from benchmarks.store_scale import Stub, Synthetic

WRITES, READS = ("put", "list", "delete"), ("get", "head")
"""As they are usually billed; a listing is as dear as a write."""


def count_requests(shards: int) -> list[float]:
    """Extract shards of four rows into an object store.

    Args:
        shards: How many.

    Returns:
        Writing and reading requests.
    """
    from selectkit.extract import Preprocessing, extract
    from selectkit.extract.png import grey_png

    found = _counting()
    source = Synthetic(4 * shards, grey_png(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    backbone = Stub(Preprocessing(8, "squash"))
    extract(source, "s3://b/store.zarr", backbone=backbone, rows_per_shard=4, workers=1)
    return [float(sum(found[name] for name in names)) for names in (WRITES, READS)]


def _counting() -> Counter[str]:
    """Have all object stores be one in memory, and count the requests from now on."""
    import obstore
    from obstore.store import MemoryStore

    from selectkit import objects

    found: Counter[str] = Counter()

    def counted(name: str, ask: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            found[name] += 1
            return ask(*arguments, **options)

        return call

    def pages(ask: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def call(*arguments: Any, **options: Any) -> Iterator[Any]:
            found["list"] += 1
            for number, page in enumerate(ask(*arguments, **options)):
                found["list"] += number > 0
                yield page

        return call

    for name in ("get", "put", "head", "delete"):
        setattr(obstore, name, counted(name, getattr(obstore, name)))
    obstore.list = pages(obstore.list)  # type: ignore[assignment]
    store = MemoryStore()
    objects._client = lambda *_: store  # type: ignore[assignment]
    return found
