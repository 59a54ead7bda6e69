"""Reading and decoding ahead of the model: threads read, processes decode, batches come in order.

Every thread takes the next image, reads it, and asks whether its features are known already. If
not, the image gets a seat in a batch (see `selectkit.extract.feed`) and is decoded there, or noted
as one that the device is to decode when the batch is asked for.
"""

import threading
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

import numpy as np

from selectkit.artifact import content_hash
from selectkit.extract.decode import UndecodableImageError
from selectkit.extract.decoders import Pixels, decode_in_process
from selectkit.extract.encoded import encoded_jpeg
from selectkit.extract.feed import Batch, Feed, Loaded, Shard
from selectkit.extract.listing import Record
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source
from selectkit.extract.turns import Turns
from selectkit.threads import usable_cores

if TYPE_CHECKING:
    from selectkit.extract.jpeg_device import DeviceDecoder


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
        self, shards: Iterable[tuple[int, range]], memory: Pixels, turns: Turns | None = None
    ) -> Generator[Batch, None, None]:
        """Load all images of shards.

        Args:
            shards: Number and rows of each shard; pulled only as far as images are loaded ahead.
            memory: From `memory`.
            turns: Whose turn it is, where the model computes on the cores that decode.

        Yields:
            The batches of one shard after the other, the last one of each with `whole`. Closing
            the iterator stops the threads.
        """
        turns = turns or Turns()
        feed = Feed(shards, self.batch_size, self.ahead + 2, packed=self.known is not None)
        threads = [
            threading.Thread(target=self._work, args=(feed, memory, turns), name=f"load_{i}")
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

    def _work(self, feed: Feed, memory: Pixels, turns: Turns) -> None:
        import torch

        torch.set_num_threads(1)  # of this thread
        with feed.failing():
            while (task := feed.take()) is not None:
                self._load(feed, *task, memory, turns)

    def _load(self, feed: Feed, shard: Shard, place: int, memory: Pixels, turns: Turns) -> None:
        row = shard.rows[place]
        with turns.reading():
            data, digest = read(self.source, self.records[row])
        if self.known is not None:
            other = None if data is None else self.known.row_of(digest, row)
            if data is None or other is not None:
                status = "failed:unreadable" if data is None else "copy"
                feed.pass_by(shard, place, Loaded(digest, status, copy_of=other))
                return
        with feed.seat(shard, place) as number:
            if number is not None:
                with turns.decoding():
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
