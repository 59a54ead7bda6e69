"""What images and shards cost the host, measured apart from the runs that are to be predicted.

Costs come from single images and from extractions of files of 16 x 16 pixels; the runs that are
compared with the model extract photographs.
"""

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import median

from benchmarks._scaling_model import Costs, Job
from benchmarks._scaling_runs import (
    TINY,
    Measured,
    crowded_seconds,
    load_seconds,
    quiet_run,
    wait_for_quiet,
)


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


@dataclass(slots=True)
class Calibration:
    """Measures `Costs`, none of them in a run that is compared with the model.

    Attributes:
        files: What is read.
        patience: Seconds to wait for a quiet machine, for every run.
        found: All measurements by name.
    """

    files: Files
    patience: float
    found: dict[str, list[float]] = field(default_factory=dict)

    def measure(self) -> None:
        """Measure once more."""
        images = 1024
        plain = Job(images, forward=0.0, batch=256, rows_per_shard=images)
        one = replace(plain, images=1)
        empty = min((self._run(self.files.tiny, one) for _ in range(3)), key=_wall)
        many = self._run(self.files.tiny, replace(one, images=18, workers=9, latency=0.5))
        tiny = self._run(self.files.tiny, plain)
        padded = self._run(self.files.padded, plain)
        small = self._run(self.files.tiny, replace(plain, images=512, rows_per_shard=8, batch=8))
        wait_for_quiet(self.patience)
        load = load_seconds(self.files.photographs, 224)
        each = [(r.processor - empty.processor) / (images - 1) for r in (tiny, padded)]
        shard = max(0.0, (small.processor - empty.processor - 511 * each[0]) / 63)
        decoder = max(0.0, (many.processor - empty.processor) / 8)
        costs = Costs(
            load=load,
            feed=max(0.0, each[1] - load_seconds(self.files.padded, TINY)),
            serial=(tiny.parents - empty.parents) / (images - 1),
            crowding=max(1.0, crowded_seconds(self.files.photographs, 224) / load),
            shard=shard,
            commit=(commit := max(shard, (small.seconds - empty.seconds) / 63)),
            setup=max(0.0, empty.processor - shard - decoder),
            decoder=decoder,
            settle=max(0.0, empty.seconds - empty.processor - (commit - shard)),
        )
        for name, value in asdict(costs).items():
            self.found.setdefault(name, []).append(value)

    def _run(self, folder: Path, job: Job) -> Measured:
        return quiet_run(folder, job, TINY, patience=self.patience)

    def costs(self) -> Costs:
        """Return the medians of all measurements."""
        return Costs(**{name: median(values) for name, values in self.found.items()})


def _wall(run: Measured) -> float:
    return run.seconds
