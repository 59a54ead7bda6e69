"""Model and simulation beside measured runs of the engine."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks._scaling_costs import Files
from benchmarks._scaling_model import Costs, Job, processor_seconds, seconds
from benchmarks._scaling_runs import TINY, Measured, Task
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


def tasks(files: Files) -> dict[str, Task]:
    """Return all runs that are compared, by name."""
    found: dict[str, Task] = {name: (files.photographs, job, 224) for name, job in CASES.items()}
    return {**found, TINY_CASE: (files.tiny, Job(IMAGES, 0.002, workers=2), TINY)}


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run and what was predicted for it.

    Attributes:
        rate: Images/s measured.
        model: Relative error of the model's images/s.
        simulation: Relative error of the simulation's.
        processor: Relative error of the model's processor time, which others hardly change.
        cores: Cores that others left to it.
    """

    rate: float
    model: float
    simulation: float
    processor: float
    cores: float

    @classmethod
    def of(cls, measured: Measured, job: Job, costs: Costs) -> "Comparison":
        """Predict a run.

        Args:
            measured: What it took.
            job: What was done.
            costs: What an image and a shard cost the host.

        Returns:
            Both.
        """
        job = replace(job, cores=measured.cores)
        model, (simulated, _, _) = seconds(job, costs), simulate(job, costs)
        wall, spent = measured.seconds, processor_seconds(job, costs) / measured.processor - 1
        return cls(job.images / wall, wall / model - 1, wall / simulated - 1, spent, measured.cores)


def compare(
    runs: Mapping[str, Sequence[Measured]], tasks: Mapping[str, Task], costs: Costs, tiny: float
) -> dict[str, list[Comparison]]:
    """Compare all runs with what is predicted for them.

    Args:
        runs: By name of the task.
        tasks: What was run.
        costs: For photographs.
        tiny: Processor seconds to load an image of 16 x 16.

    Returns:
        By name of the task; quiet ones only, where there are any.
    """
    small = replace(costs, load=tiny, crowding=1.0)
    found = {}
    for name, (_, job, size) in tasks.items():
        quiet = [measured for measured in runs[name] if measured.is_quiet]
        fitting = small if size == TINY else costs
        found[name] = [Comparison.of(m, job, fitting) for m in quiet or runs[name]]
    return found
