from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks._scaling_model import Costs, Job, processor_seconds, seconds
from benchmarks._scaling_runs import run, tiny_files
from benchmarks._scaling_simulation import Machine, Sleep, Task, Turn, Work, simulate

FREE = Costs(0.01, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
BUSY = Costs(0.0025, 1e-4, 2e-4, 1.2, 5e-3, 2e-2, 0.2, 0.05, 0.1)


def _worker(seconds: float) -> Task:
    yield Work(seconds)


@pytest.mark.parametrize(
    ("cores", "works", "expected"),
    [
        (2, [1, 1], 1),
        (1, [1, 1], 2),
        (1, [1, 3], 4),
        (2, [1, 1, 1], 1.5),
        (2, [3, 1, 1], 3.5),  # two thirds of a core each, then one core for what is left
        (0.5, [1], 2),
    ],
)
def test_cores_are_shared_evenly(cores: float, works: list[float], expected: float) -> None:
    machine = Machine(cores)
    for work in works:
        machine.start(_worker(work))
    assert machine.run() == pytest.approx(expected)
    assert machine.worked == sum(works)


def test_crowding_slows_all_but_one() -> None:
    machine = Machine(4, crowding=1.5)
    machine.start(_worker(1))
    machine.start(_worker(3))
    assert machine.run() == pytest.approx(1.5 + 2)


def test_sleeping_takes_no_core() -> None:
    def sleeper() -> Task:
        yield Sleep(2)
        yield Work(1)

    machine = Machine(1)
    for _ in range(3):
        machine.start(sleeper())
    assert machine.run() == pytest.approx(2 + 3)


def test_one_at_a_time_in_spite_of_many_cores() -> None:
    machine = Machine(8)
    turn = Turn(machine)
    for _ in range(5):
        machine.start(turn.work(1))
    assert machine.run() == pytest.approx(5)


@pytest.mark.parametrize("images", [1, 31, 100, 257])
@pytest.mark.parametrize("processes", [1, 3])
def test_nothing_is_lost_and_nothing_is_done_twice(images: int, processes: int) -> None:
    job = Job(images, 0.01, workers=2, processes=processes, cores=2, rows_per_shard=40)
    _, store, machine = simulate(job, BUSY)
    assert (store.rows, store.committed) == (images, job.shards)
    per_image = BUSY.load + BUSY.feed
    expected = (
        processes * (BUSY.setup + 2 * BUSY.decoder) + images * per_image + job.shards * BUSY.shard
    )
    assert machine.worked == pytest.approx(expected)
    assert processor_seconds(job, replace(BUSY, crowding=1.0)) == pytest.approx(expected)


@pytest.mark.parametrize(
    "job",
    [
        Job(1000, 0.001, workers=1),
        Job(1000, 0.001, workers=4, cores=2),
        Job(1000, 1.0, workers=4, cores=4),
        Job(1000, 0.2, workers=8, latency=0.1, cores=8),
        Job(1600, 1.0, workers=4, cores=16, processes=4, rows_per_shard=100),
    ],
    ids=["one decoder", "cores", "model", "latency", "processes"],
)
def test_model_and_simulation_agree_where_one_stage_is_slowest(job: Job) -> None:
    simulated, _, _ = simulate(job, FREE)
    assert seconds(job, FREE) == pytest.approx(simulated, rel=0.02)


def test_model_and_simulation_agree_on_the_whole() -> None:
    rng = np.random.default_rng(2)
    ratios = []
    for _ in range(20):
        job = Job(
            images=int(rng.integers(300, 1200)),
            forward=float(rng.exponential(0.05)),
            batch=int(rng.integers(4, 64)),
            workers=int(rng.integers(1, 9)),
            processes=int(rng.integers(1, 5)),
            cores=float(rng.integers(1, 9)),
            rows_per_shard=int(rng.integers(64, 500)),
            latency=float(rng.choice([0.0, 0.02])),
        )
        ratios.append(simulate(job, BUSY)[0] / seconds(job, BUSY))
    errors = abs(np.log(ratios))
    assert np.median(errors) < 0.1
    assert np.mean(errors < 0.15) > 0.8
    assert errors.max() < 0.35  # two stages of about the same speed that wait for each other


def test_a_slow_disk_stops_small_shards() -> None:
    job = Job(400, 0.001, batch=4, workers=4, cores=4, rows_per_shard=4)
    slow = replace(FREE, commit=0.3)
    assert simulate(job, slow)[0] == pytest.approx(100 * 0.3, rel=0.05)


def test_a_real_run_is_whole_and_measured(tmp_path: Path) -> None:
    folder = tiny_files(tmp_path / "images", 20)
    job = Job(18, 0.001, batch=4, processes=2, rows_per_shard=4, latency=0.001)
    measured = run(folder, job, 16)  # raises unless 18 rows were committed
    assert measured.seconds > 0.02  # 18 reads of a millisecond
    assert measured.processor >= measured.parents > 0
