"""Certified thresholds keep their promise over draws of the calibration split.

A rate is judged by its exact binomial tail: a check fails only if as many misses as seen have
probability below 1e-6 when the promise holds. Each check is also run on a rule known to be wrong.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.risk import Certificate, certify_threshold

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
GRID = np.linspace(0.001, 0.2, 200)  # thresholds at which the true miss rate is the threshold
RUNS = 4000


def promise_kept(misses: int, trials: int, delta: float) -> bool:
    """False if so many misses are incredible at the promised rate."""
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


def fixed_sequence(scores: Floats) -> float:
    found = certify_threshold(
        -scores,
        np.ones(len(scores)),
        alpha=0.02,
        candidates=-GRID,
        denominator="all",
        risk="miss_rate",
    )
    return -found.threshold if isinstance(found, Certificate) else np.nan


def misses_at(scores: Floats) -> npt.NDArray[np.int64]:
    return np.searchsorted(np.sort(scores), GRID, side="right")


def bonferroni(scores: Floats) -> float:
    p = scipy_stats.binom.cdf(misses_at(scores), len(scores), 0.02)
    passed = np.flatnonzero(p <= 0.1 / len(GRID))
    return float(GRID[passed[-1]]) if passed.size else np.nan


def order_statistic(rank: Callable[[int], int]) -> Callable[[Floats], float]:
    """The threshold that leaves `rank(n)` of n positives strictly below it."""
    return lambda scores: float(np.sort(scores)[rank(len(scores))])


naive_sweep = order_statistic(lambda n: int(0.02 * n + 1e-9))
expectation_control = order_statistic(lambda n: int(0.02 * (n + 1) - 1 + 1e-9))


@pytest.mark.parametrize(
    ("rule", "n", "mean", "violation", "vacuous"),
    [
        (naive_sweep, 100, 0.0300, 0.68, 0.0),
        (naive_sweep, 200, 0.0247, 0.63, 0.0),
        (naive_sweep, 500, 0.0220, 0.59, 0.0),
        (naive_sweep, 2000, 0.0204, 0.53, 0.0),
        (expectation_control, 100, 0.0201, 0.41, 0.0),
        (expectation_control, 200, 0.0198, 0.43, 0.0),
        (expectation_control, 500, 0.0200, 0.46, 0.0),
        (expectation_control, 2000, 0.0199, 0.46, 0.0),
        (fixed_sequence, 100, np.nan, 0.0, 1.0),
        (fixed_sequence, 200, 0.0095, 0.070, 0.02),
        (fixed_sequence, 500, 0.0115, 0.051, 0.0),
        (fixed_sequence, 2000, 0.0155, 0.044, 0.0),
        (bonferroni, 200, np.nan, 0.0, 1.0),
        (bonferroni, 500, 0.0035, 0.001, 0.09),
        (bonferroni, 2000, 0.0100, 0.000, 0.0),
    ],
)
def test_known_table_of_miss_rates(
    rule: Callable[[Floats], float], n: int, mean: float, violation: float, vacuous: float
) -> None:
    """True miss rates of thresholds chosen for alpha = 0.02, delta = 0.1 on n positives."""
    rng = np.random.default_rng(n)
    rates = np.array([rule(rng.random(n)) for _ in range(RUNS)])
    found = np.nan_to_num(rates)  # accepting nothing misses nothing
    both = np.sqrt(2 / RUNS)  # the table has as many runs as this test

    def near(rate: float, expected: float) -> bool:
        spread = np.sqrt(max(expected * (1 - expected), 1 / RUNS))
        return bool(abs(rate - expected) <= 3 * spread * both + 0.005)

    assert near(np.isnan(rates).mean(), vacuous)
    if not np.isnan(mean):
        assert abs(found.mean() - mean) <= 3 * found.std() * both + 5e-5
    exceeded = int((rates > 0.02 + 1e-12).sum())
    assert near(exceeded / RUNS, violation)
    assert promise_kept(exceeded, RUNS, 0.1) == (rule in {fixed_sequence, bonferroni})


def test_the_best_of_twenty_on_the_same_positives_is_far_off() -> None:
    """Of 20 scores, each with its naive threshold, the one that clears most."""
    rng = np.random.default_rng(20)
    best = np.array([max(naive_sweep(rng.random(500)) for _ in range(20)) for _ in range(400)])
    assert abs(best.mean() - 0.036) < 0.0015
    assert (best > 0.02).all()


def bump(u: Floats) -> Floats:
    """Errors among the r most confident rise above 5 % at 35 %, fall below, and rise for good."""
    return np.select([u < 0.3, u < 0.4, u < 0.8], [0.02, 0.25, 0.01], 0.3)


def bump_risk(coverage: float) -> float:
    edges, rates = [0.0, 0.3, 0.4, 0.8, 1.0], [0.02, 0.25, 0.01, 0.3]
    parts = np.clip(coverage - np.array(edges[:-1]), 0, np.diff(edges))
    return float(parts @ np.array(rates) / coverage)


def convex(u: Floats) -> Floats:
    return np.asarray(0.2618 * u**2)


def convex_risk(coverage: float) -> float:
    return 0.2618 * coverage**2 / 3


def flat(u: Floats) -> Floats:
    return np.full(u.shape, 0.05001)


def best_looking(s: Floats, wrong: Bools) -> float:
    """The laxest threshold whose empirical error is at most alpha: a broken rule."""
    ordered = np.argsort(-s)
    rate = np.cumsum(wrong[ordered]) / np.arange(1, len(s) + 1)
    fits = np.flatnonzero(rate <= 0.05)
    return float(s[ordered[fits[-1]]]) if fits.size else np.inf


def every_test_at_delta(s: Floats, wrong: Bools) -> float:
    """The laxest threshold that passes its own test: a rule without correction."""
    ordered = np.argsort(-s)
    k, n = np.cumsum(wrong[ordered]), np.arange(1, len(s) + 1)
    passed = np.flatnonzero(scipy_stats.binom.cdf(k, n, 0.05) <= 0.1)
    return float(s[ordered[passed[-1]]]) if passed.size else np.inf


def certified(s: Floats, wrong: Bools) -> float:
    found = certify_threshold(s, wrong, alpha=0.05, delta=0.1)
    return found.threshold if isinstance(found, Certificate) else np.inf


def coverages(
    rule: Callable[[Floats, Bools], float],
    chance: Callable[[Floats], Floats],
    n: int,
    runs: int,
    levels: int | None = None,
) -> Floats:
    """True coverages of a rule on scores 1 - u, u uniform, or on such scores cut into levels."""
    rng = np.random.default_rng(1)
    thresholds = []
    for _ in range(runs):
        u = rng.random(n)
        wrong = rng.random(n) < chance(u)
        s = 1 - u if levels is None else np.floor((1 - u) * levels) / levels
        thresholds.append(rule(s, wrong))
    if levels is None:
        return np.asarray(np.clip(1 - np.array(thresholds), 0, 1))
    steps = np.arange(levels) / levels
    return np.array([np.mean(steps >= t) for t in thresholds])


def violations(reached: Floats, risk: Callable[[float], float]) -> int:
    return sum(risk(c) > 0.05 for c in reached if c > 0)


@pytest.mark.parametrize(
    ("chance", "risk", "floor"),
    [(convex, convex_risk, 0.48), (bump, bump_risk, 0.07), (flat, lambda _: 0.05001, 0.0)],
)
@pytest.mark.parametrize("n", [359, 1000])
def test_selective_risk_is_kept(
    chance: Callable[[Floats], Floats], risk: Callable[[float], float], floor: float, n: int
) -> None:
    reached = coverages(certified, chance, n, 2000)
    assert promise_kept(violations(reached, risk), 2000, 0.1)
    assert reached.mean() >= (floor if n == 359 else 1.3 * floor)


@pytest.mark.parametrize("levels", [10, 100])
def test_selective_risk_is_kept_under_ties(levels: int) -> None:
    reached = coverages(certified, convex, 1000, 1000, levels)
    assert promise_kept(violations(reached, convex_risk), 1000, 0.1)
    assert reached.mean() > 0.6


def test_broken_rules_are_caught() -> None:
    naive = coverages(best_looking, convex, 1000, 500)
    assert not promise_kept(violations(naive, convex_risk), 500, 0.1)
    greedy = coverages(every_test_at_delta, flat, 1000, 500)
    assert not promise_kept(violations(greedy, lambda _: 0.05001), 500, 0.1)


def test_coverage_lower_holds_for_the_chosen_threshold() -> None:
    rng = np.random.default_rng(2)
    misses = 0
    for _ in range(2000):
        u = rng.random(300)
        found = certify_threshold(1 - u, rng.random(300) < convex(u), alpha=0.05)
        if isinstance(found, Certificate):
            misses += 1 - found.threshold < found.coverage_lower
    assert promise_kept(misses, 2000, 0.1)


def test_label_noise_among_the_most_confident_is_survived() -> None:
    """One per cent of errors everywhere: a single start at the first count gives up in 4 of 10."""
    reached = coverages(certified, lambda u: 0.01 + 0.21 * u**2, 1000, 500)
    assert (reached == 0).mean() < 0.15
    assert reached.mean() > 0.5
