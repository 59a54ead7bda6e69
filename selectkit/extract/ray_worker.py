"""One process's part in an extraction, driven from outside by short calls.

This becomes a Ray actor. Every call returns soon and returns a value: an exception would end the
job of other workers as well. What travels is numbers of shards and counts; images and features stay
in this process and go from it into the store.
"""

import os
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from selectkit import errors
from selectkit.extract.changes import Changes
from selectkit.extract.feed import Loaded
from selectkit.extract.session import Extraction
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Timings

BEAT = 0.5  # seconds that a call waits for news


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a worker cannot go on.

    Attributes:
        kind: Name of a class in `selectkit.errors` when the user can mend it, else "".
        text: What it says.
        trace: Where it happened.
    """

    kind: str
    text: str
    trace: str

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """Describe an exception."""
        names = [
            kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__
        ]
        known = next(iter(names), "")
        text = str(error) if known else f"{type(error).__name__}: {error}"
        return cls(known, text, "".join(traceback.format_exception(error)))

    def error(self) -> errors.SelectkitError:
        """Return the exception that a user is to see."""
        return getattr(errors, self.kind)(self.text)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True)
class Opened:
    """What a worker found in the store; see `Extraction`."""

    store: str
    view: str
    todo: dict[int, int]
    changes: Changes


@dataclass(frozen=True, slots=True)
class Share:
    """What a worker did of a shard: rows it committed, 0 if others did, and those that failed."""

    rows: int
    failed: int


@dataclass(frozen=True, slots=True)
class Report:
    """How far a worker is.

    Attributes:
        images: Images that went through, of shards that are not finished.
        failed: Those of them that could not be used.
        finished: Shards that are committed since the last report.
        queued: Shards that are not begun.
        idle: Whether it has nothing to do.
        failure: Why it ended.
    """

    images: int
    failed: int
    finished: dict[int, Share]
    queued: int
    idle: bool
    failure: Failure | None


class Worker:
    """Computes shards in a thread, and says how far it is."""

    def __init__(self, build: Callable[[], Extraction], cpus: int, folder: str) -> None:
        """Nothing is loaded yet.

        Args:
            build: Opens source and backbone; travels by pickle, so it holds arguments, no images.
            cpus: Threads for decoding and for the model, unless the user asked for others.
            folder: Relative paths are relative to it.
        """
        os.environ.setdefault("OMP_NUM_THREADS", str(cpus))
        with suppress(OSError):
            os.chdir(folder)
        self._build, self._cpus = build, cpus
        self._news = threading.Condition()
        self._stop = StopRequest()
        self._queue: deque[int] = deque()
        self._begun: set[int] = set()
        self._finished: dict[int, Share] = {}
        self._images, self._failed = 0, 0
        self._changed, self._idle = False, True
        self._failure: Failure | None = None
        self._timings = Timings()

    def begin(self, *, first: bool) -> Opened | Failure:
        """Open source, backbone and store.

        Args:
            first: Whether no worker did so in this run; only that one looks for changed images.
        """
        try:
            work = self._build()
            settings = work.settings
            work.settings = replace(
                settings,
                workers=settings.workers or self._cpus,
                rescan=settings.rescan and first,
            )
            self._work = work.__enter__()
        except Exception as error:
            return Failure.of(error)
        self._thread = threading.Thread(target=self._run, name="compute", daemon=True)
        self._thread.start()
        return Opened(str(work.store.path), settings.view, work.todo, work.changes)

    def step(self, shards: Sequence[int], *, stop: bool = False) -> Report:
        """Take more shards, and wait a moment for news.

        Args:
            shards: Their numbers.
            stop: Whether to end after the current batch; then the worker is idle for ever.
        """
        with self._news:
            self._queue.extend(shards)
            self._changed = False
            self._stop.requested |= stop
            self._news.notify_all()
            self._news.wait_for(lambda: self._changed or self._finished, timeout=BEAT)
            finished, self._finished = self._finished, {}
            return Report(
                self._images,
                self._failed,
                finished,
                len(self._queue),
                self._idle and (not self._queue or self._stop.requested),
                self._failure,
            )

    def end(self) -> Timings:
        """Stop, and leave the store.

        Returns:
            Where the time went.
        """
        with self._news:
            self._stop.requested = True
            self._news.notify_all()
        self._thread.join()
        self._work.__exit__(None, None, None)
        return self._timings

    def _run(self) -> None:
        try:
            while self._has_work():
                self._begun = set()
                done = self._work.compute(self._taken(), self._tell, self._stop, self._committed)
                with self._news:
                    self._timings += done.timings
                    for shard in self._begun - done.left:
                        self._finished[shard] = Share(0, 0)  # somebody else did it
        except BaseException as error:
            self._failure = Failure.of(error)
        with self._news:
            self._idle = self._changed = True
            self._news.notify_all()

    def _has_work(self) -> bool:
        with self._news:
            self._images = self._failed = 0
            self._idle = self._changed = True
            self._news.notify_all()
            self._news.wait_for(lambda: self._queue or self._stop.requested)
            self._idle = False
            return not self._stop.requested

    def _taken(self) -> Iterator[int]:
        """The queue; the driver hears that there is room in it."""
        while True:
            with self._news:
                if not self._queue or self._stop.requested:
                    return
                shard = self._queue.popleft()
                self._begun.add(shard)
                self._changed = True
                self._news.notify_all()
            yield shard

    def _tell(self, batch: Sequence[Loaded]) -> None:
        with self._news:
            self._images += len(batch)
            self._failed += _failed(batch)

    def _committed(self, shard: int, images: Sequence[Loaded]) -> None:
        with self._news:
            share = Share(len(images), _failed(images))
            self._finished[shard] = share
            self._begun.discard(shard)
            self._images -= share.rows
            self._failed -= share.failed
            self._news.notify_all()


def _failed(images: Sequence[Loaded]) -> int:
    return sum(image.status.startswith("failed:") for image in images)
