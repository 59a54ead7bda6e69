"""The extraction engine as a discrete-event simulation: every image, batch and shard is an event.

Tasks are generators that ask for the processor (`Work`), for time (`Sleep`), or for something to
happen (`Signal`). Runnable tasks share the cores evenly, as threads under an operating system do.
"""

import heapq
from collections import deque
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass, field
from itertools import count
from math import ceil
from typing import TypeAlias

from benchmarks._scaling_model import PAUSE, Costs, Job


@dataclass(frozen=True, slots=True)
class Work:
    """Processor seconds, on a core of one's own."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Sleep:
    """Seconds that pass without a core."""

    seconds: float


@dataclass(slots=True)
class Signal:
    """Wakes the tasks that wait for it."""

    machine: "Machine"
    waiting: list["Task"] = field(default_factory=list)

    def fire(self) -> None:
        """Wake them all."""
        self.machine.ready.extend(self.waiting)
        self.waiting.clear()


Task: TypeAlias = Generator[Work | Sleep | Signal, None, None]


@dataclass(slots=True)
class Machine:
    """Cores, a clock, and the tasks on them.

    Attributes:
        cores: Cores that tasks share.
        crowding: By how much work slows while more than one core works.
        now: Seconds since the beginning.
        worked: Processor seconds asked for.
    """

    cores: float
    crowding: float = 1.0
    now: float = 0.0
    worked: float = 0.0
    ready: deque[Task] = field(default_factory=deque)
    _progress: float = 0.0  # what each runnable task was given since the beginning
    _working: list[tuple[float, int, Task]] = field(default_factory=list)
    _sleeping: list[tuple[float, int, Task]] = field(default_factory=list)
    _number: Iterator[int] = field(default_factory=count)

    def start(self, task: Task) -> None:
        """Let a task run, from now on."""
        self.ready.append(task)

    def run(self) -> float:
        """Run until no task can go on.

        Returns:
            The seconds it took.
        """
        while self.ready or self._working or self._sleeping:
            while self.ready:
                self._resume(self.ready.popleft())
            self._advance()
        return self.now

    def _resume(self, task: Task) -> None:
        wish = next(task, None)
        if isinstance(wish, Work):
            self.worked += wish.seconds
            heapq.heappush(self._working, (self._progress + wish.seconds, next(self._number), task))
        elif isinstance(wish, Sleep):
            heapq.heappush(self._sleeping, (self.now + wish.seconds, next(self._number), task))
        elif isinstance(wish, Signal):
            wish.waiting.append(task)

    def _advance(self) -> None:
        busy = len(self._working)
        crowded = min(busy, self.cores) > 1
        speed = min(1.0, self.cores / max(1, busy)) / (self.crowding if crowded else 1.0)
        worked = (self._working[0][0] - self._progress) / speed if busy else float("inf")
        slept = self._sleeping[0][0] - self.now if self._sleeping else float("inf")
        if (step := min(worked, slept)) == float("inf"):
            return
        self.now += step
        self._progress += step * speed
        queue = self._working if worked <= slept else self._sleeping
        if queue is self._working:
            self._progress = queue[0][0]
        self.ready.append(heapq.heappop(queue)[2])


@dataclass(slots=True)
class Turn:
    """What one task of a process may do at a time: its interpreter."""

    machine: Machine
    taken: bool = False
    free: Signal = field(init=False)

    def __post_init__(self) -> None:
        self.free = Signal(self.machine)

    def work(self, seconds: float) -> Task:
        """Wait for the turn, and work.

        Args:
            seconds: Processor seconds.

        Yields:
            What the machine has to do.
        """
        while self.taken:
            yield self.free
        self.taken = True
        yield Work(seconds)
        self.taken = False
        self.free.fire()


@dataclass(slots=True)
class Batch:
    """Images on their way.

    Attributes:
        images: How many.
        completes: Rows of the shard whose last batch it is, 0 when it is not the last.
        loaded: How many have been loaded.
    """

    images: int
    completes: int
    loaded: int = 0


@dataclass(slots=True)
class Store:
    """What the processes share.

    Attributes:
        sizes: Rows of each shard.
        claimed: Shards that were claimed.
        committed: Shards that were committed.
        rows: Rows that were committed.
    """

    sizes: list[int]
    claimed: int = 0
    committed: int = 0
    rows: int = 0

    def claim(self) -> int | None:
        """Return the rows of the next shard, None when there is none."""
        self.claimed += 1
        return self.sizes[self.claimed - 1] if self.claimed <= len(self.sizes) else None


@dataclass(slots=True)
class Process:
    """One process of an extraction: decoders, the thread that feeds the model, a writer."""

    machine: Machine
    store: Store
    job: Job
    costs: Costs
    turn: Turn = field(init=False)
    changed: Signal = field(init=False)
    jobs: deque[Batch] = field(default_factory=deque)
    writing: bool = False
    ended: bool = False

    def __post_init__(self) -> None:
        self.turn, self.changed = Turn(self.machine), Signal(self.machine)

    def start(self) -> None:
        """Start its tasks."""
        for _ in range(self.job.workers):
            self.machine.start(self.decoder())
        self.machine.start(self.feeder())

    def decoder(self) -> Task:
        """Read, decode and resize images until there are no more."""
        python = min(self.costs.load, max(0.0, self.costs.serial - self.costs.feed))
        yield Work(self.costs.decoder)
        while True:
            yield from self.until(lambda: bool(self.jobs) or self.ended)
            if not self.jobs:
                return
            batch = self.jobs.popleft()
            if self.job.latency:
                yield Sleep(self.job.latency)
            yield from self.turn.work(python)
            yield Work(self.costs.load - python)
            batch.loaded += 1
            if batch.loaded == batch.images:
                self.changed.fire()

    def feeder(self) -> Task:
        """Queue batches, send them through the model, hand shards to the writer."""
        yield Work(self.costs.setup)
        yield Sleep(self.costs.settle + self.job.forward)  # the model is tried once
        ahead = 1 + ceil(2 * self.job.workers / self.job.batch)
        waiting: deque[Batch] = deque()
        for batch in self.batches():
            waiting.append(batch)
            self.jobs.extend([batch] * batch.images)
            self.changed.fire()
            if len(waiting) > ahead:
                yield from self.compute(waiting.popleft())
        while waiting:
            yield from self.compute(waiting.popleft())
        yield from self.until(lambda: not self.writing)
        self.ended = True
        self.changed.fire()
        while self.store.committed < len(self.store.sizes):
            yield Sleep(PAUSE)

    def batches(self) -> Iterator[Batch]:
        """Claim shards as they are needed."""
        while (rows := self.store.claim()) is not None:
            for start in range(0, rows, self.job.batch):
                images = min(self.job.batch, rows - start)
                yield Batch(images, rows if start + images == rows else 0)

    def compute(self, batch: Batch) -> Task:
        """One batch through the model."""
        yield from self.until(lambda: batch.loaded == batch.images)
        yield Sleep(self.job.forward)
        yield from self.turn.work(batch.images * self.costs.feed)
        if batch.completes:
            yield from self.until(lambda: not self.writing)
            self.writing = True
            self.machine.start(self.writer(batch.completes))

    def writer(self, rows: int) -> Task:
        """One shard to the disk, while the next one is computed."""
        yield from self.turn.work(self.costs.shard)
        yield Sleep(max(0.0, self.costs.commit - self.costs.shard))
        self.store.committed += 1
        self.store.rows += rows
        self.writing = False
        self.changed.fire()

    def until(self, condition: Callable[[], bool]) -> Task:
        """Wait for something that `changed` tells of."""
        while not condition():
            yield self.changed


def simulate(job: Job, costs: Costs) -> tuple[float, Store, Machine]:
    """Run an extraction image by image.

    Args:
        job: The extraction; its `read` and `transfer` are taken for unlimited, and the model does
            not work while the process feeds it.
        costs: What an image and a shard cost the host.

    Returns:
        Seconds from opening the store to the end of the last process, the store, the machine.
    """
    machine = Machine(job.cores, costs.crowding)
    full, rest = divmod(job.images, job.rows_per_shard)
    store = Store([job.rows_per_shard] * full + ([rest] if rest else []))
    for _ in range(job.processes):
        Process(machine, store, job, costs).start()
    return machine.run(), store, machine
