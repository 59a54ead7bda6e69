"""Images to features, shard after shard: load ahead, batch, forward, write behind.

A failed image leaves a black gap in its batch, and an image whose features are known goes through
no batch at all; whoever writes a shard fetches them.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.errors import BackboneError
from selectkit.extract.backbones import Backbone
from selectkit.extract.backbones.protocol import OnCores, Overlapping, feature_dims, stalled
from selectkit.extract.feed import Batch, Loaded
from selectkit.extract.loading import Loader
from selectkit.extract.stop import StopRequest
from selectkit.extract.timings import Clock, Timings
from selectkit.extract.turns import Turns
from selectkit.extract.writer import Writer

Arrays: TypeAlias = dict[str, npt.NDArray[np.float32]]
Finish: TypeAlias = Callable[[int, Sequence[Loaded], Arrays], None]
Tell: TypeAlias = Callable[[Sequence[Loaded]], None]


@dataclass(frozen=True, slots=True)
class Flow:
    """What stays the same during a run.

    Attributes:
        loader: Loads the images.
        backbone: Computes the features.
    """

    loader: Loader
    backbone: Backbone

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
            finish: Called once per shard, in order and in a thread of its own, with its number,
                what became of its images, and its features by name, shape (rows, D), NaN where an
                image failed or is a copy. The next shard is computed meanwhile. What it raises is
                raised here.
            tell: Called after every batch with its images.
            stop: When it is requested, the run ends after the current batch.

        Returns:
            Where the time went.
        """
        overlap = self.backbone if isinstance(self.backbone, Overlapping) else None
        lag = overlap.lag if overlap else 0
        memory, turns = self.loader.memory(), Turns()
        clock, before = Clock(), stalled(self.backbone) or 0.0
        with (
            overlap.pinned(memory, self.loader.batch_size) if overlap else nullcontext(),
            closing(self.loader.batches(shards, memory, turns)) as batches,
            Writer(finish) as writer,
        ):
            shard = _Shards(self, writer, tell, clock)
            started: deque[tuple[Batch, Callable[[], Mapping[str, npt.NDArray[np.float32]]]]]
            started = deque()
            while not stop.requested:
                with clock.spent_on("decode"):
                    batch = next(batches, None)
                if batch is None:
                    break
                with clock.spent_on("forward"):
                    started.append((batch, self._start(batch, turns)))
                if len(started) > lag:
                    shard.add(*started.popleft())
            while started:
                shard.add(*started.popleft())
            with clock.spent_on("write"):
                writer.drain()
        now = stalled(self.backbone)
        return clock.timings(transfer=None if now is None else now - before)

    def _start(
        self, batch: Batch, turns: Turns
    ) -> Callable[[], Mapping[str, npt.NDArray[np.float32]]]:
        if all(image.status != "ok" for image in batch.images[: len(batch.places)]):
            return dict
        if isinstance(self.backbone, OnCores) and self.backbone.takes_all_cores:
            return partial(self._in_turn, batch, turns)
        if isinstance(self.backbone, Overlapping):
            return self.backbone.start(batch.pixels)
        return partial(self.backbone, batch.pixels)

    def _in_turn(self, batch: Batch, turns: Turns) -> Mapping[str, npt.NDArray[np.float32]]:
        with turns.forward():
            return self.backbone(batch.pixels)


@dataclass(slots=True)
class _Shards:
    """Puts batches together to shards and hands them to the writer."""

    flow: Flow
    writer: Writer[[int, Sequence[Loaded], Arrays]]
    tell: Tell
    clock: Clock
    shard: int | None = None
    features: Arrays = field(default_factory=dict)

    def add(
        self, batch: Batch, features: Callable[[], Mapping[str, npt.NDArray[np.float32]]]
    ) -> None:
        if batch.shard != self.shard:
            self.shard = batch.shard
            self.features = {
                name: np.full((len(batch.rows), dim), np.nan, dtype=np.float32)
                for name, dim in feature_dims(self.flow.backbone).items()
            }
        with self.clock.spent_on("forward"):
            self._fill(batch, features())
        self.clock.images += len(batch.images)
        self.clock.computed += len(batch.places)
        self.tell(batch.images)
        with self.clock.spent_on("write"):
            self.writer.check()
            if batch.whole is not None:
                self.writer.put(batch.shard, batch.whole, self.features)
                self.shard = None

    def _fill(self, batch: Batch, features: Mapping[str, npt.NDArray[np.float32]]) -> None:
        if not features:
            return
        seated = batch.images[: len(batch.places)]
        good = np.array([image.status == "ok" for image in seated])
        places = np.array(batch.places)
        records = self.flow.loader.records
        names = [records[batch.rows[place]].id for place in batch.places]
        require_finite(self.flow.backbone, features, names)
        for name, values in self.features.items():
            values[places[good]] = features[name][good]


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
