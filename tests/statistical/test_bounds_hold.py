"""Bounds of a mean miss no more often than they promise, and are not vacuous."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.stats import (
    clopper_pearson_lower,
    clopper_pearson_upper,
    hoeffding_bentkus_pvalue,
    wsr_upper,
)

Floats = npt.NDArray[np.float64]


def promise_kept(misses: int, trials: int, delta: float) -> bool:
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


@pytest.mark.parametrize(("n", "rate"), [(50, 0.02), (500, 0.02), (300, 0.3)])
def test_clopper_pearson(n: int, rate: float) -> None:
    k = np.random.default_rng(0).binomial(n, rate, 4000)
    upper, lower = clopper_pearson_upper(k, n, 0.1), clopper_pearson_lower(k, n, 0.1)
    assert promise_kept(int((upper < rate).sum()), 4000, 0.1)
    assert promise_kept(int((lower > rate).sum()), 4000, 0.1)
    assert (upper - lower).mean() < 4 * np.sqrt(rate / n)


def test_a_truncated_error_count_is_caught() -> None:
    k = np.random.default_rng(0).binomial(500, 0.02, 4000)
    broken = clopper_pearson_upper(np.maximum(k - 1, 0), 500, 0.1)
    assert not promise_kept(int((broken < 0.02).sum()), 4000, 0.1)


def draw_bernoulli(rng: np.random.Generator, n: int) -> Floats:
    return (rng.random(n) < 0.02).astype(float)


def draw_beta(rng: np.random.Generator, n: int) -> Floats:
    return rng.beta(2, 98, n)


def first_half_bound(losses: Floats, rng: np.random.Generator) -> float:
    """The larger of two half-sample wealths as if it were one martingale: a broken bound."""
    half = rng.permutation(losses)
    return min(wsr_upper(half[:250], 0.1, rng), wsr_upper(half[250:], 0.1, rng))


@pytest.mark.parametrize(("draw", "width"), [(draw_bernoulli, 0.038), (draw_beta, 0.026)])
def test_betting_bound(draw: Callable[[np.random.Generator, int], Floats], width: float) -> None:
    rng = np.random.default_rng(3)
    bounds = np.array([wsr_upper(draw(rng, 500), 0.1, rng) for _ in range(800)])
    assert promise_kept(int((bounds < 0.02).sum()), 800, 0.1)
    assert bounds.mean() < width


def test_a_broken_betting_bound_is_caught() -> None:
    rng = np.random.default_rng(4)
    losses = [(rng.random(500) < 0.3).astype(float) for _ in range(800)]
    misses = sum(first_half_bound(x, rng) < 0.3 for x in losses)
    good = sum(wsr_upper(x, 0.1, rng) < 0.3 for x in losses)
    assert promise_kept(good, 800, 0.1)
    assert misses > good


def test_hoeffding_bentkus_is_a_pvalue() -> None:
    rng = np.random.default_rng(5)
    means = rng.beta(1, 19, (2000, 200)).mean(axis=1)
    p = np.array([hoeffding_bentkus_pvalue(float(m), 200, 0.05) for m in means])
    assert promise_kept(int((p <= 0.1).sum()), 2000, 0.1)
    assert hoeffding_bentkus_pvalue(0.02, 500, 0.05) < 0.01
