"""The extraction engine on Ray: the same shards, computed by actors on any number of machines.

The driver hands out numbers of shards and hears counts. A worker builds source and backbone itself,
reads images and writes into the store itself, as the local engine does; so the store is the same.
A worker that is lost (a machine that went away, a process that was killed) is replaced, and its
shards are given to others: a shard that was committed is passed over, any other is computed again.
"""

import math
import time
from collections.abc import Callable
from contextlib import suppress

from selectkit.cache import BusyError, FeatureStore
from selectkit.errors import SelectkitError, WorkerError
from selectkit.extract.changes import Changes
from selectkit.extract.claims import tidy
from selectkit.extract.engine import ExtractionSummary, Progress
from selectkit.extract.plan import part_of
from selectkit.extract.ray_cluster import Crew, cluster, crew_for
from selectkit.extract.ray_pool import Answer, Member, Pool
from selectkit.extract.ray_shares import DEATHS, Shares
from selectkit.extract.ray_worker import BEAT, Failure, Opened, Report
from selectkit.extract.session import Extraction, failures
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Timings

PATIENCE = 60.0
"""Seconds that workers get to end in order."""

LAST_BREATH = 2.0
"""Seconds after which a killed worker is dead, or the store is in use by somebody else."""


def extract_on_ray(
    build: Callable[[], Extraction],
    *,
    actors: int | None = None,
    address: str | None = None,
    device: str = "auto",
    shard_range: str | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> ExtractionSummary:
    """Compute what a store does not hold yet, with the workers of a Ray cluster.

    The store is bit for bit that of `selectkit.extract.extract`, and all that holds there holds
    here. Source, store and backbone must be reachable under the same names from the driver and from
    all machines, and selectkit installed there.

    Args:
        build: Makes a worker's part from arguments; a function that workers can import, or a
            `functools.partial` of one.
        actors: Number of workers; default one per GPU, without GPUs one per machine.
        address: Cluster, "host:port" or "auto"; default that of RAY_ADDRESS, else one is started
            on this machine for the time of the run.
        device: Where backbones run; "cpu" = workers get no GPU.
        shard_range: "i/n": only the i-th of n parts of the shards; None = all.
        progress: Called now and then.

    Returns:
        What was done; `timings` summed over the workers, without those of lost ones.

    Raises:
        ConfigError: If there is no such cluster, or a setting cannot be used.
        MissingExtraError: If Ray is not installed.
        WorkerError: If a shard ended several workers, or workers end before they do anything; all
            other shards are committed.
        SelectkitError: Whatever a worker met that the user can mend.
    """
    part_of(1, shard_range)
    with StopRequest() as stop, cluster(address, actors) as ray:
        crew = crew_for(ray.nodes(), actors, device)
        return _Run(Pool(ray, build, crew), crew, stop, shard_range, progress).complete()


class _Run:
    """What the driver knows, and what it does about it."""

    def __init__(
        self,
        pool: Pool,
        crew: Crew,
        stop: StopRequest,
        shard_range: str | None,
        tell: Callable[[Progress], None] | None,
    ) -> None:
        self._pool, self._crew, self._stop = pool, crew, stop
        self._range, self._tell, self._began = shard_range, tell, time.monotonic()
        self._opened: Opened | None = None
        self._shares = Shares({}, crew.size)
        self._done, self._done_now, self._failed = 0, 0, 0
        self._shown = 0, 0
        self._fruitless = 0
        self._error: SelectkitError | None = None

    def complete(self) -> ExtractionSummary:
        timings = Timings()
        try:
            if not self._stop.requested:
                self._pool.start(first=True)
                self._work()
                timings = self._pool.end(PATIENCE)
        finally:
            self._pool.end(0)
        if self._error is not None:
            raise self._error
        return self._summary(timings)

    def _work(self) -> None:
        until = math.inf
        while self._is_busy() and time.monotonic() < until:
            for member, answer in self._pool.answers(BEAT):
                self._hear(member, answer)
            self._show()
            if self._is_ending:
                until = min(until, time.monotonic() + PATIENCE)
            for member in list(self._pool.members):
                self._lead(member)
        if self._shares.given_up and self._error is None:
            self._error = self._given_up()

    @property
    def _is_ending(self) -> bool:
        return self._stop.requested or self._error is not None

    def _is_busy(self) -> bool:
        if self._is_ending:
            return any(member.call is not None or member.busy for member in self._pool.members)
        return self._opened is None or bool(self._shares.open)

    def _hear(self, member: Member, answer: Answer) -> None:
        if isinstance(answer, Opened):
            member.opened = True
            if self._opened is None:
                self._plan(answer)
        elif isinstance(answer, Report):
            self._note(member, answer)
            if answer.failure is not None:
                self._hear(member, answer.failure)
        elif isinstance(answer, Failure):
            self._pool.drop(member)
            if answer.kind:
                self._error = self._error or answer.error()
            else:
                self._replace(member, answer.text)
        else:
            self._replace(member, answer.why)

    def _plan(self, opened: Opened) -> None:
        """The first worker has the store ready: get others, as many as have something to do."""
        self._opened = opened
        store = FeatureStore.open(opened.store)
        todo = {k: opened.todo[k] for k in part_of(store.n_shards, self._range) if k in opened.todo}
        self._shares = Shares(todo, min(self._crew.size, len(todo)))
        self._man()

    def _man(self) -> None:
        if self._opened is None:
            self._pool.start(first=True)
        while len(self._pool.members) < min(self._crew.size, len(self._shares.open)):
            self._pool.start()

    def _note(self, member: Member, report: Report) -> None:
        shares = self._shares
        for shard, share in report.finished.items():
            # a worker that is lost may have committed a shard and not said so
            ours = shares.todo[shard] if shard in shares.returned else share.rows
            self._done_now += ours
            self._done += shares.todo[shard]
            self._failed += share.failed
            self._fruitless = 0
            shares.finish(shard)
            member.held.discard(shard)
        member.images, member.failed = report.images, report.failed
        member.queued, member.busy = report.queued, not report.idle

    def _replace(self, member: Member, why: str) -> None:
        self._shares.lose(member.held, why)
        self._fruitless += 1
        if self._fruitless >= DEATHS * (2 + self._crew.size):  # it is not one shard
            self._error = WorkerError(
                f"{self._fruitless} workers ended one after the other and finished nothing; the "
                f"last: {why}"
            )
        elif not self._is_ending:
            self._man()

    def _lead(self, member: Member) -> None:
        """Say what is next to a worker that waits for it."""
        if self._is_ending and not member.opened and self._opened is not None:
            self._pool.drop(member)
        if member.call is not None or not member.opened:
            return
        if self._is_ending:
            if member.busy:
                self._pool.step(member, [], stop=True)
            return
        shards = self._shares.take(member.held, member.queued)
        if shards or member.busy:
            self._pool.step(member, shards)

    def _show(self) -> None:
        done = self._done + sum(member.images for member in self._pool.members)
        failed = self._failed + sum(member.failed for member in self._pool.members)
        total = sum(self._shares.todo.values())
        if self._tell is not None and (done, failed) != self._shown:
            self._shown = done, failed
            seconds = time.monotonic() - self._began
            self._tell(Progress(min(done, total), total, failed, seconds))

    def _given_up(self) -> WorkerError:
        assert self._opened is not None
        shards = self._shares.given_up
        return WorkerError(
            f"{self._opened.store}: given up after {DEATHS} workers ended while they computed "
            f"nothing else: shard {', '.join(map(str, sorted(shards)))}; the last: "
            f"{shards[min(shards)].rstrip('.')}. What is committed is safe. If workers lack "
            "memory, use fewer actors or a smaller batch; then run the same command again."
        )

    def _summary(self, timings: Timings) -> ExtractionSummary:
        opened, shares = self._opened, self._shares
        rows, failed, before = 0, {}, 0
        if opened is not None:
            store = FeatureStore.open(opened.store)
            _await_the_dead(store)
            tidy(store, opened.view)
            rows, failed = store.rows, failures(store)
            before = rows - sum(opened.todo.values())
        seconds = time.monotonic() - self._began
        return ExtractionSummary(
            rows=rows,
            done_now=self._done_now,
            skipped=before,
            elsewhere=self._done - self._done_now,
            failed=failed,
            seconds=seconds,
            images_per_second=self._done_now / seconds if seconds > 0 else 0.0,
            changes=opened.changes if opened else Changes(),
            timings=timings,
            interrupted=opened is None or bool(shares.open),
            signal=self._stop.signal,
        )


def _await_the_dead(store: FeatureStore) -> None:
    """Wait a moment for the locks of workers that were just killed."""
    until = time.monotonic() + LAST_BREATH
    while time.monotonic() < until:
        with suppress(BusyError), store.writing():
            return
        time.sleep(0.05)
