"""Images to features, shard after shard: load ahead, batch, forward, write behind.

Batches are counted from the start of the shard and a failed image leaves a black gap in its batch,
so features do not depend on interruptions or on other images being broken.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.errors import BackboneError
from selectkit.extract.backbones import Backbone
from selectkit.extract.backbones.protocol import Overlapping, feature_dims, stalled
from selectkit.extract.listing import Record
from selectkit.extract.loading import Batch, Loaded, Pixels, load, load_batches, new_pixels
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Clock, Timings
from selectkit.extract.writer import Writer

Arrays: TypeAlias = dict[str, npt.NDArray[np.float32]]
Finish: TypeAlias = Callable[[int, Sequence[Loaded], Arrays], None]
Tell: TypeAlias = Callable[[Sequence[Loaded]], None]


@dataclass(frozen=True, slots=True)
class Flow:
    """What stays the same during a run.

    Attributes:
        source: Where the bytes are.
        records: One per row of the store.
        backbone: Computes the features.
        preprocessing: Geometry of the pixels.
        batch_size: Images per forward pass.
        workers: Decoding threads.
    """

    source: Source
    records: Sequence[Record]
    backbone: Backbone
    preprocessing: Preprocessing
    batch_size: int
    workers: int

    def compute(
        self,
        shards: Iterable[tuple[int, range]],
        finish: Finish,
        tell: Tell,
        stop: StopRequest,
    ) -> Timings:
        """Compute the features of shards.

        Args:
            shards: Number and rows of each shard; pulled only as far as images are loaded ahead.
            finish: Called once per shard, in order and in a thread of its own, with its number, its
                images (whose pixels are overwritten by then), and its features by name, shape
                (rows, D), NaN where an image failed. The next shard is computed meanwhile. What it
                raises is raised here.
            tell: Called after every batch with its images.
            stop: When it is requested, the run ends after the current batch.

        Returns:
            Where the time went.
        """
        overlap = self.backbone if isinstance(self.backbone, Overlapping) else None
        lag = overlap.lag if overlap else 0
        batches = load_batches(
            self._load,
            shards,
            size=self.preprocessing.size,
            batch_size=self.batch_size,
            workers=self.workers,
            memory=overlap.memory if overlap else new_pixels,
        )
        clock, before = Clock(), stalled(self.backbone) or 0.0
        with closing(batches), Writer(finish) as writer:
            shard = _Shards(self, writer, tell, clock)
            started: deque[tuple[Batch, Callable[[], Mapping[str, npt.NDArray[np.float32]]]]]
            started = deque()
            while not stop.requested:
                with clock.spent_on("decode"):
                    batch = next(batches, None)
                if batch is None:
                    break
                with clock.spent_on("forward"):
                    started.append((batch, self._start(batch)))
                if len(started) > lag:
                    shard.add(*started.popleft())
            while started:
                shard.add(*started.popleft())
            with clock.spent_on("write"):
                writer.drain()
        now = stalled(self.backbone)
        return clock.timings(transfer=None if now is None else now - before)

    def _load(self, row: int, out: Pixels) -> Loaded:
        return load(self.source, self.records[row], self.preprocessing, out)

    def _start(self, batch: Batch) -> Callable[[], Mapping[str, npt.NDArray[np.float32]]]:
        if all(image.pixels is None for image in batch.images):
            return dict
        if isinstance(self.backbone, Overlapping):
            return self.backbone.start(batch.pixels)
        return partial(self.backbone, batch.pixels)


@dataclass(slots=True)
class _Shards:
    """Puts batches together to shards and hands them to the writer."""

    flow: Flow
    writer: Writer[[int, Sequence[Loaded], Arrays]]
    tell: Tell
    clock: Clock
    loaded: list[Loaded] = field(default_factory=list)
    features: Arrays = field(default_factory=dict)

    def add(
        self, batch: Batch, features: Callable[[], Mapping[str, npt.NDArray[np.float32]]]
    ) -> None:
        if batch.start == 0:
            self.loaded = []
            self.features = {
                name: np.full((len(batch.rows), dim), np.nan, dtype=np.float32)
                for name, dim in feature_dims(self.flow.backbone).items()
            }
        with self.clock.spent_on("forward"):
            self._fill(batch, features())
        self.loaded += batch.images
        self.clock.images += len(batch.images)
        self.tell(batch.images)
        with self.clock.spent_on("write"):
            self.writer.check()
            if len(self.loaded) == len(batch.rows):
                self.writer.put(batch.shard, self.loaded, self.features)

    def _fill(self, batch: Batch, features: Mapping[str, npt.NDArray[np.float32]]) -> None:
        if not features:
            return
        good = np.array([image.pixels is not None for image in batch.images])
        part = slice(batch.start, batch.start + len(good))
        names = [self.flow.records[row].id for row in batch.rows[part]]
        require_finite(self.flow.backbone, features, names)
        for name, values in self.features.items():
            values[part][good] = features[name][good]


def require_finite(
    backbone: Backbone, features: Mapping[str, npt.NDArray[np.float32]], names: Sequence[str]
) -> None:
    """Refuse features that are not finite.

    Args:
        backbone: Named in the message.
        features: By name, shape (N, D).
        names: N ids.

    Raises:
        BackboneError: With the first id.
    """
    for feature in feature_dims(backbone):
        wrong = np.flatnonzero(~np.isfinite(features[feature]).all(axis=1))
        if wrong.size:
            raise BackboneError(
                f"{backbone.id} gives {feature!r} features that are not finite for "
                f"{names[wrong[0]]!r}. Compute in float32, and check the weights."
            )
