"""Small extractions of real files with a model that sleeps, in processes that start together."""

import io
import json
import os
import resource
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from benchmarks._photographs import photograph
from benchmarks._scaling_model import Job
from selectkit.artifact import content_hash
from selectkit.extract import Preprocessing, extract, open_source
from selectkit.extract.decode import decode_pixels
from selectkit.extract.listing import Record
from selectkit.extract.sources import Source

DIM = 384
TINY = 16
QUIET = 0.8
"""Share of the cores that a quiet machine leaves."""


@dataclass(frozen=True)
class Sleeper:
    """A model that takes a known time and no processor.

    Attributes:
        forward: Seconds per batch.
        preprocessing: The geometry.
    """

    forward: float
    preprocessing: Preprocessing
    id: str = "sleeper"
    dim: int = DIM
    patch_size: int = 16

    def fingerprint(self) -> dict[str, Any]:
        """Say nothing but the name."""
        return {"id": self.id}

    def __call__(self, pixels: npt.NDArray[np.uint8]) -> dict[str, npt.NDArray[np.float32]]:
        """Sleep, whatever the pixels are."""
        time.sleep(self.forward)
        some = np.ones((len(pixels), DIM), dtype=np.float32)
        return {"cls": some, "patch_mean": some}


@dataclass(frozen=True)
class Distant:
    """The first images of a source, whose reads wait as those over a network do."""

    source: Source
    images: int
    latency: float

    def records(self) -> list[Record]:
        """Return the first records of the source."""
        return self.source.records()[: self.images]

    def read(self, path: str) -> bytes:
        """Wait, then read."""
        if self.latency:
            time.sleep(self.latency)
        return self.source.read(path)

    def describe(self) -> dict[str, Any]:
        """Return what the source says, and how many there are."""
        return {**self.source.describe(), "first": self.images}


@dataclass(frozen=True, slots=True)
class Measured:
    """One extraction.

    Attributes:
        seconds: Wall time, from the first process's start to the last one's end.
        processor: Processor seconds of all processes.
        parents: Those of the processes themselves, without decoders that they started.
        cores: Cores that were free for it: all of them, less what others used meanwhile.
    """

    seconds: float
    processor: float
    parents: float
    cores: float

    @property
    def is_quiet(self) -> bool:
        """Whether it says something: programs that fill every gap leave just what the run used."""
        return self.cores >= QUIET * len(os.sched_getaffinity(0))


Task: TypeAlias = tuple[Path, Job, int]
"""Folder, job, and pixels of the model's input."""


def tiny_files(folder: Path, count: int, size: int = 0) -> Path:
    """Write different JPEG files of 16 x 16 pixels and at least `size` bytes; return the folder."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(photograph(0, TINY, TINY)).save(buffer, "JPEG")
    data = buffer.getvalue()
    data += bytes(max(0, size - len(data)))
    folder.mkdir(parents=True)
    for i in range(count):
        (folder / f"{i:06d}.jpg").write_bytes(data + f"{i:06d}".encode())
    return folder


def sized_files(folder: Path, count: int, width: int, height: int) -> Path:
    """Write photographs of one size as JPEG files; return the folder."""
    from PIL import Image

    folder.mkdir(parents=True)
    for seed in range(count):
        image = Image.fromarray(photograph(seed, width, height))
        image.save(folder / f"{seed:03d}.jpg", "JPEG", quality=85, subsampling=2)
    return folder


def load_seconds(folder: Path, size: int, images: int = 64) -> float:
    """Return the processor seconds of reading, hashing, decoding and resizing one image.

    A copy is part of it: pixels come from another process.
    """
    import torch

    torch.set_num_threads(1)
    files, plan = sorted(folder.iterdir())[:images], Preprocessing(size)
    out = np.empty((size, size, 3), dtype=np.uint8)
    found = []
    for _ in range(3):
        start = time.thread_time()
        for file in files:
            data = file.read_bytes()
            content_hash(data)
            plan.apply(decode_pixels(data).copy(), out)
        found.append((time.thread_time() - start) / len(files))
    return min(found)


def crowded_seconds(folder: Path, size: int) -> float:
    """Return the same while every core does it."""
    command = [sys.executable, "-m", "benchmarks._scaling_runs", "load", str(folder), str(size)]
    processes = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        for _ in os.sched_getaffinity(0)
    ]
    return median([float(process.communicate()[0]) for process in processes])


def run(folder: Path, job: Job, size: int = 224) -> Measured:
    """Extract the first images of a folder into a new store.

    Args:
        folder: The images.
        job: What to do; its `cores` are not used.
        size: Pixels of the model's input.

    Returns:
        What was measured.
    """
    store = folder.parent / "store.zarr"
    shutil.rmtree(store, ignore_errors=True)
    places = [str(folder), str(store), str(size), json.dumps(asdict(job))]
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "benchmarks._scaling_runs", "extract", *places],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        for _ in range(job.processes)
    ]
    try:
        for process in processes:
            _line(process)
        busy = _busy()
        for process in processes:
            print("go", file=process.stdin, flush=True)
        told = [json.loads(_line(process)) for process in processes]
        busy = _busy() - busy
    finally:
        for process in processes:
            process.communicate()
    wall = max(t["end"] for t in told) - min(t["begin"] for t in told)
    parents, decoders = sum(t["own"] for t in told), sum(t["decoders"] for t in told)
    if (rows := sum(t["rows"] for t in told)) != job.images:
        raise RuntimeError(f"{rows} rows were committed instead of {job.images}.")
    others = max(0.0, busy - parents - decoders) / wall
    cores = max(0.5, len(os.sched_getaffinity(0)) - others)
    return Measured(wall, parents + decoders, parents, cores)


def collect(
    tasks: Mapping[str, Task], repetitions: int, patience: float
) -> dict[str, list[Measured]]:
    """Make all runs, each when others leave the machine alone; tell of each on stderr.

    Args:
        tasks: What to run, by name.
        repetitions: Quiet runs that each task gets.
        patience: Seconds for all of it; what was not quiet by then counts as it was.

    Returns:
        `repetitions` runs of every task.
    """
    until = time.monotonic() + patience
    waiting = deque(list(tasks) * repetitions)
    found: dict[str, list[Measured]] = {name: [] for name in tasks}
    noisy: dict[str, list[Measured]] = {name: [] for name in tasks}
    while waiting:
        name = waiting.popleft()
        wait_for_quiet(until - time.monotonic())
        is_late = time.monotonic() > until
        if is_late and noisy[name]:
            found[name].append(max(noisy[name], key=lambda measured: measured.cores))
            continue
        measured = run(*tasks[name])
        print(json.dumps({"run": name, **asdict(measured)}), file=sys.stderr, flush=True)
        if measured.is_quiet or is_late:
            found[name].append(measured)
        else:
            noisy[name].append(measured)
            waiting.append(name)
    return found


def wait_for_quiet(patience: float) -> None:
    """Sleep until others use at most a fifth of the cores, or patience ends.

    Args:
        patience: Seconds.
    """
    until = time.monotonic() + patience
    while time.monotonic() < until:
        before = _busy()
        time.sleep(0.5)
        if _busy() - before <= 0.5 * (1 - QUIET) * len(os.sched_getaffinity(0)):
            break


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    if not (line := process.stdout.readline()):
        raise RuntimeError("an extraction ended early; its error is above.")
    return line


def _busy() -> float:
    """Processor seconds that this machine has spent on anything since it was started."""
    fields = [int(x) for x in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) / os.sysconf("SC_CLK_TCK")


def _own_and_children() -> tuple[float, float]:
    """Processor seconds of this process, and of its children, living and dead."""
    found = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    own, dead = (usage.ru_utime + usage.ru_stime for usage in found)
    living = 0
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = place.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            living += int(fields[11]) + int(fields[12])
    return own, dead + living / os.sysconf("SC_CLK_TCK")


def _extract(folder: str, store: str, size: str, text: str) -> None:
    """What each process of `run` does; speaks with it in lines."""
    import torch

    torch.set_num_threads(1)  # a backbone would have imported it
    job = Job(**json.loads(text))
    source = Distant(open_source(folder), job.images, job.latency)
    backbone = Sleeper(job.forward, Preprocessing(int(size)))
    print("ready", flush=True)
    sys.stdin.readline()
    before, begin = _own_and_children(), time.monotonic()
    summary = extract(
        source,
        store,
        backbone=backbone,
        batch_size=job.batch,
        rows_per_shard=job.rows_per_shard,
        workers=job.workers,
    )
    end, after = time.monotonic(), _own_and_children()
    own, decoders = (b - a for a, b in zip(before, after, strict=True))
    told = {"begin": begin, "end": end, "own": own, "decoders": decoders, "rows": summary.done_now}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "load":
        print(load_seconds(Path(sys.argv[2]), int(sys.argv[3])))
    else:
        _extract(*sys.argv[2:])
