"""Certified thresholds for losses between 0 and 1."""

import json

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.risk import Certificate, Infeasible, certify_threshold
from selectkit.risk.bounded import log_p, samples_needed
from selectkit.stats import wsr_pvalue

Floats = npt.NDArray[np.float64]


def certified(answer: Certificate | Infeasible) -> Certificate:
    assert isinstance(answer, Certificate), answer.message()
    return answer


def infeasible(answer: Certificate | Infeasible) -> Infeasible:
    assert isinstance(answer, Infeasible), answer.sentence()
    return answer


def sample(n: int, levels: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(n)
    s = 1 - rng.random(n)
    s = np.floor(s * levels) / levels if levels else s
    return s, np.clip(0.3 * (1 - s) ** 2 * rng.random(n), 0, 1)


@pytest.mark.parametrize("levels", [0, 20])
def test_the_deployed_rule_accepts_exactly_the_tested_samples(levels: int) -> None:
    s, loss = sample(900, levels)
    found = certified(certify_threshold(s, loss, alpha=0.03))
    accepted = s >= found.threshold
    assert (found.n_accepted, found.errors) == (accepted.sum(), (loss[accepted] > 0).sum())
    assert found.mean_loss is not None
    assert found.mean_loss == pytest.approx(loss[accepted].mean())
    assert found.mean_loss <= found.risk_upper <= 0.03
    assert 0.5 < found.coverage < 1
    assert f"mean loss {found.mean_loss:.3g}" in found.sentence()
    assert Certificate.from_dict(json.loads(json.dumps(found.to_dict()))) == found
    order = np.random.default_rng(0).permutation(900)
    tested = loss[order][accepted[order]]
    n_starts = 1 if levels else 3
    assert min(log_p(tested, 0.03, 0.1 / k) for k in range(1, n_starts + 1)) <= np.log(0.1)


def test_a_small_variance_is_worth_more_coverage_than_coins() -> None:
    rng = np.random.default_rng(0)
    reached = []
    for _ in range(20):
        s = 1 - rng.random(900)
        loss = 0.3 * (1 - s) ** 2 * rng.random(900)
        fine = certify_threshold(s, loss, alpha=0.02)
        coins = certify_threshold(s, rng.random(900) < loss, alpha=0.02)
        reached.append([a.coverage if isinstance(a, Certificate) else 0.0 for a in (fine, coins)])
    fine_mean, coins_mean = np.mean(reached, axis=0)
    assert fine_mean > coins_mean + 0.1


def test_the_order_of_rows_changes_little_and_the_seed_too() -> None:
    s, loss = sample(900)
    order = np.random.default_rng(1).permutation(900)
    first = certified(certify_threshold(s, loss, alpha=0.03))
    assert certify_threshold(s, loss, alpha=0.03, seed=0) == first
    other = certified(certify_threshold(s[order], loss[order], alpha=0.03))
    reseeded = certified(certify_threshold(s, loss, alpha=0.03, seed=5))
    for found in (other, reseeded):
        assert abs(found.coverage - first.coverage) < 0.1


def test_rows_sorted_by_loss_are_shuffled() -> None:
    s = np.ones(400)
    loss = np.sort(np.random.default_rng(0).beta(1, 30, 400))
    found = certified(certify_threshold(s, loss, alpha=0.06))
    assert found.n_accepted == 400


def test_ends() -> None:
    s = np.append(np.linspace(0, 1, 300), -np.inf)
    tiny = np.full(301, 1e-3)
    found = certified(certify_threshold(s, tiny, alpha=0.05))
    assert (found.n_accepted, found.threshold) == (300, np.finfo(float).min)
    large = infeasible(certify_threshold(s, np.full(301, 0.5), alpha=0.05))
    assert large.needs is None
    assert large.reason.endswith("is 0.5, so more labels will not help")
    deferred = infeasible(certify_threshold([-np.inf] * 99, np.full(99, 0.1), alpha=0.5))
    assert deferred.reason == "0 samples in the calibration split can be accepted (of 99)"
    single = infeasible(certify_threshold([0.5], [0.5], alpha=0.05))
    assert single.needs == samples_needed(0.05, 0.1)


def test_the_number_without_losses_is_the_smallest() -> None:
    for alpha, level in ((0.05, 0.1), (0.3, 0.01)):
        n = samples_needed(alpha, level)
        rng = np.random.default_rng(0)
        assert wsr_pvalue(np.zeros(n), alpha, rng, delta=level) <= level
        assert wsr_pvalue(np.zeros(n - 1), alpha, rng, delta=level) > level


def test_the_number_that_would_suffice_suffices() -> None:
    rng = np.random.default_rng(3)
    loss = rng.beta(2, 48, 80)
    answer = infeasible(certify_threshold(np.ones(80), loss, alpha=0.05))
    assert answer.needs is not None
    more = rng.choice(loss, 2 * answer.needs)
    assert certify_threshold(np.ones(len(more)), more, alpha=0.05).feasible


def test_grid_and_denominator_all() -> None:
    s, loss = sample(900)
    grid = [0.9, 0.5, 0.2, 0.0]
    found = certified(certify_threshold(s, loss, alpha=0.03, candidates=grid))
    assert found.threshold in grid
    monotone = certified(certify_threshold(s, loss, alpha=0.03, denominator="all", risk="harm"))
    assert monotone.mean_loss == pytest.approx(loss[s >= monotone.threshold].sum() / 900)
    assert monotone.coverage >= found.coverage
    nobody = infeasible(certify_threshold(s[:20], loss[:20], alpha=0.03, denominator="all"))
    assert nobody.needs == samples_needed(0.03, 0.1)
    hopeless = infeasible(
        certify_threshold(np.ones(300), loss[:300] + 0.5, alpha=0.03, denominator="all")
    )
    assert "with 300 of 300 accepted" in hopeless.reason


def test_large_samples_lend_scores_that_nothing_is_tested_on() -> None:
    s, loss = sample(10_500)
    found = certified(certify_threshold(s, loss, alpha=0.03))
    order = np.random.default_rng(0).permutation(10_500)
    lent, rest = order[:1000], order[1000:]
    assert found.threshold in s[lent]
    assert found.n == 9500
    assert found.n_accepted == (s[rest] >= found.threshold).sum()
    changed = loss.copy()
    changed[lent] = 1.0
    assert certify_threshold(s, changed, alpha=0.03) == found
