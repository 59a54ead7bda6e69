"""Risk-coverage metrics: known values, naive twins, edges and refusals."""

import math
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pytest

from selectkit.errors import DataError
from selectkit.metrics import (
    augrc,
    aurc,
    auroc_failure,
    coverage_at_risk,
    e_augrc,
    e_aurc,
    risk_at_coverage,
    risk_coverage_curve,
)

Vector = list[float]
UNKNOWN: Any = "median"
LOSS: Vector = [0, 0, 1, 0, 1]


@pytest.mark.parametrize(
    ("confidence", "areas"),
    [
        ([0.9, 0.8, 0.7, 0.6, 0.5], (0.12, 0.47 / 3, 0.59 / 3, 0.04, 5 / 6)),
        ([0.9, 0.9, 0.7, 0.7, 0.5], (0.1, 0.115, None, 0.02, 11 / 12)),
        ([1.0] * 5, (0.2, 0.4, 0.4, 0.12, 0.5)),
    ],
)
def test_known_areas(confidence: Vector, areas: tuple[float | None, ...]) -> None:
    found = (
        augrc(confidence, LOSS),
        aurc(confidence, LOSS),
        aurc(confidence, LOSS, "mean"),
        e_augrc(confidence, LOSS),
        auroc_failure(confidence, LOSS),
    )
    for value, expected in zip(found, areas, strict=True):
        assert expected is None or value == pytest.approx(expected, abs=1e-12)


def dropped_one_by_one(s: Vector, ell: Vector) -> tuple[float, float]:
    """AURC and AUGRC as published: one point per distinct score, trapezoid, O(n^2)."""
    n = len(s)
    points = [
        (k / n, sum(accepted) / k, sum(accepted) / n)
        for t in sorted(set(s))
        for accepted in [[b for a, b in zip(s, ell, strict=True) if a >= t]]
        for k in [len(accepted)]
    ]
    points.append((0.0, points[-1][1], 0.0))
    pairs = list(pairwise(points))
    selective = sum((a[0] - b[0]) * (a[1] + b[1]) / 2 for a, b in pairs)
    return selective, sum((a[0] - b[0]) * (a[2] + b[2]) / 2 for a, b in pairs)


def random_tie_orders(s: Vector, ell: Vector, rng: np.random.Generator) -> float:
    """Mean prefix risk, averaged over random orders within ties."""
    areas = []
    for _ in range(4000):
        order = np.lexsort((rng.random(len(s)), -np.asarray(s)))
        areas.append((np.cumsum(np.asarray(ell)[order]) / np.arange(1, len(s) + 1)).mean())
    return float(np.mean(areas))


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("binary", [True, False])
def test_areas_equal_the_naive_twin(seed: int, binary: bool) -> None:
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 60))
    s = rng.integers(0, 12, n).astype(float)
    ell = (rng.random(n) < 0.4).astype(float) if binary else rng.normal(size=n)
    selective, generalized = dropped_one_by_one(s.tolist(), ell.tolist())
    assert aurc(s, ell) == pytest.approx(selective, abs=1e-12)
    assert augrc(s, ell) == pytest.approx(generalized, abs=1e-12)


def test_mean_estimator_is_the_expectation_over_tie_orders() -> None:
    s, ell = [3.0, 3.0, 3.0, 2.0, 2.0, 1.0], [1.0, 0.0, 0.0, 1.0, 0.0, 1.0]
    expected = random_tie_orders(s, ell, np.random.default_rng(0))
    assert aurc(s, ell, "mean") == pytest.approx(expected, abs=0.01)


def test_estimators_differ_by_the_ends_without_ties() -> None:
    rng = np.random.default_rng(3)
    s, ell = rng.random(40), rng.integers(0, 2, 40)
    ends = (ell[np.argmax(s)] - ell.mean()) / 80
    assert aurc(s, ell) - aurc(s, ell, "mean") == pytest.approx(ends, abs=1e-12)


@pytest.mark.parametrize("estimator", ["trapezoid", "mean"])
def test_perfect_ranking_has_no_excess(estimator: Literal["trapezoid", "mean"]) -> None:
    ell = np.arange(50) >= 41
    s = -np.arange(50.0)
    assert e_aurc(s, ell, estimator) == pytest.approx(0, abs=1e-14)
    assert e_aurc(-s, ell, estimator) > 0.1
    assert e_augrc(s, ell) == pytest.approx(0, abs=1e-14)


def test_excess_uses_the_finite_sample_optimum() -> None:
    n_right, n = 3, 5
    best = sum((k - n_right) / k for k in range(n_right + 1, n + 1)) / n
    s = [0.9, 0.8, 0.7, 0.6, 0.5]
    assert e_aurc(s, LOSS, "mean") == pytest.approx(0.59 / 3 - best, abs=1e-12)


def test_one_sample_and_pure_samples() -> None:
    assert (augrc([0.3], [1]), aurc([0.3], [1])) == (0.5, 1.0)
    s = np.arange(7.0)
    assert augrc(s, np.zeros(7)) == 0
    assert augrc(s, np.ones(7)) == pytest.approx(0.5)
    assert math.isnan(auroc_failure(s, np.zeros(7)))
    assert math.isnan(auroc_failure(s, np.ones(7)))


def test_curve_has_one_point_per_distinct_confidence() -> None:
    curve = risk_coverage_curve([0.9, 0.9, 0.7, 0.7, 0.5], LOSS)
    assert curve.threshold.tolist() == [0.9, 0.7, 0.5]
    assert curve.coverage.tolist() == pytest.approx([0.4, 0.8, 1.0])
    assert curve.risk.tolist() == pytest.approx([0.0, 0.25, 0.4])
    assert curve.generalized_risk.tolist() == pytest.approx([0.0, 0.2, 0.4])


def test_float32_scores_are_not_rounded_into_ties() -> None:
    s = np.array([0.5, np.nextafter(np.float32(0.5), np.float32(1))], dtype=np.float32)
    assert augrc(s, [1, 0]) == pytest.approx(0.125)


@pytest.mark.parametrize(("n", "c"), [(50, 0.14), (100, 0.07), (100, 0.28), (300, 0.55)])
def test_coverage_asked_for_in_decimals_takes_no_sample_too_many(n: int, c: float) -> None:
    point = risk_at_coverage(-np.arange(float(n)), np.zeros(n), c)
    assert point.coverage * n == pytest.approx(round(c * n))


def test_working_points_report_what_ties_allow() -> None:
    s = [0.9, 0.9, 0.7, 0.7, 0.5]
    point = risk_at_coverage(s, LOSS, 0.5)
    assert (point.risk, point.coverage, point.threshold) == (0.25, 0.8, 0.7)
    point = coverage_at_risk(s, LOSS, 0.25)
    assert (point.risk, point.coverage, point.threshold) == (0.25, 0.8, 0.7)


def test_coverage_at_risk_looks_past_a_bump() -> None:
    point = coverage_at_risk([5, 4, 3, 2, 1], [1, 0, 0, 0, 0], 0.2)
    assert point.coverage == 1


def test_nothing_qualifies() -> None:
    point = coverage_at_risk([2, 1], [1, 1], 0.5)
    assert math.isnan(point.risk)
    assert (point.coverage, point.threshold) == (0.0, math.inf)


def test_always_defer_is_never_a_working_point() -> None:
    s = [0.9, 0.8, -np.inf, -np.inf]
    assert coverage_at_risk(s, [0, 0, 0, 0], 0.5).threshold == 0.8
    assert risk_at_coverage(s, [0, 0, 0, 0], 1.0).coverage == 0.5
    assert coverage_at_risk([-np.inf], [0], 0.5).coverage == 0
    assert math.isnan(risk_at_coverage([-np.inf], [0], 0.5).risk)
    assert augrc(s, [0, 0, 1, 1]) == pytest.approx(0.125)


def test_population_areas() -> None:
    rng = np.random.default_rng(0)
    areas = []
    for _ in range(300):
        s = rng.random(500)
        ell = rng.random(500) < 0.05 + 0.4 * (1 - s) ** 2
        areas.append((augrc(s, ell), aurc(s, ell)))
    general, selective = np.mean(areas, axis=0)
    assert general == pytest.approx(0.0583333, abs=0.0015)
    assert selective == pytest.approx(0.0944444, abs=0.003)


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda: augrc([0.1, math.nan], [0, 1]), "confidence is nan in row 1"),
        (lambda: aurc([0.1, math.inf], [0, 1]), "confidence is inf in row 1"),
        (lambda: aurc([0.1, 0.2], [0, 1], UNKNOWN), '"trapezoid" or "mean", got \'median\''),
        (lambda: auroc_failure([0.1, 0.2], [0, 0.5]), "compares errors .* must be 0 or 1"),
        (lambda: auroc_failure([0.1, 0.2], [0, 2]), "auroc_failure compares errors"),
        (lambda: risk_at_coverage([0.1], [0], 0), r"coverage must be in \(0, 1\], got 0"),
        (lambda: coverage_at_risk([0.1], [0], math.nan), "risk must be at least 0, got nan"),
        (lambda: augrc([0.1, 0.2], [0]), "shape"),
    ],
)
def test_refusals(call: object, text: str) -> None:
    assert callable(call)
    with pytest.raises(DataError, match=text):
        call()
