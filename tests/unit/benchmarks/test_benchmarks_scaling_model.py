import math
from dataclasses import replace

import numpy as np
import pytest

from benchmarks._scaling_growth import Growth
from benchmarks._scaling_model import (
    Costs,
    Job,
    cores_per_device,
    interrupted,
    limits,
    seconds,
    slowest,
)
from benchmarks._scaling_plan import BACKBONES, Extraction, Machine, Prices, plan

FREE = Costs(0.01, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0)
BUSY = Costs(0.0025, 1e-4, 2e-4, 1.2, 5e-3, 2e-2, 0.2, 0.05, 0.1)


def test_every_stage_alone() -> None:
    job = Job(1000, 0.1, batch=10, workers=3, cores=2, latency=0.02, read=70, transfer=500)
    rates = limits(job, replace(FREE, serial=0.001, commit=0.5))
    assert rates == pytest.approx({
        "read": 70,  # what the storage delivers
        "requests": 100,  # 3 decoders, 30 ms each
        "decode": 200,  # 2 cores, 10 ms each
        "process": 1000,
        "transfer": 500,
        "forward": 100,
        "write": 2000,  # one shard of 1,000 rows in half a second
    })
    assert slowest(rates) == "read"


def test_two_stages_take_the_time_of_a_flow_shop() -> None:
    job = Job(100, 0.2, batch=10, workers=1)
    # ten batches: 0.1 s to load each, 0.2 s in the model, which is also tried once before
    assert seconds(job, FREE) == pytest.approx(0.2 + 0.1 + 10 * 0.2)
    assert seconds(replace(job, forward=0.05), FREE) == pytest.approx(0.05 + 10 * 0.1 + 0.05)


def test_shards_that_do_not_divide_among_processes_cost_a_round() -> None:
    job = Job(100, 1.0, batch=10, workers=4, cores=100, processes=4, rows_per_shard=20)
    even = replace(job, images=80)
    assert seconds(job, FREE) - seconds(even, FREE) == pytest.approx(2.0)  # two batches of 1 s
    small = replace(job, images=82)  # the rest of a shard has only a batch of its own
    assert seconds(small, FREE) - seconds(even, FREE) == pytest.approx(0.2, abs=1e-3)


def test_the_model_waits_for_its_process_unless_it_is_a_device() -> None:
    job = Job(1000, 0.1, batch=10, cores=100, workers=100)
    fed = replace(FREE, feed=0.01)
    assert limits(job, fed)["forward"] == pytest.approx(50)
    assert limits(replace(job, overlap=True), fed)["forward"] == pytest.approx(100)


@pytest.mark.parametrize(
    ("field", "better"),
    [
        ("forward", 0.5),
        ("latency", 0.5),
        ("cores", 2),
        ("workers", 2),
        ("read", 2),
        ("transfer", 2),
    ],
)
def test_more_is_never_slower(field: str, better: float) -> None:
    rng, costs = np.random.default_rng(0), replace(BUSY, decoder=0.0)
    for _ in range(300):
        job = Job(
            images=int(rng.integers(1, 10_000)),
            forward=float(rng.exponential(0.1)),
            batch=int(rng.integers(1, 300)),
            workers=int(rng.integers(2, 32)),
            processes=int(rng.integers(1, 5)),
            cores=float(rng.uniform(1.1, 32)),
            rows_per_shard=int(rng.integers(1, 5000)),
            latency=float(rng.exponential(0.01)),
            read=float(rng.uniform(10, 1e5)),
            transfer=float(rng.uniform(10, 1e5)),
        )
        improved = replace(job, **{field: type(getattr(job, field))(better * getattr(job, field))})
        assert seconds(improved, costs) <= seconds(job, costs) * (1 + 1e-9)


def test_the_time_is_never_below_that_of_the_slowest_stage() -> None:
    rng = np.random.default_rng(1)
    for _ in range(300):
        job = Job(int(rng.integers(1, 10_000)), float(rng.exponential(0.1)), cores=2, workers=4)
        assert job.images / seconds(job, BUSY) <= min(limits(job, BUSY).values()) * (1 + 1e-9)


def test_cores_that_keep_a_device_busy() -> None:
    job = Job(4096, 0.1, batch=100, overlap=True)  # 41 batches a shard: 4096 / 41 in 0.1 s
    assert cores_per_device(job, FREE) == pytest.approx(4096 / 41 / 0.1 * 0.01)


def test_interruptions_lose_one_and_a_half_shards_and_a_start() -> None:
    assert interrupted(shard=20, restart=60, between=3600) == pytest.approx(1 + 90 / 3600)


def test_the_order_of_growth_does_not_depend_on_the_start() -> None:
    sizes = [100, 400, 1600]
    linear = Growth.of(sizes, [5 + 0.01 * n for n in sizes])
    assert linear.order == pytest.approx(1)
    assert linear.each == pytest.approx(0.01)
    assert Growth.of(sizes, [7 + n * n for n in sizes]).order == pytest.approx(2)
    assert math.isnan(Growth.of(sizes, [1.0, 1.0, 1.0]).order)


def test_a_plan_adds_up() -> None:
    machine = Machine(cores=10_000)
    work = Extraction(10**7)
    large, costs = BACKBONES[2], replace(BUSY, serial=1e-4)
    p = plan(work, large, costs, machine=machine, devices=4, prices=Prices(1.0, 0, 0, 0))
    assert p.limit == "forward"
    assert p.rates["forward"] == pytest.approx(790e12 * 0.66 / 125.7e9)
    assert p.utilisation("forward") == 1
    assert all(0 < p.utilisation(stage) <= 1 for stage in p.rates)
    assert p.device_hours == pytest.approx(4 * p.hours)
    assert p.price == pytest.approx(p.device_hours)
    assert p.core_hours == pytest.approx(1e7 * 1.2 * (0.0026 + 0.005 / 4096) / 3600)
    assert (work.shards, work.files) == (2442, 5 * 2442)
    assert (p.writes, p.reads) == (2442 * 11, 10**7 + 2442 * 5)
    assert p.store_bytes == pytest.approx(2442 * 4096 * 4 * 1024 + 1e7 * work.row_bytes)


def test_twice_the_devices_take_half_the_time_once_they_have_started() -> None:
    costs = replace(BUSY, commit=0.0, setup=0.0, settle=0.0)
    work, machine = Extraction(4096 * 2000, list_row=0.0), Machine(start=0.0)
    one, two = (plan(work, BACKBONES[0], costs, machine=machine, devices=n) for n in (1, 2))
    assert one.hours / two.hours == pytest.approx(2, rel=1e-3)


@pytest.mark.parametrize(("devices", "listed"), [(1, 25), (2, 20), (16, 10), (100, 10)])
def test_a_process_lists_every_store_it_works_on(devices: int, listed: int) -> None:
    assert Extraction(25, rows_per_store=10).listed(devices) == listed


def test_requests_that_wait_slow_writing() -> None:
    work, machine = Extraction(10**6), Machine(latency=0.1)
    p = plan(work, BACKBONES[0], replace(BUSY, commit=0.4), machine=machine)
    assert p.rates["write"] == pytest.approx(4096 / (0.4 + 16 * 0.1))
