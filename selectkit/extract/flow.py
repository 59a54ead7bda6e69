"""Images to features, shard after shard: load ahead, batch, forward.

Batches are counted from the start of the shard and a failed image leaves a black gap in its batch,
so features do not depend on interruptions or on other images being broken.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from selectkit.errors import BackboneError
from selectkit.extract.backbones import Backbone
from selectkit.extract.listing import Record
from selectkit.extract.loading import Loaded, load_ahead
from selectkit.extract.preprocess import Preprocessing
from selectkit.extract.sources import Source
from selectkit.extract.stop import StopRequest

FEATURES = ("cls", "patch_mean")

Arrays: TypeAlias = dict[str, npt.NDArray[np.float32]]


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
        finish: Callable[[int, Sequence[Loaded], Arrays], None],
        tell: Callable[[Sequence[Loaded]], None],
        stop: StopRequest,
    ) -> None:
        """Compute the features of shards.

        Args:
            shards: Number and rows of each shard; pulled only as far as images are loaded ahead.
            finish: Called once per shard, in order, with its number, its images,
                and its features by name, shape (rows, D), NaN where an image failed.
            tell: Called after every batch with its images.
            stop: When it is requested, the run ends after the current batch.
        """
        begun: deque[tuple[int, range]] = deque()

        def wanted() -> Iterator[Record]:
            for shard, rows in shards:
                begun.append((shard, rows))
                for row in rows:
                    yield self.records[row]

        window = 2 * self.batch_size + 2 * self.workers
        images = load_ahead(
            self.source, wanted(), self.preprocessing, workers=self.workers, window=window
        )
        with closing(images):
            loaded: list[Loaded] = []
            for image in images:
                if not loaded:
                    shard, rows = begun.popleft()
                    shape = (len(rows), self.backbone.dim)
                    features = {n: np.full(shape, np.nan, dtype=np.float32) for n in FEATURES}
                loaded.append(image)
                whole = len(loaded) == len(rows)
                if len(loaded) % self.batch_size and not whole:
                    continue
                start = (len(loaded) - 1) // self.batch_size * self.batch_size
                for name, values in self._forward(loaded[start:], rows[start]).items():
                    features[name][start : len(loaded)] = values
                tell(loaded[start:])
                if whole:
                    finish(shard, loaded, features)
                    loaded = []
                if stop.requested:
                    return

    def _forward(self, batch: Sequence[Loaded], first: int) -> Arrays:
        good = np.array([image.pixels is not None for image in batch])
        if not good.any():
            return {}
        size = self.preprocessing.size
        pixels = np.zeros((len(batch), size, size, 3), dtype=np.uint8)
        for slot, image in zip(pixels, batch, strict=True):
            if image.pixels is not None:
                slot[:] = image.pixels
        features = self.backbone(pixels)
        names = [self.records[first + i].id for i in range(len(batch))]
        require_finite(self.backbone, features, names)
        return {name: np.where(good[:, None], features[name], np.nan) for name in FEATURES}


def require_finite(backbone: Backbone, features: Arrays, names: Sequence[str]) -> None:
    """Refuse features that are not finite.

    Args:
        backbone: Named in the message.
        features: By name, shape (N, D).
        names: N ids.

    Raises:
        BackboneError: With the first id.
    """
    for feature in FEATURES:
        wrong = np.flatnonzero(~np.isfinite(features[feature]).all(axis=1))
        if wrong.size:
            raise BackboneError(
                f"{backbone.id} gives {feature!r} features that are not finite for "
                f"{names[wrong[0]]!r}. Compute in float32, and check the weights."
            )
