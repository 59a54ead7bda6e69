"""What grows with a store: opening it, listing its source, running an extraction that is done.

Every case runs in a process of its own at three sizes, each four times the one before. The second
difference of the times tells the order of growth, whatever the start costs. Files are written
without fsync, which is no part of the question.
"""

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks._figures import peak_memory
from benchmarks.store_scale import Stub, Synthetic, fill, indexing, opening

STEP = 4


@dataclass(frozen=True, slots=True)
class Growth:
    """How a quantity grows.

    Attributes:
        each: Its increase per row or shard, between the two larger sizes.
        order: Its order of growth: 1 is linear, 2 is quadratic.
        size: The largest size measured.
    """

    each: float
    order: float
    size: int

    @classmethod
    def of(cls, sizes: Sequence[int], values: Sequence[float]) -> "Growth":
        """Fit it.

        Args:
            sizes: Three, each `STEP` times the one before.
            values: What was measured at each.

        Returns:
            The growth; order nan when the values do not grow.
        """
        first, second = (values[i + 1] - values[i] for i in (0, 1))
        order = math.log(second / first, STEP) if first > 0 and second > 0 else math.nan
        return cls(second / (sizes[2] - sizes[1]), order, sizes[2])


def listing(path: Path, rows: int) -> list[float]:
    """Seconds to read a manifest and to describe it."""
    from selectkit.extract import open_source

    start = time.process_time()
    source = open_source(path)
    records = source.records()
    source.describe()
    assert len(records) == rows
    return [time.process_time() - start]


def write_manifest(path: Path, rows: int) -> list[float]:
    """A CSV of paths as they are: two folders and a name."""
    with path.open("w", encoding="utf-8") as file:
        file.write("path,label\n")
        for i in range(rows):
            file.write(f"images/{i // 1000:06d}/{i:09d}.jpg,{i % 10}\n")
    return []


def twice(path: Path, rows: int, rows_per_shard: int) -> list[float]:
    """Processor seconds of an extraction, and of the same again; bytes of its index on disk."""
    import numpy as np

    from selectkit.extract import Preprocessing, extract
    from selectkit.extract.png import grey_png

    os.fsync = lambda handle: None  # type: ignore[assignment] # only here
    source = Synthetic(rows, grey_png(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    backbone = Stub(Preprocessing(8, "squash"))
    spent = []
    for _ in range(2):
        start = time.process_time()
        extract(
            source,
            path,
            backbone=backbone,
            batch_size=256,
            rows_per_shard=rows_per_shard,
            workers=1,
        )
        spent.append(time.process_time() - start)
    return [*spent, float(sum(file.stat().st_size for file in (path / "index").iterdir()))]


def filled(path: Path, rows: int, rows_per_shard: int) -> list[float]:
    """A complete store."""
    fill(path, rows, rows_per_shard)
    return []


def opened(path: Path) -> list[float]:
    """Seconds to open a store and one of its arrays."""
    opening(path)
    start = time.process_time()
    opening(path)
    return [time.process_time() - start]


def indexed(path: Path) -> list[float]:
    """Processor seconds to open a store's index."""
    start = time.process_time()
    indexing(path)
    return [time.process_time() - start]


def requests(path: Path, shards: int) -> list[float]:
    """Requests of an extraction into an object store, with copies in a folder."""
    os.environ["SELECTKIT_CACHE"] = str(path)
    from benchmarks._scaling_requests import count_requests

    return count_requests(shards)


CASES: dict[str, Callable[..., list[float]]] = {
    f.__name__: f for f in (listing, write_manifest, twice, filled, opened, indexed, requests)
}


def case(name: str, path: Path, *numbers: int) -> list[float]:
    """Run a case in a process of its own.

    Args:
        name: Key of `CASES`.
        path: Where it works.
        numbers: Its sizes.

    Returns:
        What the case returns, and the process's peak memory in bytes.
    """
    command = [sys.executable, "-m", "benchmarks._scaling_growth", name, str(path)]
    done = subprocess.run(
        [*command, *map(str, numbers)], check=True, capture_output=True, text=True
    )
    values: list[float] = json.loads(done.stdout)
    return values


def measure(folder: Path) -> dict[str, Growth]:
    """Measure everything that grows.

    Args:
        folder: An empty folder.

    Returns:
        Growth by what was asked: seconds, bytes or requests.
    """
    found: dict[str, Growth] = {}

    def note(sizes: Sequence[int], values: dict[str, list[float]]) -> None:
        found.update({what: Growth.of(sizes, found) for what, found in values.items()})

    rows = [25_000, 100_000, 400_000]
    tables = [folder / f"{n}.csv" for n in rows]
    for table, n in zip(tables, rows, strict=True):
        case("write_manifest", table, n)
    lists = [case("listing", table, n) for table, n in zip(tables, rows, strict=True)]
    note(rows, _columns(lists, "seconds to list a row", "bytes to list a row"))

    rows = [62_500, 250_000, 1_000_000]
    stores = [folder / f"rows-{n}" for n in rows]
    for store, n in zip(stores, rows, strict=True):
        case("filled", store, n, 4096)
    read = [min(case("indexed", store) for _ in range(3)) for store in stores]
    note(rows, _columns(read, "seconds to open a row's index", "bytes of a row's open index"))

    shards = [1_000, 4_000, 16_000]
    stores = [folder / f"shards-{n}" for n in shards]
    for store, n in zip(stores, shards, strict=True):
        case("filled", store, n, 1)
    opens = [case("opened", store) for store in stores]
    note(shards, _columns(opens, "seconds to open a shard", "bytes of an open shard"))

    rows = [4_000, 16_000, 64_000]
    runs = [case("twice", folder / f"run-{n}", n, 4096) for n in rows]
    names = (
        "seconds to extract a tiny row",
        "seconds to pass over a row",
        "bytes of a row on disk",
    )
    note(rows, _columns(runs, *names))
    shards = [250, 1_000, 4_000]
    runs = [case("twice", folder / f"single-{n}", n, 1) for n in shards]
    note(shards, _columns(runs, "seconds to extract a shard", "seconds to pass over a shard"))
    shards = [16, 64, 256]
    counts = [case("requests", folder / f"copies-{n}", n) for n in shards]
    note(shards, _columns(counts, "writing requests of a shard", "reading requests of a shard"))
    return found


def _columns(lines: Sequence[Sequence[float]], *names: str) -> dict[str, list[float]]:
    return {name: [line[i] for line in lines] for i, name in enumerate(names)}


if __name__ == "__main__":
    values = CASES[sys.argv[1]](Path(sys.argv[2]), *map(int, sys.argv[3:]))
    print(json.dumps([*values, peak_memory()]))
