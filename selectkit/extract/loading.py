"""Reading and decoding ahead of the model: threads read, processes decode, batches come in order.

Every thread takes the next image, reads it, and asks whether its features are known already. If
not, the image gets a seat in a batch and is decoded there. Where features may be copied between
rows they do not depend on the seat, and seats are given as images come; elsewhere an image has the
seat that its row says, and nothing is copied.
"""

import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from selectkit.artifact import content_hash
from selectkit.extract.decode import UndecodableImageError
from selectkit.extract.decoders import Pixels, decode_in_process
from selectkit.extract.encoded import EncodedJpeg, encoded_jpeg
from selectkit.extract.listing import Record
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source
from selectkit.threads import usable_cores

if TYPE_CHECKING:
    from selectkit.extract.jpeg_device import DeviceDecoder


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


class Known(Protocol):
    """Where features of an image are, or will be."""

    def row_of(self, digest: str, row: int) -> int | None:
        """Return another row with this content, or take note that `row` will have it."""
        ...


def read(source: Source, record: Record) -> tuple[bytes | None, str]:
    """Read an image.

    Args:
        source: Where the bytes are.
        record: Which image.

    Returns:
        Bytes and content hash; None and "" when it could not be read.
    """
    try:
        data = source.read(record.path)
    except OSError:
        return None, ""
    return data, content_hash(data)


def default_workers() -> int:
    """Return the number of cores this process may use."""
    return usable_cores()


@dataclass(frozen=True, slots=True)
class Loader:
    """What stays the same while images are loaded.

    Attributes:
        source: Where the bytes are.
        records: One per row of the store.
        preprocessing: Geometry of the pixels.
        batch_size: Images per batch; the last one of a shard may have fewer.
        workers: Images that are decoded at once.
        known: Which features need not be computed; None = compute every image in its own seat.
        device: Decodes plain JPEG files, a batch at a time when it is asked for; None = all are
            decoded here.
    """

    source: Source
    records: Sequence[Record]
    preprocessing: Preprocessing
    batch_size: int
    workers: int
    known: Known | None = None
    device: "DeviceDecoder | None" = None

    @property
    def ahead(self) -> int:
        """Batches in work beyond the one asked for."""
        return 1 + -(-2 * self.workers // self.batch_size)

    def memory(self) -> Pixels:
        """Return memory for all batches that are about at once, with anything in it."""
        size = self.preprocessing.size
        return np.empty(((self.ahead + 2) * self.batch_size, size, size, 3), dtype=np.uint8)

    def batches(
        self, shards: Iterable[tuple[int, range]], memory: Pixels
    ) -> Generator[Batch, None, None]:
        """Load all images of shards.

        Args:
            shards: Number and rows of each shard; pulled only as far as images are loaded ahead.
            memory: From `memory`.

        Yields:
            The batches of one shard after the other, the last one of each with `whole`. Closing
            the iterator stops the threads.
        """
        feed = _Feed(shards, self.batch_size, self.ahead + 2, packed=self.known is not None)
        threads = [
            threading.Thread(target=self._work, args=(feed, memory), name=f"load_{i}")
            for i in range(self.workers)
        ]
        for thread in threads:
            thread.start()
        try:
            yield from feed.batches(memory, self._settle)
        finally:
            feed.stop()
            for thread in threads:
                thread.join()

    def _work(self, feed: "_Feed", memory: Pixels) -> None:
        import torch

        torch.set_num_threads(1)  # of this thread
        with feed.failing():
            while (task := feed.take()) is not None:
                self._load(feed, *task, memory)

    def _load(self, feed: "_Feed", shard: "_Shard", place: int, memory: Pixels) -> None:
        row = shard.rows[place]
        data, digest = read(self.source, self.records[row])
        if self.known is not None:
            other = None if data is None else self.known.row_of(digest, row)
            if data is None or other is not None:
                status = "failed:unreadable" if data is None else "copy"
                feed.pass_by(shard, place, Loaded(digest, status, copy_of=other))
                return
        with feed.seat(shard, place) as number:
            if number is not None:
                shard.loaded[place] = self._prepare(data, digest, memory[number])

    def _prepare(self, data: bytes | None, digest: str, out: Pixels) -> Loaded:
        """Decode an image, unless the device is going to."""
        if self.device is None or data is None or (found := encoded_jpeg(data)) is None:
            return self.decode(data, digest, out)
        return Loaded(digest, "ok", *found.size, encoded=found)

    def _settle(self, images: list[Loaded], pixels: Pixels) -> list[Loaded]:
        """Let the device decode what it is to; what it refuses is decoded here."""
        waiting = {i: image.encoded for i, image in enumerate(images) if image.encoded}
        if not waiting or self.device is None:
            return images
        places = list(waiting)
        refused = self.device.decode(list(waiting.values()), [pixels[i] for i in places])
        for i in places:
            images[i] = replace(images[i], encoded=None)
        for i in (places[k] for k in refused):
            images[i] = self.decode(waiting[i].data, images[i].content_hash, pixels[i])
        return images

    def decode(self, data: bytes | None, digest: str, out: Pixels) -> Loaded:
        """Decode and resize one image; a bad one is a result, not an exception.

        Args:
            data: The file's bytes, None when it could not be read.
            digest: Their content hash.
            out: Where to put the pixels, shape (size, size, 3); black when the image is bad.

        Returns:
            What became of it.
        """

        def use(pixels: Pixels) -> Loaded:
            self.preprocessing.apply(pixels, out)
            height, width = pixels.shape[:2]
            return Loaded(digest, "ok", width, height)

        if data is None:
            out[...] = 0
            return Loaded("", "failed:unreadable")
        try:
            return decode_in_process(data, use)
        except UndecodableImageError as error:
            out[...] = 0
            return Loaded(digest, f"failed:{error.reason}")


@dataclass(slots=True)
class _Shard:
    """A shard on its way: rows are taken, then decided (seated or passed by), then decoded."""

    number: int
    rows: range
    first: int  # number of its first batch, of all batches of the run
    taken: int = 0
    undecided: int = 0
    seats: int = 0
    places: dict[int, dict[int, int]] = field(default_factory=dict)  # by batch and position
    decoded: dict[int, int] = field(default_factory=dict)  # images, of each batch
    loaded: list[Loaded | None] = field(default_factory=list)
    unseated: list[Loaded] = field(default_factory=list)
    delivered: int = 0  # batches

    @property
    def is_decided(self) -> bool:
        return self.taken == len(self.rows) and self.undecided == 0


class _Feed:
    """Hands out rows to threads and seats to images, and collects batches in order."""

    def __init__(
        self, shards: Iterable[tuple[int, range]], batch_size: int, ring: int, *, packed: bool
    ) -> None:
        self._shards = iter(shards)
        self._size, self._ring, self._packed = batch_size, ring, packed
        self._changed = threading.Condition()
        self._current: _Shard | None = None
        self._queue: deque[_Shard] = deque()  # not delivered as a whole, the current one last
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
        """What goes wrong in a thread is raised where batches are asked for."""
        try:
            yield
        except BaseException as error:
            with self._changed:
                self._error = self._error or error
            self.stop()

    def take(self) -> tuple[_Shard, int] | None:
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
        self._current = _Shard(*found, first, loaded=[None] * len(found[1]))
        self._queue.append(self._current)

    def pass_by(self, shard: _Shard, place: int, image: Loaded) -> None:
        """Say that an image needs no seat."""
        with self._changed:
            shard.loaded[place] = image
            shard.unseated.append(image)
            self._decide(shard)

    @contextmanager
    def seat(self, shard: _Shard, place: int) -> Iterator[int | None]:
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

    def _decide(self, shard: _Shard) -> None:
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

    def _next(self) -> tuple[_Shard, int, bool] | None:
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

    def _ready(self, shard: _Shard) -> tuple[_Shard, int, bool] | None:
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
