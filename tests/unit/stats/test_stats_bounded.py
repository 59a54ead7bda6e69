"""Betting and Hoeffding-Bentkus, one and many at a time: naive twins, agreement, edges."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.errors import DataError
from selectkit.stats import (
    hoeffding_bentkus_pvalue,
    hoeffding_bentkus_upper,
    wsr_pvalue,
    wsr_pvalues,
    wsr_upper,
    wsr_uppers,
)

Floats = npt.NDArray[np.float64]


def naive_wealth(x: Floats, mean: float, delta: float) -> float:
    """The largest wealth, one loss after the other."""
    best = wealth = 1.0
    total, spread, variance = 0.5, 0.25, 0.25
    for i, loss in enumerate(x, start=1):
        bet = min(1.0, np.sqrt(2 * np.log(1 / delta) / (len(x) * variance)))
        wealth *= 1 - bet * (loss - mean)
        best = max(best, wealth)
        total += loss
        spread += (loss - total / (i + 1)) ** 2
        variance = spread / (i + 1)
    return best


@pytest.mark.parametrize("delta", [0.01, 0.3])
def test_betting_pvalue_against_a_loop(delta: float) -> None:
    x = np.random.default_rng(0).beta(1, 9, 80)
    shuffled = x[np.random.default_rng(7).permutation(80)]
    p = wsr_pvalue(x, 0.2, np.random.default_rng(7), delta=delta)
    assert p == pytest.approx(1 / naive_wealth(shuffled, 0.2, delta), rel=1e-12)
    bound = wsr_upper(x, delta, np.random.default_rng(7))
    assert (
        naive_wealth(shuffled, bound, delta)
        >= 1 / delta
        > naive_wealth(shuffled, bound - 2e-9, delta)
    )


def test_columns_are_as_alone_and_counted_rows_are_as_a_subset() -> None:
    rng = np.random.default_rng(0)
    x = rng.random((150, 2000)) ** 6  # several blocks
    counted = rng.random(x.shape) < 0.7
    order = np.random.default_rng(5).permutation(150)
    p = wsr_pvalues(x, 0.2, np.random.default_rng(5))
    bounds = wsr_uppers(x, 0.1, np.random.default_rng(5))
    part = wsr_pvalues(x, 0.2, np.random.default_rng(5), counted=counted)
    for j in (0, 873, 874, 1999):
        assert p[j] == wsr_pvalue(x[:, j], 0.2, np.random.default_rng(5))
        assert bounds[j] == pytest.approx(
            wsr_upper(x[:, j], 0.1, np.random.default_rng(5)), abs=2e-9
        )
        subset = x[order, j][counted[order, j]]
        assert part[j] == pytest.approx(1 / naive_wealth(subset, 0.2, 0.1), rel=1e-12)


def test_pvalue_and_bound_decide_alike() -> None:
    x = np.random.default_rng(0).beta(2, 60, (200, 300))
    for alpha in (0.03, 0.05):
        p = wsr_pvalues(x, alpha, np.random.default_rng(1))
        bounds = wsr_uppers(x, 0.1, np.random.default_rng(1))
        assert ((p < 0.1) == (bounds < alpha)).all()
    assert 0 < (p < 0.1).mean() <= 1


def test_bounds_of_hard_columns_are_exact_and_rounded_up() -> None:
    x = np.stack([np.zeros(90), np.ones(90), np.arange(90) % 2, np.eye(90)[0]], axis=1)
    bounds = wsr_uppers(x, 0.05, np.random.default_rng(2))
    order = np.random.default_rng(2).permutation(90)
    assert bounds[1] == 1
    for j in (0, 2, 3):
        assert naive_wealth(x[order, j], bounds[j], 0.05) >= 20 * (1 - 1e-12)
        assert naive_wealth(x[order, j], bounds[j] - 2e-9, 0.05) < 20


def test_nothing_counted_promises_nothing() -> None:
    none = np.zeros((9, 2), dtype=bool)
    hostile = np.full((9, 2), np.nan)
    assert (wsr_pvalues(hostile, 0.2, np.random.default_rng(0), counted=none) == 1).all()
    assert (wsr_uppers(hostile, 0.2, np.random.default_rng(0), counted=none) == 1).all()


def test_hoeffding_bentkus_bound_inverts_the_pvalue() -> None:
    means = np.array([0.0, 0.003, 0.01, 0.1, 0.5, 0.999])
    for n in (10, 1000):
        bounds = hoeffding_bentkus_upper(means, n, 0.1)
        for mean, bound in zip(means, bounds, strict=True):
            if bound < 1:
                assert hoeffding_bentkus_pvalue(float(mean), n, float(bound)) <= 0.1 * (1 + 1e-6)
            below = max(float(bound) - 1e-6, 1e-12)
            assert hoeffding_bentkus_pvalue(float(mean), n, below) > 0.1
    assert hoeffding_bentkus_upper(1.0, 50, 0.1) == 1
    assert isinstance(hoeffding_bentkus_upper(0.2, 50, 0.1), float)


def test_hoeffding_bentkus_on_arrays() -> None:
    means, n = np.array([0.0, 0.01, 0.07]), np.array([100, 1000, 100])
    p = hoeffding_bentkus_pvalue(means, n, 0.05)
    single = [
        hoeffding_bentkus_pvalue(float(m), int(k), 0.05) for m, k in zip(means, n, strict=True)
    ]
    assert p.tolist() == single
    bounds = hoeffding_bentkus_upper(means, n, 0.05)
    assert bounds == pytest.approx(
        [hoeffding_bentkus_upper(float(m), int(k), 0.05) for m, k in zip(means, n, strict=True)],
        abs=2e-9,
    )


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda rng: wsr_uppers(np.zeros(3), 0.1, rng), r"losses must have shape \(N, M\)"),
        (lambda rng: wsr_pvalue(np.zeros((3, 1)), 0.1, rng), r"losses must have shape \(N,\)"),
        (lambda rng: wsr_pvalues([[0.5], [np.nan]], 0.1, rng), "losses is nan in row 1, column 0"),
        (
            lambda rng: wsr_pvalues([[0.5]], 0.1, rng, counted=[[1]]),
            r"counted must be booleans of the shape \(1, 1\)",
        ),
        (lambda rng: hoeffding_bentkus_upper(0.2, 0, 0.1), "n must be at least 1, got 0"),
    ],
)
def test_refusals(call: Callable[[np.random.Generator], object], text: str) -> None:
    with pytest.raises(DataError, match=text):
        call(np.random.default_rng(0))
