"""The committed figures, by question."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks._scaling_model import Costs

COSTS = {
    "load": ("per image: read, hash, decode, resize, JPEG 500 x 375", "ms", 1e3),
    "feed": ("per image: what the engine adds", "ms", 1e3),
    "serial": ("per image: what a process does one after the other", "ms", 1e3),
    "crowding": ("slower by, when all cores decode", "x", 1.0),
    "shard": ("per shard: claim, files, commits", "ms", 1e3),
    "commit": ("per shard: the writer, fsync included, wall time", "ms", 1e3),
    "setup": ("per process: store, view, listing", "ms", 1e3),
    "decoder": ("per decoder: its start", "ms", 1e3),
    "settle": ("per process: waiting before the first image", "ms", 1e3),
}
"""Question, unit and factor of every field of `Costs`."""

SIZES = {
    (256, 256): "read, hash, decode, resize to 224: JPEG 256 x 256",
    (500, 375): "read, hash, decode, resize to 224: JPEG 500 x 375",
    (1024, 768): "read, hash, decode, resize to 224: JPEG 1024 x 768",
    (2048, 1536): "read, hash, decode, resize to 224: JPEG 2048 x 1536",
}


@dataclass(frozen=True, slots=True)
class Results:
    """Committed figures by question."""

    figures: Mapping[str, Mapping[str, object]]

    @classmethod
    def read(cls, path: Path) -> "Results":
        """Read a file of JSON lines."""
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return cls({line["question"]: line for line in lines})

    def number(self, question: str) -> float:
        """Return one figure."""
        return float(str(self.figures[question]["number"]))

    def costs(self) -> Costs:
        """Return the measured costs."""
        return Costs(**{name: self.number(q) / factor for name, (q, _, factor) in COSTS.items()})

    def growth(self, what: str) -> float:
        """Return the growth per row or shard."""
        return self.number(f"growth: {what}")

    def load(self, width: int, height: int) -> float:
        """Return the seconds to load an image of a size, beside those of 500 x 375."""
        ratio = self.number(SIZES[width, height]) / self.number(SIZES[500, 375])
        return ratio * self.costs().load
