"""What does a store in an object store cost beside a plain download and np.memmap?

Run `python -m benchmarks.remote --server NAME > benchmarks/results/remote.jsonl`. Without
SELECTKIT_TEST_S3 (host:port of a server, its keys in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY)
the server is moto, a mock in Python on this machine: its speed says nothing about networks, but
requests are counted exactly, and ratios are of one run.
"""

import argparse
import os
import secrets
import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import numpy as np
import numpy.typing as npt

from benchmarks._figures import figure, middle
from benchmarks._figures import seconds as seconds_of
from benchmarks.store import in_turn, index_part
from selectkit import objects
from selectkit.cache import FeatureStore, ShardedArray
from selectkit.extract import extract, open_source
from selectkit.location import Url
from selectkit.objects import Objects
from tests.remote.server import Server, Wire, make_bucket, running
from tests.unit.extract.extract_tools import StubBackbone

PACKAGES = ("numpy", "obstore", "google-crc32c", "moto")
BUCKET = "selectkit-benchmark"
THREADS = 16


def use(environment: dict[str, str]) -> None:
    """Reach the server so from now on."""
    os.environ |= environment
    objects._client.cache_clear()


def write(place: Url | Path, x: npt.NDArray[np.float16], rows_per_shard: int) -> float:
    """Seconds to write and commit the features of a store."""
    store = FeatureStore.create(place, source={}, rows=len(x), rows_per_shard=rows_per_shard)
    store.create_view("base", fingerprint={}, features={"cls": (x.shape[1], "float16")})
    with store.writing():
        for shard in range(store.n_shards):
            store.write_index(shard, index_part(store.shard_rows(shard)))
        start = perf_counter()
        for shard in range(store.n_shards):
            rows = store.shard_rows(shard)
            store.write_features("base", shard, {"cls": x[rows.start : rows.stop]})
        return perf_counter() - start


def download(place: Url) -> None:
    """Get the same chunks with the same number of threads and keep them in files."""
    source = Objects(place / "views/base/features/cls/c")
    names = [entry.path for entry in source.list()]
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(THREADS) as pool:
        target = Path(folder)

        def get(item: tuple[int, str]) -> None:
            (target / str(item[0])).write_bytes(source.get(item[1])[0])

        list(pool.map(get, enumerate(names)))


def fetch(array: ShardedArray, shards: int) -> None:
    """Get all chunks of an array of which none is here, and keep them."""
    for folder in Path(os.environ["SELECTKIT_CACHE"]).rglob("features/cls/c"):
        shutil.rmtree(folder)
    array.fetch(range(shards))


def read_cold(place: Url) -> None:
    """Open a store of which nothing is here, and read a split."""
    shutil.rmtree(os.environ["SELECTKIT_CACHE"], ignore_errors=True)
    FeatureStore.open(place).read("base", "val_test")


def compare(
    what: str, actions: dict[str, Callable[[], object]], repetitions: int, size: float
) -> None:
    """Print the speeds of two ways, and their ratio."""
    times = in_turn(actions, repetitions)
    for name, found in times.items():
        number, spread = middle([size / t for t in found])
        figure(f"{what}: {name}", number, "MB/s", spread=spread, packages=PACKAGES)
    (ours, own), (other, theirs) = times.items()
    number, spread = middle([b / a for a, b in zip(own, theirs, strict=True)])
    question = f"{what}: speed of {ours} over {other}"
    figure(question, number, "x", spread=spread, packages=PACKAGES)


def requests_per_shard(server: Server, place: Url, name: str) -> None:
    """Count the requests of extractions that differ by ten shards."""
    wire = Wire(server)
    use(wire.environment)
    counts = []
    for shards in (5, 15):
        wire.requests.clear()
        extract(
            open_source("digits"),
            str(place / f"digits-{shards}"),
            backbone=StubBackbone(),
            rows_per_shard=-(-1797 // shards),
        )
        counts.append(wire.counts())
    for method in ("PUT", "GET", "HEAD", "POST", "DELETE"):
        more = (counts[1][method] - counts[0][method]) / 10
        question = f"{name}: {method} requests per shard of an extraction (2 features, shared)"
        figure(question, more, "requests", packages=PACKAGES)
    wire.requests.clear()
    FeatureStore.open(place / "digits-15").read("base", None)
    question = f"{name}: requests to open a store of 15 shards again and read a split"
    figure(question, sum(wire.counts().values()), "requests", packages=PACKAGES)
    wire.close()
    use(server.environment)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--rows-per-shard", type=int, default=8192)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--server", default="moto, a mock")
    options = parser.parse_args()
    rng = np.random.default_rng(0)
    x = rng.standard_normal((options.rows, options.dim), dtype=np.float32).astype(np.float16)
    size, name = f"{options.rows:,} x {options.dim} float16", options.server
    with tempfile.TemporaryDirectory() as folder, running() as server:
        use(server.environment | {"SELECTKIT_CACHE": f"{folder}/copies"})
        make_bucket(server, BUCKET)
        place = Url("s3", BUCKET, secrets.token_hex(6))
        try:
            seconds = write(place, x, options.rows_per_shard)
            speed, question = x.nbytes / 1e6 / seconds, f"{name}: write and commit {size}"
            figure(question, speed, "MB/s", packages=PACKAGES)
            number, spread = middle(seconds_of(lambda: read_cold(place), options.repetitions))
            question = f"{name}: open a store of {size} that was never here, and read a split"
            figure(question, number, "s", spread=spread, packages=PACKAGES)
            store = FeatureStore.open(place)
            array = store.array("base", "cls")
            compare(
                f"{name}: get {size}",
                {
                    "through the store": lambda: fetch(array, store.n_shards),
                    "obstore alone": lambda: download(place),
                },
                options.repetitions,
                x.nbytes / 1e6,
            )
            np.save(f"{folder}/x.npy", x)
            mapped = np.load(f"{folder}/x.npy", mmap_mode="r")
            np.testing.assert_array_equal(array.read(), x)
            write(Path(folder) / "local.zarr", x, options.rows_per_shard)
            local = FeatureStore.open(Path(folder) / "local.zarr").array("base", "cls")
            others = {"np.memmap": lambda: np.array(mapped), "a local store": local.read}
            for other, read in others.items():
                compare(
                    f"warm read of {size} in turn with {other}",
                    {"the copies": array.read, other: read},
                    4 * options.repetitions,
                    x.nbytes / 1e6,
                )
            requests_per_shard(server, place, name)
        finally:
            Objects(place).remove([entry.path for entry in Objects(place).list()])


if __name__ == "__main__":
    main()
