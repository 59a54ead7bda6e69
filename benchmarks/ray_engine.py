"""What does extraction on Ray cost more than in one process?

Run `python -m benchmarks.ray_engine > benchmarks/results/ray_engine.jsonl`. One worker against the
local engine, JPEG files and a model that only sleeps, so that the host's work is all there is; a
small and a large job in turn, so that what a run costs once and what an image costs come apart.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks._figures import figure, middle
from benchmarks._photographs import write_photographs
from benchmarks.extract import Sleeper
from selectkit.extract import Extraction, ExtractionSummary, open_source
from selectkit.extract.engine import run
from selectkit.extract.ray_cluster import cluster
from selectkit.extract.ray_engine import extract_on_ray
from selectkit.extract.setup import Settings

PACKAGES = ("ray", "simplejpeg", "numpy")
ROWS_PER_SHARD = 128

Engine = Callable[[Callable[[], Extraction]], ExtractionSummary]


def part(source: Path, store: Path) -> Extraction:
    """One process's part."""
    settings = Settings(rows_per_shard=ROWS_PER_SHARD, batch_size=32)
    return Extraction(open_source(source), store, Sleeper(), settings)


def wall(engine: Engine, source: Path, store: Path) -> float:
    """Seconds of one run into a new store."""
    start = time.perf_counter()
    summary = engine(partial(part, source, store))
    assert not summary.interrupted
    return time.perf_counter() - start


def main(small: int, large: int, repetitions: int) -> None:
    """Print all figures."""
    engines: dict[str, Engine] = {
        "local": lambda build: run(build()),
        "ray": partial(extract_on_ray, actors=1),
    }
    cases = [(engine, n) for n in (small, large) for engine in engines]
    found: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for n in (small, large):
            write_photographs(folder / f"images-{n}", 50, n // 50)
        start = time.perf_counter()
        with cluster(None, 1):
            figure("start a Ray cluster", time.perf_counter() - start, "s", packages=PACKAGES)
            for repetition in range(repetitions + 1):
                for engine, n in cases:
                    store = folder / f"{engine}-{n}-{repetition}"
                    seconds = wall(engines[engine], folder / f"images-{n}", store)
                    if repetition:
                        found[engine, n].append(seconds)
    report(found, small, large)


def report(found: dict[tuple[str, int], list[float]], small: int, large: int) -> None:
    """Print ratios per repetition."""
    pairs = zip(found["ray", small], found["local", small], strict=True)
    longer = [ray - local for ray, local in pairs]
    pairs = zip(found["ray", large], found["local", large], strict=True)
    whole = [local / ray for ray, local in pairs]
    further = {
        engine: [b - a for a, b in zip(found[engine, small], found[engine, large], strict=True)]
        for engine in ("local", "ray")
    }
    pairs = zip(further["ray"], further["local"], strict=True)
    images = [local / ray for ray, local in pairs]
    question = f"JPEG files, shards of {ROWS_PER_SHARD}, one worker on Ray against the local engine"
    for what, values, unit in (
        (f"{small:,} {question}: longer by, the cluster is there", longer, "s"),
        (f"{large:,} {question}: speed, start of the worker included", whole, "x"),
        (f"{large - small:,} further {question}: speed", images, "x"),
    ):
        number, spread = middle(values)
        figure(what, number, unit, spread=spread, packages=PACKAGES)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", type=int, default=400)
    parser.add_argument("--large", type=int, default=2400)
    parser.add_argument("--repetitions", type=int, default=5)
    asked = parser.parse_args()
    main(asked.small, asked.large, asked.repetitions)
