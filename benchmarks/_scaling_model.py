"""How long an extraction takes, and what limits it: sums and minima over measured costs.

An extraction is a pipeline of stages that work at the same time, so its rate is that of the slowest
one; filling it, emptying it, and shards that do not divide among processes come on top. The same
functions predict small runs, which are compared with measured ones, and large ones, which cannot
be measured here.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

PAUSE = 0.2
"""Seconds between two looks of a process that waits for the others' last shards."""


@dataclass(frozen=True, slots=True)
class Costs:
    """What the engine costs the host, measured in processor seconds of one busy core.

    Attributes:
        load: Reading (from memory), hashing, decoding and resizing one image.
        feed: What the engine adds per image: queues, batches, index and features of its row.
        serial: Per image, what one process cannot do on two cores at once.
        crowding: By how much everything slows when all cores are busy.
        shard: Per shard: claim, files, commits.
        commit: Wall seconds per shard in which the writer waits for the disk or works.
        setup: Per process: store, view and listing, before the first image.
        decoder: Per decoder: its start.
        settle: Wall seconds that a process waits meanwhile.
    """

    load: float
    feed: float
    serial: float
    crowding: float
    shard: float
    commit: float
    setup: float
    decoder: float
    settle: float


@dataclass(frozen=True, slots=True)
class Job:
    """One extraction on one machine.

    Attributes:
        images: N, of this machine.
        forward: Seconds of the model per batch, per process.
        batch: B, images per batch.
        workers: Decoders per process.
        processes: Processes that share the store, one per device.
        cores: Cores they share.
        rows_per_shard: Images per shard.
        latency: Seconds that a read waits without using a core.
        overlap: Whether the device works while the process prepares the next batch (a GPU).
        read: Images/s that the images' storage delivers, all processes together.
        transfer: Images/s over the bus, per process.
    """

    images: int
    forward: float
    batch: int = 32
    workers: int = 1
    processes: int = 1
    cores: float = 1.0
    rows_per_shard: int = 4096
    latency: float = 0.0
    overlap: bool = False
    read: float = float("inf")
    transfer: float = float("inf")

    @property
    def shards(self) -> int:
        """Shards of the job."""
        return ceil(self.images / self.rows_per_shard)

    @property
    def images_per_batch(self) -> float:
        """Mean size of a batch: the last one of a shard may have fewer."""
        rows = min(self.rows_per_shard, self.images)
        return rows / ceil(rows / self.batch)


def limits(job: Job, costs: Costs) -> dict[str, float]:
    """Return what each stage alone could do.

    Args:
        job: The extraction.
        costs: What an image and a shard cost the host.

    Returns:
        Images/s, all processes together, by stage: "read", "requests" (decoders that wait for
        reads), "decode" (cores), "process" (what a process does one after the other), "transfer",
        "forward" and "write".
    """
    n = job.processes
    rows = min(job.rows_per_shard, job.images)
    crowd = _crowd(job, costs)
    load, feed = crowd * costs.load, crowd * costs.feed
    batch = job.images_per_batch
    step = job.forward + (0.0 if job.overlap else batch * feed)
    return {
        "read": job.read,
        "requests": _rate(n * job.workers, job.latency + load),
        "decode": _rate(job.cores, load + feed + crowd * costs.shard / rows),
        "process": _rate(n, crowd * (costs.serial + costs.shard / rows)),
        "transfer": n * job.transfer,
        "forward": _rate(n * batch, step),
        "write": _rate(n * rows, costs.commit),
    }


def _rate(done: float, seconds: float) -> float:
    return done / seconds if seconds > 0 else float("inf")


def slowest(rates: Mapping[str, float]) -> str:
    """Return the name of the smallest rate, the first of equal ones."""
    return min(rates, key=lambda name: rates[name])


def seconds(job: Job, costs: Costs) -> float:
    """Return the wall time of an extraction, from opening the store to the last commit.

    Args:
        job: The extraction.
        costs: What an image and a shard cost the host.

    Returns:
        Seconds.
    """
    rates = limits(job, costs)
    shared = min(rates["read"], rates["decode"])  # what a process that is done leaves to others
    alone = min(rate for name, rate in rates.items() if name not in {"read", "decode"})
    crowd = _crowd(job, costs)
    starting, decoders = crowd * costs.decoder, job.processes * job.workers
    work = max(
        job.images / shared + starting * decoders / job.cores,
        _most(job) * job.processes / alone + starting,
    )
    fill = job.images_per_batch * job.processes / min(rates["requests"], rates["decode"])
    ends = min(fill, job.forward)  # one stage waits for its first batch, or the other for its last
    last = costs.commit + (PAUSE / 2 if job.processes > 1 else 0.0)
    setup = costs.settle + crowd * costs.setup * max(1.0, job.processes / job.cores)
    return setup + job.forward + ends + work + last


def processor_seconds(job: Job, costs: Costs) -> float:
    """Return the processor time of an extraction, of all its processes and decoders.

    Args:
        job: The extraction.
        costs: What an image and a shard cost the host.

    Returns:
        Seconds.
    """
    starts = job.processes * (costs.setup + job.workers * costs.decoder)
    work = job.images * (costs.load + costs.feed) + job.shards * costs.shard
    return _crowd(job, costs) * (starts + work)


def _crowd(job: Job, costs: Costs) -> float:
    return costs.crowding if job.cores > 1 and job.workers * job.processes > 1 else 1.0


def _most(job: Job) -> int:
    """Images of the busiest process, when each takes the next shard as soon as it can."""
    full, rest = divmod(job.images, job.rows_per_shard)
    rounds, over = divmod(full, job.processes)
    return (rounds + 1) * job.rows_per_shard if over else rounds * job.rows_per_shard + rest


def cores_per_device(job: Job, costs: Costs) -> float:
    """Return how many cores keep one device busy: those that decode as fast as it computes."""
    rows = min(job.rows_per_shard, job.images)
    rate = job.images_per_batch / job.forward
    return rate * costs.crowding * (costs.load + costs.feed + costs.shard / rows)


def interrupted(shard: float, restart: float, between: float) -> float:
    """Return by what factor interruptions lengthen a run that goes on where it stopped.

    An interruption loses the shard in work, on average half of it, and the next one, which is being
    loaded, and then starts anew.

    Args:
        shard: Seconds that one process takes for a shard.
        restart: Seconds until a new process computes.
        between: Mean seconds between interruptions of one process.

    Returns:
        At least 1.
    """
    return 1 + (1.5 * shard + restart) / between
