"""What monitors promise: false alarms over all time, run lengths, weighted audits.

A rate is judged by its exact binomial tail: a check fails only if as many misses as seen have
probability below 1e-6 when the promise holds. Each check is also run on a rule known to be wrong.
"""

from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.risk.monitor import RiskMonitor
from selectkit.stats.eprocess import EProcess, Restarts

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
KINDS = get_args(Restarts)
RUNS, TIME = 1000, 5000
NEVER = 10**9


def promise_kept(misses: int, trials: int, delta: float) -> bool:
    """False if so many misses are incredible at the promised rate."""
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


def near(rate: float | np.floating[Any], expected: float, runs: int = RUNS) -> bool:
    """Within 3 standard errors of a figure that was simulated with as many runs."""
    return bool(abs(rate - expected) <= 3 * np.sqrt(2 * expected * (1 - expected) / runs))


def median_is(times: npt.NDArray[np.int64], expected: float) -> bool:
    """Whether the known median lies within 3 standard errors of this one, in ranks."""
    slack = 3 * np.sqrt(2 * 0.25 / len(times))
    low, high = np.quantile(times, [0.5 - slack, 0.5 + slack])
    return bool(low <= expected <= high)


def alarm_times(
    losses: Bools | Floats, restarts: Restarts = "never", at: float = 20, mean: float = 0.02
) -> npt.NDArray[np.int64]:
    """First time the value of each run (a row) reaches `at`, counted from 1; else NEVER."""
    start = EProcess.start(mean, restarts=restarts)
    times = []
    for run in losses:
        hits = np.flatnonzero(start.advance(run)[1] >= np.log(at))
        times.append(int(hits[0]) + 1 if hits.size else NEVER)
    return np.array(times)


def coins(rate: float, seed: int, runs: int = RUNS, time: int = TIME) -> Bools:
    return np.asarray(np.random.default_rng(seed).random((runs, time)) < rate)


@pytest.mark.parametrize(("rate", "expected"), [(0.02, 0.032), (0.015, 0.018)])
def test_known_false_alarms_over_all_time(rate: float, expected: float) -> None:
    alarms = alarm_times(coins(rate, seed=1)) < NEVER
    assert near(alarms.mean(), expected)
    assert promise_kept(int(alarms.sum()), RUNS, 0.05)


def test_spread_openings_keep_the_same_promise() -> None:
    alarms = alarm_times(coins(0.02, seed=2, runs=400), "spread") < NEVER
    assert promise_kept(int(alarms.sum()), 400, 0.05)
    assert alarms.mean() > 0.002  # not an empty one


def test_promise_holds_for_losses_between_that_depend_on_the_past() -> None:
    """The mean given the past is 0.02 in every step, but the spread follows the last loss."""
    rng = np.random.default_rng(3)
    losses = np.zeros((500, 2000))
    for t in range(1, 2000):
        wide = losses[:, t - 1] > 0.1
        losses[:, t] = np.where(wide, rng.beta(0.02, 0.98, 500), rng.beta(1, 49, 500))
    for kind in KINDS[:2]:
        assert promise_kept(int((alarm_times(losses, kind) < NEVER).sum()), 500, 0.05)


def test_testing_again_and_again_breaks_its_promise() -> None:
    """The broken twin: a binomial test for one look, repeated every 50 losses."""
    errors = np.cumsum(coins(0.02, seed=4), axis=1)[:, 49::50]
    looks = np.arange(50, TIME + 1, 50)
    false = np.asarray(scipy_stats.binom.sf(errors - 1, looks, 0.02) <= 0.05).any(axis=1)
    assert near(false.mean(), 0.23)
    assert not promise_kept(int(false.sum()), RUNS, 0.05)


@pytest.mark.parametrize("kind", ["never", "spread"])
@pytest.mark.parametrize(("rate", "expected"), [(0.04, 515), (0.06, 113)])
def test_known_delays(rate: float, expected: float, kind: Restarts) -> None:
    times = alarm_times(coins(rate, seed=5, runs=RUNS if kind == "never" else 200), kind)
    assert (times < NEVER).all()
    assert median_is(times, expected)


def test_doubled_small_rate_is_found() -> None:
    """Bets scaled to 2 % (the broken twin) never win at a promise of 0.1 %."""
    losses = coins(0.002, seed=6, runs=40, time=60_000)
    assert (alarm_times(losses, mean=0.001) < NEVER).mean() > 0.9
    assert (alarm_times(coins(0.001, seed=7, runs=300), mean=0.001) < NEVER).mean() < 0.05
    start = EProcess.start(0.001, bets=np.linspace(0.01, 0.25, 10) / 0.001)
    assert sum(start.update(run).log_peak >= np.log(20) for run in losses) < 20


@pytest.fixture(scope="module")
def run_lengths() -> dict[str, npt.NDArray[np.int64]]:
    """Until the detectors, set to 100, raise a false alarm at a risk equal to the promise."""
    losses = coins(0.02, seed=8, runs=400, time=3000)
    return {
        "sum": alarm_times(losses, "sum", at=100),
        "max": alarm_times(losses, "max", at=100),
    }


@pytest.mark.parametrize("kind", ["sum", "max"])
def test_run_length_of_detectors_is_at_least_their_setting(
    kind: str, run_lengths: dict[str, npt.NDArray[np.int64]]
) -> None:
    times = run_lengths[kind]
    seen = np.minimum(times, 3000)
    assert seen.mean() + 5 * seen.std() / 20 >= 100
    for t in (5, 20, 50):
        assert promise_kept(int((times <= t).sum()), 400, t / 100)
    assert (run_lengths["max"] >= run_lengths["sum"]).all()


def test_detectors_alarm_some_day(run_lengths: dict[str, npt.NDArray[np.int64]]) -> None:
    """The broken twin: 100 taken for the capital of a false alarm at 1 % over all time."""
    assert not promise_kept(int((run_lengths["sum"] < NEVER).sum()), 400, 0.01)
    assert (run_lengths["sum"] < NEVER).mean() > 0.9


def test_late_changes_are_found_sooner_by_those_that_open_bets_later() -> None:
    """Risk 0.015 rises to 0.05: known median 1,879 for one opening when it happens at 1,000."""
    u = np.random.default_rng(19).random((200, 4000))
    early = np.where(np.arange(4000) < 1000, u < 0.015, u < 0.05)
    never = alarm_times(early)
    assert median_is(never, 1879)
    spread = np.median(alarm_times(early, "spread"))
    cusum = np.median(alarm_times(early, "max", at=10_000))
    total = np.median(alarm_times(early, "sum", at=10_000))
    assert 1000 < total < cusum < spread < np.median(never)

    u = np.random.default_rng(20).random((20, 20_000))
    late = np.where(np.arange(20_000) < 10_000, u < 0.015, u < 0.05)
    assert np.median(alarm_times(late)) > 14_000
    assert np.median(alarm_times(late, "spread")) < 12_000
    assert np.median(alarm_times(late, "sum", at=10_000)) < 11_000


def audits(risk: float, runs: int, items: int, seed: int) -> list[tuple[Bools, Floats]]:
    """Hard items err ten times as often and are audited five times as often as easy ones."""
    rng, found = np.random.default_rng(seed), []
    for _ in range(runs):
        hard = rng.random(items) < 0.2
        q = np.where(hard, 0.5, 0.1)
        wrong = rng.random(items) < np.where(hard, 10, 1) * risk / 2.8
        chosen = rng.random(items) < q
        found.append((wrong[chosen], q[chosen]))
    return found


def test_weighted_audits_keep_the_promise_and_unweighted_ones_do_not() -> None:
    start = RiskMonitor.start(0.02, least_probability=0.1)
    naive = RiskMonitor.start(0.02)
    sample = audits(0.02, runs=500, items=8000, seed=9)
    alarms = sum(start.update(wrong, q).alarm for wrong, q in sample)
    assert promise_kept(alarms, 500, 0.05)
    assert not promise_kept(sum(naive.update(wrong).alarm for wrong, _ in sample), 500, 0.05)


def test_weighted_audits_find_a_broken_promise() -> None:
    start = RiskMonitor.start(0.02, least_probability=0.1)
    sample = audits(0.05, runs=100, items=16_000, seed=10)
    assert all(start.update(wrong, q).alarm for wrong, q in sample)


def test_weighted_audits_estimate_the_risk_without_bias_and_cover_it() -> None:
    start = RiskMonitor.start(0.02, least_probability=0.1)
    states = [start.update(*audit) for audit in audits(0.02, runs=400, items=6000, seed=11)]
    found = np.array([state.weighted_losses / 0.1 / 6000 for state in states])
    ratios = np.array([state.estimate for state in states])
    plain = np.array([w.mean() for w, _ in audits(0.02, runs=400, items=6000, seed=11)])
    error = found.std() / 20
    assert abs(found.mean() - 0.02) < 5 * error
    assert abs(ratios.mean() - 0.02) < 5 * error + 2e-4
    assert abs(plain.mean() - 0.02) > 20 * error
    misses = sum(not low <= 0.02 <= high for low, high in (s.interval(0.1) for s in states))
    assert promise_kept(misses, 400, 0.1)


def test_labels_in_an_order_that_depends_on_them_break_the_promise() -> None:
    """Delays at random keep it; errors reported first within each 250 decisions do not."""
    losses = coins(0.02, seed=12, runs=300, time=3000)
    rng = np.random.default_rng(13)
    late = np.argsort(np.arange(3000) + rng.exponential(200, losses.shape), axis=1)
    delayed = np.take_along_axis(losses, late, axis=1)
    hurried = -np.sort(-losses.reshape(300, -1, 250).astype(float), axis=2).reshape(300, -1)
    assert promise_kept(int((alarm_times(delayed) < NEVER).sum()), 300, 0.05)
    assert not promise_kept(int((alarm_times(hurried) < NEVER).sum()), 300, 0.05)
