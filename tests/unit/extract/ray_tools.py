"""What workers of the tests build; they import it from here."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from selectkit.extract import Extraction, open_source
from selectkit.extract.setup import Settings
from tests.unit.extract.extract_tools import Pixels, StubBackbone


@dataclass(frozen=True)
class SlowBackbone(StubBackbone):
    """The same features, `delay` seconds a batch; a batch with `poison` in it does `harm`."""

    delay: float = 0.0
    poison: int | None = None
    harm: str = ""

    def __call__(self, pixels: Pixels) -> dict[str, npt.NDArray[np.float32]]:
        time.sleep(self.delay)
        features = super().__call__(pixels)
        if self.poison is not None and (pixels == self.poison).all(axis=(1, 2, 3)).any():
            if self.harm == "raise":
                raise ValueError("a defect of this backbone")
            features = {name: x + np.inf for name, x in features.items()}
        return features


def build(
    source: str,
    store: str | Path,
    log: Path,
    backbone: StubBackbone,
    rows_per_shard: int,
    rescan: bool,
) -> Extraction:
    """A worker's part; says in `log` that it is there, and how nice it is to other processes."""
    (log / str(os.getpid())).write_text(str(os.nice(0)))
    settings = Settings(rows_per_shard=rows_per_shard, batch_size=32, rescan=rescan)
    return Extraction(open_source(source), store, backbone, settings)


def part(
    source: str | Path,
    store: Path,
    *,
    backbone: StubBackbone | None = None,
    rows_per_shard: int = 32,
    rescan: bool = False,
) -> Callable[[], Extraction]:
    """What `extract_on_ray` is given; workers note their process numbers in `store`.log."""
    log = store.with_suffix(".log")
    log.mkdir(parents=True, exist_ok=True)
    slow = backbone or SlowBackbone(delay=0.2)
    return partial(build, str(source), store, log, slow, rows_per_shard, rescan)


def processes(store: Path) -> set[int]:
    """The numbers of all processes that ever worked on a store."""
    return {int(file.name) for file in store.with_suffix(".log").iterdir()}


def nicenesses(store: Path) -> set[int]:
    """How nice the processes were that ever worked on a store."""
    return {int(file.read_text()) for file in store.with_suffix(".log").iterdir()}
