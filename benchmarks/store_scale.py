"""Does a store of many shards or many rows open fast, and does extraction need no more memory?

Run `python -m benchmarks.store_scale > benchmarks/results/store_scale.jsonl`. Each case runs in a
process of its own, whose peak memory is what the operating system says. The many shards and rows
are written without fsync, which is no part of the questions.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle, peak_memory
from benchmarks.store import index_part
from selectkit.cache import FeatureStore

PACKAGES = ("numpy", "pyarrow")
DIM = 8


def fill(path: Path, rows: int, rows_per_shard: int) -> None:
    """Write a complete store."""
    os.fsync = lambda handle: None  # type: ignore[assignment] # only here
    store = FeatureStore.create(path, source={}, rows=rows, rows_per_shard=rows_per_shard)
    store.create_view("base", fingerprint={}, features={"cls": (DIM, "float16")})
    with store.writing():
        for shard in range(store.n_shards):
            numbers = store.shard_rows(shard)
            store.write_index(shard, index_part(numbers))
            features = np.zeros((len(numbers), DIM), dtype=np.float32)
            store.write_features("base", shard, {"cls": features})


def opening(path: Path) -> float:
    """Seconds to open a store and one of its arrays, every commit checked."""
    start = perf_counter()
    FeatureStore.open(path).array("base", "cls")
    return perf_counter() - start


def indexing(path: Path) -> float:
    """Seconds to open a store and its index."""
    start = perf_counter()
    index = FeatureStore.open(path).index()
    assert index.ok.all()
    return perf_counter() - start


@dataclass(frozen=True)
class Listing(Sequence[Any]):
    """Records that are made when they are asked for."""

    rows: int

    def __len__(self) -> int:
        return self.rows

    @overload
    def __getitem__(self, row: int) -> Any: ...
    @overload
    def __getitem__(self, row: slice) -> Sequence[Any]: ...
    def __getitem__(self, row: int | slice) -> Any:
        from selectkit.extract import Record

        if isinstance(row, slice):
            return [self[i] for i in range(*row.indices(self.rows))]
        if not 0 <= row < self.rows:
            raise IndexError(row)
        return Record(f"{row:09d}", f"{row:09d}.png", str(row % 10), None)


@dataclass(frozen=True)
class Synthetic:
    """One tiny image under any number of names; the tail of the file makes each another."""

    rows: int
    data: bytes

    def records(self) -> Any:
        """Return the listing."""
        return Listing(self.rows)

    def read(self, path: str) -> bytes:
        """Return the image with the name behind its end."""
        return self.data + path.encode()

    def describe(self) -> dict[str, Any]:
        """Return kind and size."""
        return {"kind": "synthetic", "rows": self.rows}


@dataclass(frozen=True)
class Stub:
    """The mean colour, eight times."""

    preprocessing: Any
    id: str = "stub"
    dim: int = DIM
    patch_size: int = 4

    def fingerprint(self) -> dict[str, Any]:
        """Return the name."""
        return {"id": self.id}

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Return features of a batch."""
        mean = pixels.mean(axis=(1, 2, 3), dtype=np.float32)[:, None].repeat(DIM, axis=1)
        return {"cls": mean, "patch_mean": mean}


def extracting(path: Path, rows: int) -> float:
    """Seconds to extract synthetic rows into a new store."""
    from selectkit.extract import Preprocessing, extract
    from selectkit.extract.png import grey_png

    os.fsync = lambda handle: None  # type: ignore[assignment] # only here
    source = Synthetic(rows, grey_png(np.arange(64, dtype=np.uint8).reshape(8, 8)))
    start = perf_counter()
    backbone = Stub(Preprocessing(8, "squash"))
    summary = extract(source, path, backbone=backbone, batch_size=256, workers=1)
    assert (summary.done_now, summary.failed) == (rows, {})
    return perf_counter() - start


def child(case: str, *arguments: object) -> tuple[float, float]:
    """Run one case in a process of its own: seconds, and its peak memory in MB."""
    command = [sys.executable, "-m", "benchmarks.store_scale", "--case", case]
    done = subprocess.run(
        [*command, *map(str, arguments)], check=True, capture_output=True, text=True
    )
    seconds, megabytes = map(float, done.stdout.split())
    return seconds, megabytes


def run_case(case: str, path: Path, numbers: Sequence[int]) -> None:
    """What a child does."""
    cases = {"fill": fill, "opening": opening, "indexing": indexing, "extracting": extracting}
    seconds = cases[case](path, *numbers)  # type: ignore[operator]
    print(seconds or 0.0, peak_memory() / 2**20)


def main(shards: int, rows: int, repetitions: int) -> None:
    """Print all figures."""
    with tempfile.TemporaryDirectory() as folder:
        many = Path(folder) / "shards"
        child("fill", many, shards, 1)
        number, spread = middle([child("opening", many)[0] for _ in range(repetitions)])
        question = f"open a store of {shards:,} shards and one of its arrays"
        figure(question, number, "s", spread=spread, packages=PACKAGES)
        large = Path(folder) / "rows"
        child("fill", large, rows, 4096)
        found = [child("indexing", large) for _ in range(repetitions)]
        number, spread = middle([seconds for seconds, _ in found])
        figure(f"open the index of {rows:,} rows", number, "s", spread=spread, packages=PACKAGES)
        number, spread = middle([megabytes for _, megabytes in found])
        question = f"peak memory with the index of {rows:,} rows open"
        figure(question, number, "MB", spread=spread, packages=PACKAGES)
        peaks = []
        for n in (rows // 100, rows):
            seconds, megabytes = child("extracting", Path(folder) / f"new-{n}", n)
            peaks.append(megabytes)
            figure(f"extract {n:,} synthetic rows", seconds, "s", packages=PACKAGES)
            question = f"peak memory of extracting {n:,} synthetic rows"
            figure(question, megabytes, "MB", packages=PACKAGES)
        question = f"peak memory of extracting {rows:,} rows over that of {rows // 100:,}"
        figure(question, peaks[1] / peaks[0], "x", packages=PACKAGES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shards", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--case")
    parser.add_argument("arguments", nargs="*")
    asked = parser.parse_args()
    if asked.case:
        path, *numbers = asked.arguments
        run_case(asked.case, Path(path), [int(n) for n in numbers])
    else:
        main(asked.shards, asked.rows, asked.repetitions)
