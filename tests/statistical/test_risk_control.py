"""Every kind of risk control keeps its promise, is not vacuous, and its broken twin is caught.

As in test_risk_promises: a promise counts as broken only if so many failures have probability
below 1e-6 where it holds. Means are compared within three standard errors of both sides.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.risk import (
    Certificate,
    certify_by_group,
    certify_pvalues,
    certify_threshold,
    crc_lambda,
    crc_threshold,
    learn_then_test,
    loss_pvalues,
    pareto_order,
    sgr,
    union_pvalues,
)
from selectkit.stats import clopper_pearson_upper, hoeffding_bentkus_upper, wsr_uppers
from selectkit.stats.bernstein import bernstein_upper

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]


def promise_kept(misses: int, trials: int, delta: float) -> bool:
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


@pytest.mark.parametrize(
    ("n", "mean", "violation"),
    [(100, 0.0201, 0.41), (200, 0.0198, 0.43), (500, 0.0200, 0.46), (2000, 0.0199, 0.46)],
)
def test_conformal_risk_control_row_of_the_table(n: int, mean: float, violation: float) -> None:
    """Miss rates are uniform scores: the true risk at the deployed threshold is -threshold."""
    rng = np.random.default_rng(n)
    misses = np.ones(n)
    risks = np.array([-crc(crc_threshold(-rng.random(n), misses, alpha=0.02)) for _ in range(4000)])
    error = risks.std() / np.sqrt(4000)
    allowed = int(0.02 * (n + 1) - 1 + 1e-9)
    assert abs(risks.mean() - (allowed + 1) / (n + 1)) <= 3 * error
    assert abs(risks.mean() - mean) <= 3 * np.sqrt(2) * error + 5e-5
    assert risks.mean() <= 0.02 + 3 * error
    spread = np.sqrt(violation * (1 - violation) / 4000)
    assert abs((risks > 0.02).mean() - violation) <= 3 * np.sqrt(2) * spread + 0.005


def crc(answer: object) -> float:
    assert isinstance(answer, Certificate)
    return answer.threshold


def test_one_miss_too_many_breaks_conformal_risk_control() -> None:
    rng = np.random.default_rng(0)
    risks = np.array([np.sort(rng.random(200))[int(0.02 * 201 + 1e-9)] for _ in range(4000)])
    assert risks.mean() > 0.02 + 5 * risks.std() / np.sqrt(4000)  # floor(alpha (n + 1)) misses


def test_conformal_risk_control_of_sets() -> None:
    """Loss max(0, u - lambda) with u uniform: its mean at lambda is (1 - lambda)^2 / 2."""
    rng, grid = np.random.default_rng(1), np.linspace(0, 1, 101)
    chosen = np.array([
        crc(crc_lambda(np.maximum(0, rng.random((60, 1)) - grid), grid, alpha=0.05))
        for _ in range(3000)
    ])
    risks = (1 - chosen) ** 2 / 2
    assert risks.mean() <= 0.05 + 3 * risks.std() / np.sqrt(3000)
    assert risks.mean() > 0.03  # not vacuous


@pytest.mark.parametrize(
    ("law", "n", "means"),
    [
        ("coins", 500, [0.0676, 0.0487, 0.0344, 0.0347, 0.0301]),
        ("coins", 2000, [0.0441, 0.0313, 0.0266, 0.0263, 0.0248]),
        ("beta", 500, [0.0679, 0.0361, 0.0360, 0.0248]),
    ],
)
def test_table_of_bounds(law: str, n: int, means: list[float]) -> None:
    """Mean upper bounds at delta = 0.1 of a mean 0.02: Hoeffding, Bernstein, HB, betting, CP."""
    rng = np.random.default_rng(2)
    x = rng.random((n, 400)) < 0.02 if law == "coins" else rng.beta(1, 49, (n, 400))
    loss = x.astype(np.float64)
    mean = loss.mean(axis=0)
    bounds = [
        mean + np.sqrt(np.log(10) / (2 * n)),
        np.asarray(bernstein_upper(loss, 0.1)),
        hoeffding_bentkus_upper(mean, n, 0.1),
        wsr_uppers(loss, 0.1, rng),
    ]
    if law == "coins":
        bounds.append(clopper_pearson_upper(loss.sum(axis=0).astype(np.int64), n, 0.1))
    for bound, expected in zip(bounds, means, strict=True):
        assert abs(bound.mean() - expected) <= 3 * np.sqrt(2 / 400) * bound.std() + 1e-4
        assert promise_kept(int((bound < 0.02).sum()), 400, 0.1)


def miss_and_alarm(
    rng: np.random.Generator, n: int, runs: int, grid: Floats
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Counts below and above thresholds: positives are u, negatives u^4, u uniform: (run, M)."""
    low = np.sort(rng.random((runs, n)), axis=1)
    high = np.sort(rng.random((runs, n)) ** 4, axis=1)
    missed = np.stack([np.searchsorted(row, grid) for row in low])
    alarms = np.stack([n - np.searchsorted(row, grid) for row in high])
    return missed, alarms


GRID = np.linspace(0.005, 0.4, 80)
TRUE = np.stack([GRID, 1 - GRID**0.25], axis=1)  # miss rate and false alarm rate
LEVELS = np.array([0.22, 0.38])


@pytest.mark.parametrize("procedure", ["bonferroni", "multi_start", "pareto"])
def test_several_risks_are_kept_together(procedure: str) -> None:
    """Only thresholds from 0.148 to 0.22 keep both levels."""
    rng, runs = np.random.default_rng(3), 1000
    missed, alarms = miss_and_alarm(rng, 2000, runs, GRID)
    first = miss_and_alarm(rng, 500, runs, GRID)
    safe = (TRUE <= LEVELS).all(axis=1)
    assert 0 < safe.sum() < len(GRID)
    failed = found = 0
    for run in range(runs):
        errors = np.stack([missed[run], alarms[run]], axis=1)
        if procedure == "pareto":
            guide = union_pvalues(np.stack([first[0][run], first[1][run]], axis=1), 500, LEVELS)
            order = pareto_order(guide, -np.abs(GRID - 0.2))
            answer = learn_then_test(
                errors, 2000, LEVELS, 0.1, procedure="fixed_sequence", order=order
            )
        elif procedure == "multi_start":
            answer = learn_then_test(
                errors, 2000, LEVELS, 0.1, procedure="multi_start", starts=[34, 37, 40]
            )
        else:
            answer = learn_then_test(errors, 2000, LEVELS, 0.1)
        failed += bool((answer.certified & ~safe).any())
        found += answer.feasible
    assert promise_kept(failed, runs, 0.1)
    assert found > 0.3 * runs


def test_the_family_wise_error_reaches_delta_but_not_beyond() -> None:
    """A grid point exactly at its level is certified with nearly delta; testing all is caught."""
    rng, runs = np.random.default_rng(4), 4000
    errors = rng.binomial(500, 0.0501, (runs, 20, 1))
    one = sum(
        learn_then_test(e, 500, [0.05], 0.1, procedure="fixed_sequence").feasible for e in errors
    )
    every = sum(learn_then_test(e, 500, [0.05], 0.1).feasible for e in errors)
    assert promise_kept(one, runs, 0.1)
    assert promise_kept(every, runs, 0.1)
    assert one > 0.05 * runs
    uncorrected = (union_pvalues(errors[:, :, 0].ravel(), 500, 0.05) <= 0.1).reshape(runs, 20)
    assert not promise_kept(int(uncorrected.any(axis=1).sum()), runs, 0.1)


def test_several_bounded_losses_are_kept_together() -> None:
    rng, runs = np.random.default_rng(5), 300
    means = np.linspace(0.02, 0.08, 13)
    failed = found = 0
    for _ in range(runs):
        first = rng.beta(2, 2 / means - 2, (400, 13))
        second = rng.beta(1, 1 / means[::-1] - 1, (300, 13))
        p = loss_pvalues([first, second], [0.06, 0.075], rng)
        answer = certify_pvalues(p, 0.1)
        failed += bool((answer.certified & ((means > 0.06) | (means[::-1] > 0.075))).any())
        found += answer.feasible
    assert promise_kept(failed, runs, 0.1)
    assert found > 0.5 * runs


def chance(u: Floats, slope: Floats | float = 0.2618) -> Floats:
    return np.asarray(slope * u**2)


def test_groups_are_kept_jointly() -> None:
    """Three groups at the edge: each alone fails with nearly delta, jointly with at most delta."""
    rng, runs = np.random.default_rng(6), 400
    slopes = np.array([0.2618, 0.4, 0.8])
    failed = {True: 0, False: 0}
    covered = []
    for _ in range(runs):
        u, group = rng.random(2400), rng.integers(0, 3, 2400)
        wrong = rng.random(2400) < chance(u, slopes[group])
        for joint in (True, False):
            found = certify_by_group(1 - u, wrong, group, alpha=0.05, joint=joint)
            reached = np.clip(1 - found.thresholds([0, 1, 2]), 0, 1)
            failed[joint] += bool((slopes * reached**2 / 3 > 0.05).any())
            covered.append(reached.mean())
    assert promise_kept(failed[True], runs, 0.1)
    assert np.mean(covered) > 0.35
    assert failed[False] > failed[True]


def best_looking(s: Floats, loss: Floats) -> float:
    order = np.argsort(-s)
    fits = np.flatnonzero(np.cumsum(loss[order]) <= 0.05 * np.arange(1, len(s) + 1))
    return float(s[order[fits[-1]]]) if fits.size else np.inf


@pytest.mark.parametrize("denominator", ["accepted", "all"])
def test_losses_between_zero_and_one_are_kept(denominator: str) -> None:
    """Loss uniform on [0, 2 c u^2]: its mean among the share r most confident is c r^2 / 3."""
    rng, runs, c = np.random.default_rng(7), 150, 0.2618

    def risk(reached: Floats) -> Floats:
        among = c * reached**2 / 3
        return among if denominator == "accepted" else among * reached

    thresholds, naive = [], []
    for _ in range(runs):
        u = rng.random(500)
        loss = 2 * c * u**2 * rng.random(500)
        if denominator == "accepted":
            found = certify_threshold(1 - u, loss, alpha=0.05)
        else:
            found = certify_threshold(1 - u, loss, alpha=0.05, denominator="all", risk="harm")
        thresholds.append(found.threshold if isinstance(found, Certificate) else np.inf)
        naive.append(best_looking(1 - u, loss))
    reached = np.clip(1 - np.array(thresholds), 0, 1)
    assert promise_kept(int((risk(reached) > 0.05).sum()), runs, 0.1)
    assert reached.mean() > 0.55
    if denominator == "accepted":
        assert not promise_kept(int((risk(1 - np.array(naive)) > 0.05).sum()), runs, 0.1)


def last_probe(s: Floats, wrong: Bools) -> float:
    """SGR as published: the threshold that is looked at last."""
    order = np.argsort(-s)
    k, n = np.cumsum(wrong[order]), np.arange(1, len(s) + 1)
    low, high = 0, len(s) - 1
    middle = 0
    for _ in range(int(np.ceil(np.log2(len(s))))):
        middle = (low + high + 1) // 2
        passed = scipy_stats.binom.cdf(k[middle], n[middle], 0.05) <= 0.01
        low, high = (middle, high) if passed else (low, middle)
    return float(s[order[middle]])


def sgr_threshold(s: Floats, wrong: Bools) -> float:
    found = sgr(s, wrong, alpha=0.05)
    return found.threshold if isinstance(found, Certificate) else np.inf


@pytest.mark.parametrize(("rule", "kept"), [(sgr_threshold, True), (last_probe, False)])
def test_binary_search_promises_only_what_passed(
    rule: Callable[[Floats, Bools], float], kept: bool
) -> None:
    rng, runs = np.random.default_rng(8), 500
    signal, noise = [], 0
    for _ in range(runs):
        u = rng.random(1000)
        signal.append(1 - rule(1 - u, rng.random(1000) < chance(u)))
        noise += rule(u, rng.random(1000) < 0.1) <= 1  # no signal: any threshold breaks 5 %
    reached = np.clip(signal, 0, 1)
    violations = int((chance(reached) / 3 > 0.05).sum())
    assert promise_kept(violations + noise, 2 * runs, 0.1) == kept
    assert reached.mean() > 0.5
