"""Model and simulation beside measured runs of the engine."""

import os
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks._scaling_costs import Calibration
from benchmarks._scaling_model import Costs, Job, seconds
from benchmarks._scaling_runs import QUIET, TINY, load_seconds, quiet_run
from benchmarks._scaling_simulation import simulate

IMAGES = 1024

CASES = {
    "1 decoder, model 2 ms": Job(IMAGES, 0.002),
    "2 decoders, model 2 ms": Job(IMAGES, 0.002, workers=2),
    "2 decoders, model 160 ms": Job(IMAGES, 0.16, workers=2),
    "1 decoder, model 80 ms": Job(IMAGES, 0.08),
    "2 decoders, batches of 4, model 20 ms": Job(IMAGES, 0.02, batch=4, workers=2),
    "2 decoders, batches of 256, model 2 ms": Job(IMAGES, 0.002, batch=256, workers=2),
    "2 decoders, shards of 32": Job(IMAGES, 0.002, workers=2, rows_per_shard=32),
    "2 decoders, shards of 4, model 1 ms": Job(
        IMAGES // 2, 0.001, batch=4, workers=2, rows_per_shard=4
    ),
    "2 processes, shards of 64": Job(IMAGES, 0.002, processes=2, rows_per_shard=64),
    "4 processes, shards of 64": Job(IMAGES, 0.002, processes=4, rows_per_shard=64),
    "2 processes, model 320 ms": Job(IMAGES, 0.32, processes=2, rows_per_shard=64),
    "4 processes, model 400 ms": Job(IMAGES, 0.4, processes=4, rows_per_shard=32),
    "4 processes, 5 shards": Job(IMAGES - 24, 0.2, processes=4, rows_per_shard=200),
    "reads wait 20 ms, 2 decoders": Job(IMAGES // 4, 0.002, workers=2, latency=0.02),
    "reads wait 20 ms, 8 decoders": Job(IMAGES, 0.002, workers=8, latency=0.02),
    "reads wait 20 ms, 16 decoders": Job(IMAGES, 0.002, workers=16, latency=0.02),
}
TINY_CASE = "images of 16 x 16, 2 decoders, model 2 ms"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run and what was predicted for it.

    Attributes:
        rate: Images/s measured.
        model: Relative error of the model's images/s.
        simulation: Relative error of the simulation's.
        cores: Cores that others left to it.
    """

    rate: float
    model: float
    simulation: float
    cores: float

    @property
    def is_quiet(self) -> bool:
        """Whether it says something: programs that fill every gap leave just what the run used."""
        return self.cores >= QUIET * len(os.sched_getaffinity(0))


def compare(
    folder: Path, job: Job, costs: Costs, size: int = 224, *, patience: float
) -> Comparison:
    """Measure a run and predict it.

    Args:
        folder: The images.
        job: What to do.
        costs: Measured at about the same time.
        size: Pixels of the model's input.
        patience: Seconds to wait for a quiet machine.

    Returns:
        Both.
    """
    measured = quiet_run(folder, job, size, patience=patience)
    job = replace(job, cores=measured.cores)
    costs = costs.in_a_crowd() if measured.cores < 1.7 else costs
    model, (simulated, _, _) = seconds(job, costs), simulate(job, costs)
    wall = measured.seconds
    return Comparison(job.images / wall, wall / model - 1, wall / simulated - 1, measured.cores)


def cases(calibration: Calibration) -> dict[str, tuple[Path, Job, Costs, int]]:
    """Return folder, job, costs and size of all runs, with what was calibrated."""
    files, costs = calibration.files, calibration.costs()
    tiny = replace(costs, load=load_seconds(files.tiny, TINY), crowding=1.0)
    found = {name: (files.photographs, job, costs, 224) for name, job in CASES.items()}
    return {**found, TINY_CASE: (files.tiny, Job(IMAGES, 0.002, workers=2), tiny, TINY)}
