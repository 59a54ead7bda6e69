"""How fast is the feature store beside np.memmap (the floor) and zarr-python on the same files?

Run `python -m benchmarks.store > benchmarks/results/store.jsonl`. All reads are of a warm page
cache; all contestants are timed in turn in each repetition, and ratios are taken per repetition.
How fast a write is depends on whether the system hands it pages of memory that were used before,
so writes are measured twice: to new files that stay, and to files that are removed after each turn.
"""

import argparse
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from selectkit.cache import FeatureStore, IndexPart

PACKAGES = ("numpy", "zarr", "google-crc32c", "pyarrow")
Times = Mapping[str, list[float]]


def index_part(rows: range) -> IndexPart:
    """An index of plausible texts."""
    n = len(rows)
    return IndexPart(
        id=[f"images/{i:09d}.jpg" for i in rows],
        path=[f"/data/images/{i:09d}.jpg" for i in rows],
        label=[str(i % 1000) for i in rows],
        group=[None] * n,
        content_hash=[f"sha256:{i * 0x9E3779B97F4A7C15 % 2**64:064x}" for i in rows],
        status=["ok"] * n,
        width=[640] * n,
        height=[480] * n,
    )


def in_turn(
    actions: Mapping[str, Callable[[], object]],
    repetitions: int,
    after_each: Callable[[], object] = lambda: None,
) -> Times:
    """Wall times of each action; a first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in actions}
    for _ in range(repetitions + 1):
        for name, action in actions.items():
            start = perf_counter()
            action()
            times[name].append(perf_counter() - start)
            after_each()
    return {name: found[1:] for name, found in times.items()}


def report(question: str, times: Times, megabytes: float) -> None:
    """Print times (or speeds) and the ratios to the store of one question."""
    for name, found in times.items():
        number, spread = middle([megabytes / t for t in found])
        figure(f"{question}: {name}", number, "MB/s", spread=spread, packages=PACKAGES)
    for name in [name for name in times if name != "store"]:
        ratios = [t / own for own, t in zip(times["store"], times[name], strict=True)]
        number, spread = middle(ratios)
        figure(
            f"{question}: speed of the store over {name}",
            number,
            "x",
            spread=spread,
            packages=PACKAGES,
        )


def write_index(path: Path, x: npt.NDArray[np.float16], rows_per_shard: int) -> FeatureStore:
    """A store with its index and room for features; prints how long the index took."""
    store = FeatureStore.create(path, source={}, rows=len(x), rows_per_shard=rows_per_shard)
    with store.writing():
        start = perf_counter()
        for shard in range(store.n_shards):
            store.write_index(shard, index_part(store.shard_rows(shard)))
        figure(
            f"write and commit the index of {len(x):,} rows",
            perf_counter() - start,
            "s",
            packages=PACKAGES,
        )
    return store


def write_features(store: FeatureStore, x: npt.NDArray[np.float16]) -> None:
    """Write and commit every shard of a new view, each with fsync."""
    view = f"view{len(store.views())}"
    store.create_view(view, fingerprint={}, features={"cls": (x.shape[1], "float16")})
    with store.writing():
        for shard in range(store.n_shards):
            rows = store.shard_rows(shard)
            store.write_features(view, shard, {"cls": x[rows.start : rows.stop]})


def save_npy(path: Path, x: npt.NDArray[np.float16]) -> None:
    """What a user without a store would do, as surely on the disk."""
    path.parent.mkdir(exist_ok=True)
    with path.open("xb") as file:
        np.save(file, x)
        file.flush()
        os.fsync(file.fileno())


def save_shards(path: Path, x: npt.NDArray[np.float16], rows_per_shard: int) -> None:
    """The same in pieces, each of which an interruption leaves whole."""
    for first in range(0, len(x), rows_per_shard):
        save_npy(path.with_name(f"{path.stem}-{first}.npy"), x[first : first + rows_per_shard])


def remove(*folders: Path) -> None:
    """Remove what was written."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rows-per-shard", type=int, default=4096)
    parser.add_argument("--repetitions", type=int, default=7)
    parser.add_argument("--folder", type=Path, default=None)
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.rows, options.dim), dtype=np.float32).astype(np.float16)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        path = Path(folder) / "store.zarr"
        store = write_index(path, x, options.rows_per_shard)
        plain = Path(folder) / "plain"
        new = (plain / f"x{i}.npy" for i in count())
        writes: dict[str, Callable[[], object]] = {
            "store": lambda: write_features(store, x),
            "np.save": lambda: save_npy(next(new), x),
            "np.save, a file per shard": lambda: save_shards(next(new), x, options.rows_per_shard),
        }
        size = f"{len(x):,} x {x.shape[1]} float16"
        kept = in_turn(writes, options.repetitions)
        report(f"write {size}, fsync included", kept, x.nbytes / 1e6)
        removed = in_turn(writes, options.repetitions, lambda: remove(path / "views", plain))
        report(f"write {size}, fsync included, files then removed", removed, x.nbytes / 1e6)
        write_features(store, x)
        save_npy(plain / "whole.npy", x)
        compare(path, plain / "whole.npy", x, options.repetitions)
        whole_store(path, options.repetitions)


def compare(path: Path, npy: Path, x: npt.NDArray[np.float16], repetitions: int) -> None:
    """The same reads from the store, np.memmap and zarr-python."""
    import zarr

    mapped = np.load(npy, mmap_mode="r")
    array = FeatureStore.open(path).array("view0", "cls")
    with_zarr = zarr.open_array(path / "views/view0/features/cls", mode="r")
    np.testing.assert_array_equal(array.read(), x)
    np.testing.assert_array_equal(np.asarray(with_zarr[:]), x)
    size = f"{x.shape[0]:,} x {x.shape[1]} float16"
    full: dict[str, Callable[[], object]] = {
        "store": array.read,
        "np.memmap": lambda: np.array(mapped),
        "zarr-python": lambda: with_zarr[:],
    }
    report(f"full read of {size}", in_turn(full, repetitions), x.nbytes / 1e6)
    rng = np.random.default_rng(1)
    batches = [rng.integers(0, len(x), size=4096) for _ in range(8)]
    rows = batches[0]
    np.testing.assert_array_equal(np.asarray(with_zarr.oindex[rows, :]), array[rows])
    default = zarr.create_array(path.parent / "default.zarr", data=x)  # its own chunks and zstd
    np.testing.assert_array_equal(np.asarray(default.oindex[rows, :]), array[rows])
    few = batches[: len(batches) // 4]  # it is slow
    random: dict[str, Callable[[], object]] = {
        "store": lambda: each(batches, lambda b: array[b]),
        "np.memmap": lambda: each(batches, lambda b: mapped[b]),
        "zarr-python": lambda: each(few, lambda b: with_zarr.oindex[b, :]),
        "zarr-python, its default layout": lambda: each(few, lambda b: default.oindex[b, :]),
    }
    found = in_turn(random, repetitions)
    per_batch = {
        name: [t / len(few if "zarr" in name else batches) for t in times]
        for name, times in found.items()
    }
    megabytes = 4096 * x.shape[1] * 2 / 1e6
    report(f"4,096 random rows of {size}", per_batch, megabytes)


def each(
    batches: Sequence[npt.NDArray[np.int64]], read: Callable[[npt.NDArray[np.int64]], object]
) -> None:
    """Read one batch after the other and let it go, as a training loop does."""
    for batch in batches:
        read(batch)


def whole_store(path: Path, repetitions: int) -> None:
    """What a fast command pays before it can start: opening, index, one split as float32."""
    actions: dict[str, Callable[[], object]] = {
        "open the store and a feature array": lambda: FeatureStore.open(path).array("view0", "cls"),
        "read the index": lambda: FeatureStore.open(path).index(),
        "read split train as float32, checksums compared": lambda: FeatureStore.open(path).read(
            "view0", "train"
        ),
        "verify every byte": lambda: FeatureStore.open(path).verify(),
    }
    for question, found in in_turn(actions, max(3, repetitions // 2)).items():
        number, spread = middle(found)
        figure(question, number, "s", spread=spread, packages=PACKAGES)


if __name__ == "__main__":
    main()
