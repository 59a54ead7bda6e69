"""What images and shards cost the host, measured apart from the runs that are to be predicted.

Costs come from single images and from extractions of files of 16 x 16 pixels; the runs that are
compared with the model extract photographs.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from benchmarks._scaling_model import Costs, Job
from benchmarks._scaling_runs import TINY, Measured, Task, crowded_seconds, load_seconds

_MANY, _SMALL, _DECODERS = 1024, 512, 9


@dataclass(frozen=True, slots=True)
class Files:
    """What small runs read.

    Attributes:
        photographs: 500 x 375, about 100 kB.
        tiny: 16 x 16, a few hundred bytes.
        padded: 16 x 16, but as many bytes as the photographs.
    """

    photographs: Path
    tiny: Path
    padded: Path

    def tasks(self) -> dict[str, Task]:
        """Return the runs that `costs` needs, by name."""
        many = Job(_MANY, forward=0.0, batch=256, rows_per_shard=_MANY)
        one = replace(many, images=1)
        small = replace(many, images=_SMALL, rows_per_shard=8, batch=8)
        waiting = replace(one, images=2 * _DECODERS, workers=_DECODERS, latency=0.5)
        return {
            "one": (self.tiny, one, TINY),
            "many": (self.tiny, many, TINY),
            "padded": (self.padded, many, TINY),
            "shards": (self.tiny, small, TINY),
            "decoders": (self.tiny, waiting, TINY),
        }


@dataclass(frozen=True, slots=True)
class Loads:
    """Processor seconds to load one image.

    Attributes:
        photograph: Of `Files.photographs`.
        crowded: The same while every core does it.
        tiny: Of `Files.tiny`.
        padded: Of `Files.padded`.
    """

    photograph: float
    crowded: float
    tiny: float
    padded: float

    @classmethod
    def measure(cls, files: Files) -> "Loads":
        """Measure them; the machine should be quiet."""
        return cls(
            load_seconds(files.photographs, 224),
            crowded_seconds(files.photographs, 224),
            load_seconds(files.tiny, TINY),
            load_seconds(files.padded, TINY),
        )


def costs(runs: Mapping[str, Sequence[Measured]], loads: Sequence[Loads]) -> Costs:
    """Return what images and shards cost.

    Args:
        runs: Of the tasks of `Files.tasks`; medians count.
        loads: Medians count.

    Returns:
        The costs.
    """

    def processor(name: str) -> float:
        return median([measured.processor for measured in runs[name]])

    def seconds(name: str) -> float:
        return median([measured.seconds for measured in runs[name]])

    load, crowded, padded = (
        median([getattr(found, name) for found in loads])
        for name in ("photograph", "crowded", "padded")
    )
    one, shards = processor("one"), _SMALL // 8 - 1
    image = (processor("many") - one) / (_MANY - 1)
    shard = max(0.0, (processor("shards") - one - (_SMALL - 1) * image) / shards)
    commit = max(shard, (seconds("shards") - seconds("one")) / shards)
    decoder = max(0.0, (processor("decoders") - one) / (_DECODERS - 1))
    parents = (median([measured.parents for measured in runs[name]]) for name in ("many", "one"))
    many_parents, one_parents = parents
    return Costs(
        load=load,
        feed=max(0.0, (processor("padded") - one) / (_MANY - 1) - padded),
        serial=(many_parents - one_parents) / (_MANY - 1),
        crowding=max(1.0, crowded / load),
        shard=shard,
        commit=commit,
        setup=max(0.0, one - shard - decoder),
        decoder=decoder,
        settle=max(0.0, seconds("one") - one - (commit - shard)),
    )
