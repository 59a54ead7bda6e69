"""Bounds for all times, and Bernstein's for one look, cover the mean as often as they promise.

A rate is judged by its exact binomial tail: a check fails only if as many misses as seen have
probability below 1e-6 when the promise holds. Each check is also run on a rule known to be wrong.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.stats import (
    anytime_lower,
    anytime_upper,
    bernstein_lower,
    bernstein_sequence,
    bernstein_upper,
    clopper_pearson_lower,
    clopper_pearson_upper,
)

Floats = npt.NDArray[np.float64]


def promise_kept(misses: int, trials: int, delta: float) -> bool:
    """False if so many misses are incredible at the promised rate."""
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


Bound = Callable[[npt.NDArray[np.int64], npt.NDArray[np.int64], float], Floats]


@pytest.mark.parametrize("rate", [0.02, 0.3])
@pytest.mark.parametrize(
    ("lower", "upper", "holds"),
    [
        (anytime_lower, anytime_upper, True),
        (clopper_pearson_lower, clopper_pearson_upper, False),
    ],
)
def test_bounds_hold_at_all_times(rate: float, lower: Bound, upper: Bound, holds: bool) -> None:
    looks = np.unique(np.geomspace(1, 20_000, 60).astype(int))
    rng = np.random.default_rng(14)
    parts = rng.binomial(np.diff(looks, prepend=0)[:, None], rate, size=(len(looks), 500))
    errors, n = np.cumsum(parts, axis=0), np.broadcast_to(looks[:, None], parts.shape)
    above = (lower(errors, n, 0.1) > rate).any(axis=0)
    below = (upper(errors, n, 0.1) < rate).any(axis=0)
    assert promise_kept(int(above.sum()), 500, 0.1) == holds
    assert promise_kept(int(below.sum()), 500, 0.1) == holds


@pytest.mark.parametrize("shape", [(0.02, 0.98), (2, 98), (3, 3)])
def test_bernstein_sequence_holds_at_all_times(shape: tuple[float, float]) -> None:
    x = np.random.default_rng(15).beta(*shape, size=(1000, 1000))
    found = bernstein_sequence(x, 0.1)
    mean = shape[0] / sum(shape)
    outside = ((found.lower > mean) | (found.upper < mean)).any(axis=0)
    assert promise_kept(int(outside.sum()), 1000, 0.1)
    assert found.upper[-1].mean() - mean < 6 * np.sqrt(mean * (1 - mean) / 1000)
    normal = np.cumsum(x, axis=0)[49:] / np.arange(50, 1001)[:, None]
    error = 1.645 * x.std() / np.sqrt(np.arange(50, 1001))[:, None]
    twin = (np.abs(normal - mean) > error).any(axis=0)
    assert not promise_kept(int(twin.sum()), 1000, 0.1)


@pytest.mark.parametrize(("n", "expected"), [(500, 0.0487), (2000, 0.0313)])
def test_known_bernstein_bounds(n: int, expected: float) -> None:
    losses = np.random.default_rng(16).random((n, 2000)) < 0.02
    upper, lower = bernstein_upper(losses, 0.1), bernstein_lower(losses, 0.1)
    assert np.mean(upper) == pytest.approx(expected, abs=3 * np.std(upper) / np.sqrt(400) + 5e-5)
    assert promise_kept(int(np.sum(upper < 0.02)), 2000, 0.1)
    assert promise_kept(int(np.sum(lower > 0.02)), 2000, 0.1)
