"""Calibration metrics: edges of bins, the null level, the smooth error."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.errors import DataError
from selectkit.metrics import (
    brier,
    classwise_ece,
    ece,
    ece_null_level,
    mce,
    nll,
    reliability_bins,
    smooth_ece,
)

UNKNOWN: Any = "area"


def two_class(confidence: npt.ArrayLike) -> npt.NDArray[np.float64]:
    c = np.asarray(confidence, dtype=np.float64)
    return np.stack([c, 1 - c], axis=1)


def test_bins_are_closed_on_the_right() -> None:
    edges = np.arange(8, 16) / 15
    bins = reliability_bins(two_class(edges), np.zeros(8, dtype=int))
    assert bins.count.tolist() == [1] * 8
    assert bins.high.tolist() == pytest.approx(edges.tolist())
    just_above = np.nextafter(edges[:-1], 1)
    shifted = reliability_bins(two_class(just_above), np.zeros(7, dtype=int))
    assert shifted.low.tolist() == pytest.approx(edges[:-1].tolist())


@pytest.mark.parametrize("n_bins", [1, 7, 10, 15, 30, 49])
def test_bin_edges_hold_for_every_multiple(n_bins: int) -> None:
    k = np.arange(1, n_bins + 1)
    k = k[2 * k >= n_bins]
    bins = reliability_bins(two_class(k / n_bins), np.zeros(len(k), dtype=int), n_bins)
    assert bins.high.tolist() == (k / n_bins).tolist()


def test_errors_by_hand() -> None:
    p = two_class([0.6, 0.6, 0.9, 0.9])
    y = np.array([0, 1, 0, 0])
    assert ece(p, y, n_bins=10) == pytest.approx((2 * 0.1 + 2 * 0.1) / 4)
    assert mce(p, y, n_bins=10) == pytest.approx(0.1)
    assert classwise_ece(p, y, n_bins=10) == pytest.approx(0.1)
    assert brier(p, y) == pytest.approx(2 * (0.16 + 0.36 + 0.01 + 0.01) / 4)
    assert nll(p, y) == pytest.approx(-np.log([0.6, 0.4, 0.9, 0.9]).mean())


def test_impossible_label_costs_27_nats() -> None:
    assert nll(two_class([1.0]), np.array([1])) == pytest.approx(27.631021)


def test_equal_mass_keeps_ties_together_in_any_order() -> None:
    rng = np.random.default_rng(0)
    c = np.round(rng.uniform(0.5, 1, 400), 2)
    y = (rng.random(400) > c).astype(int)
    shuffled = rng.permutation(400)
    value = ece(two_class(c), y, scheme="mass")
    assert ece(two_class(c[shuffled]), y[shuffled], scheme="mass") == pytest.approx(value)
    bins = reliability_bins(two_class(c), y, scheme="mass")
    assert (bins.low[1:] > bins.high[:-1]).all()
    assert abs(bins.count - 400 / 15).max() < 25
    assert bins.ece == pytest.approx(value)


def test_null_level_of_one_coin_is_the_mean_deviation_of_a_binomial() -> None:
    for n, p in [(5, 0.5), (40, 0.9), (100, 0.5), (400, 0.51), (3000, 0.999)]:
        k = np.arange(n + 1)
        exact = (abs(k - n * p) * scipy_stats.binom.pmf(k, n, p)).sum() / n
        assert ece_null_level(np.full(n, p)) == pytest.approx(exact, rel=2e-4)


def test_null_level_is_the_mean_ece_of_calibrated_labels() -> None:
    rng = np.random.default_rng(1)
    c = rng.uniform(0.5, 1, 300)
    draws = [ece(two_class(c), (rng.random(300) > c).astype(int)) for _ in range(2000)]
    error = np.std(draws) / np.sqrt(2000)
    assert abs(np.mean(draws) - ece_null_level(c)) < 4 * error


@pytest.mark.parametrize(("n", "width", "mass"), [(200, 0.063, 0.087), (10_000, 0.0089, 0.0122)])
def test_null_level_known_values(n: int, width: float, mass: float) -> None:
    c = np.random.default_rng(0).uniform(0.5, 1, n)
    assert ece_null_level(c) == pytest.approx(width, rel=0.07)
    assert ece_null_level(c, scheme="mass") == pytest.approx(mass, rel=0.07)


def test_certain_predictions_have_no_null_level() -> None:
    assert ece_null_level(np.ones(10)) == pytest.approx(0, abs=1e-12)


def naive_smooth_ece(
    confidence: npt.NDArray[np.float64], residual: npt.NDArray[np.float64]
) -> float:
    """Fixed point on a dense mesh with explicit mirror images."""
    t = (np.arange(2000) + 0.5) / 2000

    def gap(sigma: float) -> float:
        density = np.zeros((len(t), len(confidence)))
        for shift in range(-4, 5, 2):
            for image in (confidence + shift, -confidence + shift):
                density += scipy_stats.norm.pdf(t[:, None], image, sigma)
        return float(np.abs(density @ residual).mean() / len(confidence))

    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        low, high = (middle, high) if gap(middle) > middle else (low, middle)
    return high


def test_smooth_ece_equals_the_naive_twin() -> None:
    rng = np.random.default_rng(2)
    c = rng.uniform(0.5, 1, 60)
    wrong = rng.random(60) > c**2
    naive = naive_smooth_ece(c, c - ~wrong)
    assert smooth_ece(two_class(c), wrong.astype(int)) == pytest.approx(naive, abs=5e-4)


def test_smooth_ece_of_constant_overconfidence() -> None:
    c = np.full(1000, 0.9)
    y = (np.arange(1000) % 10 >= 7).astype(int)  # right in 70 % of the rows
    assert smooth_ece(two_class(c), y) == pytest.approx(0.2, abs=1e-5)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: ece(two_class([0.9]), np.array([0]), n_bins=0), "n_bins must be at least 1"),
        (
            lambda: reliability_bins(two_class([0.9]), np.array([0]), scheme=UNKNOWN),
            '"width" or "mass", got \'area\'',
        ),
        (lambda: ece(np.array([[0.4, 0.4]]), np.array([0])), "row 0 are not a distribution"),
        (lambda: ece_null_level([0.5, 1.5]), r"confidence must lie in \[0, 1\], got 0.5 to 1.5"),
    ],
)
def test_refusals(call: object, text: str) -> None:
    assert callable(call)
    with pytest.raises(DataError, match=text):
        call()
