"""Images get seats in batches, and batches come in order, whatever the threads between do.

Every thread takes the next image and says what is known of it; if its features are not, it gets a
seat. Where features may be copied between rows they do not depend on the seat, and seats are given
as images come; elsewhere an image has the seat that its row says.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeAlias

from selectkit.extract.decoders import Pixels
from selectkit.extract.encoded import EncodedJpeg


@dataclass(frozen=True, slots=True)
class Loaded:
    """What became of one image.

    Attributes:
        content_hash: "sha256:..." of the file, "" when it could not be read.
        status: "ok" or "failed:<reason>"; "copy" of an image whose fate is not known yet.
        width: Pixels of the upright image, 0 when unknown.
        height: Likewise.
        copy_of: Row of the store with the same image, None when the image was decoded.
        encoded: What is still to be decoded where the model runs; never in a `Batch`.
    """

    content_hash: str
    status: str
    width: int = 0
    height: int = 0
    copy_of: int | None = None
    encoded: EncodedJpeg | None = None


Settle: TypeAlias = Callable[[list[Loaded], Pixels], list[Loaded]]


@dataclass(frozen=True, slots=True)
class Batch:
    """Images of one shard that go through the model together.

    Attributes:
        shard: Its number.
        rows: All rows of the shard.
        places: Place in the shard of every image in `pixels`, B of them, perhaps none.
        pixels: Shape (B, size, size, 3), uint8, black where an image failed. The memory is used
            again when the second batch after this one has been asked for.
        images: What became of the B images, and of those that needed no seat since the last batch.
        whole: What became of all images of the shard, given with its last batch.
    """

    shard: int
    rows: range
    places: Sequence[int]
    pixels: Pixels
    images: Sequence[Loaded]
    whole: Sequence[Loaded] | None


@dataclass(slots=True)
class Shard:
    """A shard on its way: rows are taken, then decided (seated or passed by), then decoded.

    Attributes:
        number: Its number.
        rows: Its rows.
        first: Number of its first batch, of all batches of the run.
        taken: Images that a thread took.
        undecided: Those of them that have no seat and were not passed by.
        seats: Seats that were given.
        places: Place in the shard by batch and position.
        decoded: Images that are ready, by batch.
        loaded: What became of each image; whoever has its seat says so before leaving it.
        unseated: What became of those passed by since the last batch.
        delivered: Batches that were handed out.
    """

    number: int
    rows: range
    first: int
    taken: int = 0
    undecided: int = 0
    seats: int = 0
    places: dict[int, dict[int, int]] = field(default_factory=dict)
    decoded: dict[int, int] = field(default_factory=dict)
    loaded: list[Loaded | None] = field(default_factory=list)
    unseated: list[Loaded] = field(default_factory=list)
    delivered: int = 0

    @property
    def is_decided(self) -> bool:
        """Whether it is known which of its images need a seat."""
        return self.taken == len(self.rows) and self.undecided == 0


class Feed:
    """Hands out rows to threads and seats to images, and collects batches in order."""

    def __init__(
        self, shards: Iterable[tuple[int, range]], batch_size: int, ring: int, *, packed: bool
    ) -> None:
        """Nothing is handed out yet.

        Args:
            shards: Number and rows of each; pulled only as far as images are taken.
            batch_size: Images per batch.
            ring: Batches that have memory at once.
            packed: Whether seats are given as images come, else as their rows say.
        """
        self._shards = iter(shards)
        self._size, self._ring, self._packed = batch_size, ring, packed
        self._changed = threading.Condition()
        self._current: Shard | None = None
        self._queue: deque[Shard] = deque()  # not delivered as a whole, the current one last
        self._pulling = self._exhausted = self._stopped = False
        self._error: BaseException | None = None
        self._delivered = 0  # batches whose pixels were handed out

    def stop(self) -> None:
        """Let no thread begin anything."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()

    @contextmanager
    def failing(self) -> Iterator[None]:
        """Raise what goes wrong in a thread where batches are asked for.

        Yields:
            Nothing.
        """
        try:
            yield
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
            self.stop()

    def take(self) -> tuple[Shard, int] | None:
        """Return the next image to load, shard and place; None when there is none."""
        with self._changed:
            while not (self._stopped or self._exhausted):
                shard = self._current
                if shard is not None and shard.taken < len(shard.rows):
                    shard.taken += 1
                    shard.undecided += 1
                    return shard, shard.taken - 1
                between = shard is None or shard.is_decided
                if self._pulling or not between or len(self._queue) > self._ring:
                    self._changed.wait()
                else:
                    self._pull()
        return None

    def _pull(self) -> None:
        """Ask for a shard, which may take its time; the lock is held before and after."""
        self._pulling = True
        self._changed.release()
        try:
            found = next(self._shards, None)
        finally:
            self._changed.acquire()
            self._pulling = False
            self._changed.notify_all()
        if found is None:
            self._exhausted = True
            return
        before = self._current
        first = before.first + len(before.places) if before is not None else 0
        self._current = Shard(*found, first, loaded=[None] * len(found[1]))
        self._queue.append(self._current)

    def pass_by(self, shard: Shard, place: int, image: Loaded) -> None:
        """Say that an image needs no seat.

        Args:
            shard: Its shard.
            place: Its place there.
            image: What became of it.
        """
        with self._changed:
            shard.loaded[place] = image
            shard.unseated.append(image)
            self._decide(shard)

    @contextmanager
    def seat(self, shard: Shard, place: int) -> Iterator[int | None]:
        """Give an image a seat for its decoding.

        Args:
            shard: Its shard.
            place: Its place there.

        Yields:
            Number of the image in the memory; None when nothing is to begin any more.
        """
        with self._changed:
            seat = shard.seats if self._packed else place
            shard.seats += 1
            batch, position = divmod(seat, self._size)
            for number in range(len(shard.places), batch + 1):
                shard.places[number], shard.decoded[number] = {}, 0
            shard.places[batch][position] = place
            self._decide(shard)
            number = shard.first + batch
            # All but the last two that were handed out are done with.
            while not self._stopped and number >= max(0, self._delivered - 2) + self._ring:
                self._changed.wait()
        yield None if self._stopped else number % self._ring * self._size + position
        with self._changed:
            shard.decoded[batch] += 1
            self._changed.notify_all()

    def _decide(self, shard: Shard) -> None:
        shard.undecided -= 1
        if shard.is_decided:
            self._changed.notify_all()

    def batches(self, pixels: Pixels, settle: Settle) -> Iterator[Batch]:
        """Wait for one batch after the other.

        Args:
            pixels: All of the memory.
            settle: Called with the seated images of each batch and their pixels; returns what
                became of them in the end.

        Yields:
            The batches.
        """
        while (found := self._next()) is not None:
            shard, number, is_last = found
            places = shard.places.get(number, {})
            start = (shard.first + number) % self._ring * self._size
            seated = [places[position] for position in range(len(places))]
            part = pixels[start : start + len(places)]
            images = settle([_there(shard.loaded[place]) for place in seated], part)
            for place, image in zip(seated, images, strict=True):
                shard.loaded[place] = image
            with self._changed:
                images += shard.unseated
                shard.unseated = []
            whole = [_there(image) for image in shard.loaded] if is_last else None
            yield Batch(shard.number, shard.rows, seated, part, images, whole)

    def _next(self) -> tuple[Shard, int, bool] | None:
        with self._changed:
            while True:
                if self._error is not None:
                    raise self._error
                if self._queue and (found := self._ready(self._queue[0])) is not None:
                    shard, number, is_last = found
                    if is_last:
                        self._queue.popleft()
                    if number in shard.places:
                        shard.delivered += 1
                        self._delivered += 1
                    self._changed.notify_all()
                    return found
                if not self._queue and self._exhausted:
                    return None
                self._changed.wait()

    def _ready(self, shard: Shard) -> tuple[Shard, int, bool] | None:
        """The next batch of a shard if all is there: number in the shard, and whether the last."""
        number, decided = shard.delivered, shard.is_decided
        if number in shard.places:
            count = shard.decoded[number]
            closed = decided or len(shard.places[number]) == self._size
            if closed and count == len(shard.places[number]):
                return shard, number, decided and number + 1 == len(shard.places)
            return None
        return (shard, number, True) if decided else None


def _there(image: Loaded | None) -> Loaded:
    if image is None:
        raise RuntimeError("a batch was handed out before its images were there")
    return image
