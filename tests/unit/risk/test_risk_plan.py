"""Labels, power and images: against brute force and the published table."""

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.stats import binom

from selectkit.errors import DataError, RiskError
from selectkit.risk import labels_needed
from selectkit.risk.plan import (
    images_for_power,
    images_needed,
    labels_on_average,
    most_errors,
    power,
    power_of_images,
)
from selectkit.risk.plan_forecast import Sources, forecast

TEST = {"alpha": 0.05, "delta": 0.1, "true_rate": 0.02}


def brute_power(n: int, alpha: float, delta: float, true_rate: float) -> float:
    affordable = np.flatnonzero(binom.cdf(np.arange(n + 1), n, alpha) <= delta)
    return float(binom.cdf(affordable[-1], n, true_rate)) if affordable.size else 0.0


@pytest.mark.parametrize(
    ("alpha", "delta", "row"),
    [
        (0.01, 0.05, [299, 473, 628, 773, 913, 1049]),
        (0.01, 0.10, [230, 388, 531, 667, 798, 926]),
        (0.02, 0.05, [149, 236, 313, 386, 456, 523]),
        (0.02, 0.10, [114, 194, 265, 333, 398, 462]),
        (0.05, 0.05, [59, 93, 124, 153, 181, 208]),
        (0.05, 0.10, [45, 77, 105, 132, 158, 184]),
    ],
)
def test_the_published_table(alpha: float, delta: float, row: list[int]) -> None:
    assert [labels_needed(alpha, delta, k) for k in range(6)] == row
    for k, n in enumerate(row):
        assert most_errors([n - 1, n], alpha, delta).tolist() == [k - 1, k]


def test_labels_of_a_promise_on_average() -> None:
    assert [labels_on_average(a) for a in (0.01, 0.02, 0.05, 0.1)] == [99, 49, 19, 9]
    assert labels_on_average(0.1, bound=2.0) == 19
    assert labels_on_average(0.9) == 1
    for alpha in (0.013, 0.07, 0.3):
        n = labels_on_average(alpha)
        assert 1 / (n + 1) <= alpha < 1 / n


def test_power_is_the_binomial_probability() -> None:
    sizes = np.arange(0, 400, 7)
    expected = [brute_power(int(n), **TEST) for n in sizes]
    np.testing.assert_allclose(power(sizes, **TEST), expected, atol=1e-12)
    assert power(45, **TEST) == pytest.approx(0.98**45)


@pytest.mark.parametrize("share", [0.07, 0.5, 1.0])
def test_power_of_images_is_the_mean_over_the_evidence(share: float) -> None:
    found = power_of_images([0, 10, 100, 700], share, **TEST)
    for images, chance in zip((0, 10, 100, 700), found, strict=True):
        weights = binom.pmf(np.arange(images + 1), images, share)
        expected = weights @ [brute_power(n, **TEST) for n in range(images + 1)]
        assert chance == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("share", [0.1, 0.9, 1.0])
@pytest.mark.parametrize("n", [0, 1, 45, 460])
def test_images_that_hold_enough_evidence(n: int, share: float) -> None:
    images = images_needed(n, share, 0.95)
    assert binom.sf(n - 1, images, share) >= 0.95
    if n:
        assert binom.sf(n - 1, images - 1, share) < 0.95


def test_power_needed_without_a_share_is_exact() -> None:
    sizes = np.arange(3000)
    chance = power(sizes, **TEST)
    for level in (0.5, 0.8, 0.95):
        short = np.flatnonzero(chance < level)
        assert images_for_power(level, 1.0, **TEST) == short[-1] + 1


@pytest.mark.parametrize("share", [0.1, 0.6])
def test_power_needed_with_a_share_is_reached_and_stays(share: float) -> None:
    for level in (0.5, 0.8, 0.95):
        n = images_for_power(level, share, **TEST)
        assert n is not None
        later = power_of_images(np.linspace(n, 3 * n, 40).astype(int), share, **TEST)
        assert later.min() >= level
        assert power_of_images(int(0.8 * n), share, **TEST) < level


def test_more_labels_are_needed_for_more() -> None:
    needed = [images_for_power(0.8, 0.1, **{**TEST, "true_rate": r}) for r in (0.005, 0.01, 0.03)]
    assert all(a < b for a, b in pairwise(needed) if a is not None and b is not None)


def test_where_no_number_will_do() -> None:
    for rate in (0.05, 0.2):
        assert images_for_power(0.5, 1.0, alpha=0.05, delta=0.1, true_rate=rate) is None
    assert images_for_power(0.95, 1.0, alpha=0.5, delta=0.1, true_rate=0.4999) is None
    assert (power([10, 100, 1000], alpha=0.05, delta=0.1, true_rate=0.06) < 0.1).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: power(10, alpha=1.0, delta=0.1, true_rate=0.1), RiskError, "alpha"),
        (lambda: power(10, alpha=0.1, delta=0.0, true_rate=0.1), RiskError, "delta"),
        (lambda: power(10, alpha=0.1, delta=0.1, true_rate=0.0), RiskError, "the true rate"),
        (lambda: power(1.5, **TEST), DataError, "integer counts"),
        (
            lambda: power_of_images(-1, 0.5, **TEST),
            DataError,
            "images must be integers, at least 0",
        ),
        (lambda: power_of_images(5, 1.5, **TEST), RiskError, r"share must lie in \(0, 1\]"),
        (lambda: images_needed(-1, 0.5), DataError, "n must be at least 0"),
        (lambda: images_needed(3, 0.0), RiskError, "share"),
        (lambda: images_needed(3, 0.5, 1.0), RiskError, "sure"),
        (lambda: images_needed(3, 1e-320), RiskError, "more than 10\\^15 images would be needed"),
        (lambda: images_for_power(1.0, 0.5, **TEST), RiskError, "level"),
        (lambda: labels_on_average(0.0), RiskError, "alpha"),
        (lambda: labels_on_average(0.1, bound=0), RiskError, "largest loss"),
    ],
)
def test_nonsense_is_refused(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()


def perfect(n: int, evidence: float = 1.0) -> Sources:
    s = np.linspace(0, 1, n)
    return Sources(s, np.arange(n) < evidence * n, s, np.zeros(n, dtype=bool))


def test_a_forecast_of_perfect_scores() -> None:
    found = forecast(perfect(300), 44, alpha=0.05, draws=20, rng=np.random.default_rng(0))
    assert (found.infeasible, found.expected, found.mean, found.feasible) == (1, 0, None, False)
    found = forecast(perfect(300), 45, alpha=0.05, draws=20, rng=np.random.default_rng(0))
    assert found.infeasible == 0
    assert found.mean is not None
    assert found.low is not None
    assert found.mean == pytest.approx(found.expected)
    assert found.mean > 0.95
    assert found.to_dict()["draws"] == 20


def test_a_forecast_without_evidence_or_with_little() -> None:
    rng = np.random.default_rng(0)
    assert forecast(perfect(50, 0.0), 500, alpha=0.05, draws=5, rng=rng).infeasible == 1
    half = forecast(perfect(400, 0.5), 90, alpha=0.05, draws=200, rng=rng)
    assert 0.25 < half.infeasible < 0.7  # about half of the draws hold 45 sources with evidence


def test_a_forecast_is_its_seed() -> None:
    found = [
        forecast(perfect(60), 50, alpha=0.05, draws=30, rng=np.random.default_rng(7)).to_dict()
        for _ in range(2)
    ]
    assert found[0] == found[1]
    calls: list[int] = []
    forecast(perfect(60), 50, alpha=0.05, draws=3, rng=np.random.default_rng(7),
             on_draw=lambda: calls.append(1))  # fmt: skip
    assert len(calls) == 3


def test_unusable_sources_and_numbers() -> None:
    with pytest.raises(DataError, match="one length"):
        Sources(np.zeros(3), np.ones(2, dtype=bool), np.zeros(3), np.zeros(3, dtype=bool))
    with pytest.raises(DataError, match="one length"):
        perfect(0)
    with pytest.raises(DataError, match="at least 1, got 0 and 5"):
        forecast(perfect(10), 0, alpha=0.05, draws=5, rng=np.random.default_rng(0))
