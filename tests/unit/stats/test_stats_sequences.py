"""Confidence sequences against naive twins, and at the edges."""

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.stats import clopper_pearson_lower, clopper_pearson_upper
from selectkit.stats.sequences import anytime_lower, anytime_upper, bernstein_sequence

Floats = npt.NDArray[np.float64]


def naive_lower(x: Floats, delta: float) -> float:
    """Search a fine grid of means, multiplying the capital loss by loss."""
    odds = np.geomspace(1e-5, 1e3, 33)
    kappa = odds / (1 + odds)
    excluded = 0.0
    for m in np.arange(1, 2000) / 2000:
        capital = np.prod([1 - kappa + kappa * value / m for value in x], axis=0).mean()
        if capital <= 1 / delta:
            return excluded
        excluded = m
    return excluded


@pytest.mark.parametrize("errors", [0, 1, 5, 20, 40])
def test_lower_bound_of_counts_is_the_bet_loss_by_loss(errors: int) -> None:
    x = np.repeat([1.0, 0.0], [errors, 40 - errors])
    assert anytime_lower(errors, 40, 0.1) == pytest.approx(naive_lower(x, 0.1), abs=1 / 2000)
    assert anytime_upper(errors, 40, 0.1) == pytest.approx(1 - naive_lower(1 - x, 0.1), abs=5e-4)


def test_fractional_losses_only_widen() -> None:
    x = np.random.default_rng(0).beta(2, 3, 60)
    assert anytime_lower(x.sum(), 60, 0.1) <= naive_lower(x, 0.1) + 1 / 2000


def test_bounds_enclose_the_mean_and_the_bound_for_one_look() -> None:
    n = np.array([10, 100, 1000, 100_000])
    errors = n // 10
    lower, upper = anytime_lower(errors, n, 0.05), anytime_upper(errors, n, 0.05)
    assert (lower < clopper_pearson_lower(errors, n, 0.05)).all()
    assert (upper > clopper_pearson_upper(errors, n, 0.05)).all()
    assert (np.diff(lower) > 0).all()
    assert (np.diff(upper) < 0).all()
    assert lower[-1] > 0.095
    assert upper[-1] < 0.105


def test_more_errors_raise_both_bounds() -> None:
    errors = np.arange(201)
    assert (np.diff(anytime_lower(errors, 200, 0.05)) >= 0).all()
    assert (np.diff(anytime_upper(errors, 200, 0.05)) >= 0).all()


def test_edges_and_shapes() -> None:
    assert anytime_lower(0, 0, 0.05) == 0
    assert anytime_upper(0, 0, 0.05) == 1
    assert anytime_lower(0, 10**9, 0.05) == 0
    assert anytime_upper(7, 7, 0.05) == 1
    assert 0 <= anytime_lower(1e-300, 1e-300, 0.05) <= 1
    assert 0 <= anytime_upper(1e-300, 1e300, 0.05) <= 1
    assert isinstance(anytime_lower(np.int64(3), 9, 0.1), float)
    assert np.shape(anytime_lower(np.zeros((2, 3)), 5, 0.1)) == (2, 3)
    assert np.shape(anytime_upper(1, np.arange(1, 20_001), 0.1)) == (20_000,)


@pytest.mark.parametrize(
    ("total", "n"), [(-1, 5), (6, 5), (np.nan, 5), (1, np.nan), (1, np.inf), ([1, 9], 5)]
)
def test_impossible_sums_are_refused(total: float, n: float) -> None:
    with pytest.raises(DataError, match="between 0 and n"):
        anytime_lower(total, n, 0.1)
    with pytest.raises(DataError, match="between 0 and n"):
        anytime_upper(total, n, 0.1)


def test_levels_are_checked() -> None:
    with pytest.raises(RiskError, match="delta"):
        anytime_lower(1, 5, 0.0)
    with pytest.raises(RiskError, match="delta"):
        anytime_upper(1, 5, 1.5)
    with pytest.raises(RiskError, match="delta"):
        bernstein_sequence([0.1], np.nan)
    with pytest.raises(RiskError, match="sides"):
        bernstein_sequence([0.1], 0.1, sides=3)  # type: ignore[arg-type]


def naive_bernstein(x: Floats, nats: float) -> tuple[list[float], list[float]]:
    lower, upper = [], []
    mean, variance, total, seen = 0.5, 0.25, 0.5, 0.25
    weighted = weight = spread = 0.0
    for t, value in enumerate(x, start=1):
        bet = min(0.5, (2 * nats / (variance * t * np.log(1 + t))) ** 0.5)
        weighted, weight = weighted + bet * value, weight + bet
        spread += (value - mean) ** 2 * (-np.log(1 - bet) - bet)
        total += value
        mean = total / (t + 1)
        seen += (value - mean) ** 2
        variance = seen / (t + 1)
        lower.append(max(0.0, (weighted - nats - spread) / weight))
        upper.append(min(1.0, (weighted + nats + spread) / weight))
    return lower, upper


@pytest.mark.parametrize("sides", [1, 2])
def test_bernstein_sequence_is_theorem_2_step_by_step(sides: int) -> None:
    x = np.random.default_rng(3).beta(1, 3, 150)
    found = bernstein_sequence(x, 0.1, sides=1 if sides == 1 else 2)
    lower, upper = naive_bernstein(x, np.log(sides / 0.1))
    assert found.lower == pytest.approx(lower)
    assert found.upper == pytest.approx(upper)


def test_bernstein_sequence_looks_only_back() -> None:
    x = np.random.default_rng(4).random(100)
    changed = x.copy()
    changed[60:] = 1
    both = bernstein_sequence(np.stack([x, changed], axis=1), 0.1)
    assert (both.lower[:60, 0] == both.lower[:60, 1]).all()
    assert (both.upper[:60, 0] == both.upper[:60, 1]).all()
    assert both.lower[-1, 0] < both.lower[-1, 1]


def test_bernstein_sequence_gains_from_small_variance() -> None:
    x = np.random.default_rng(5).beta(20, 980, 2000)
    found = bernstein_sequence(x, 0.05)
    assert found.upper[-1] < anytime_upper(x.sum(), 2000, 0.025)
