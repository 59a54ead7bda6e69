"""Laws that hold for every sample, ties included."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit.metrics import (
    accuracy,
    augrc,
    aurc,
    auroc_failure,
    bootstrap_weights,
    coverage_at_risk,
    curve_statistics,
    e_augrc,
    fnr,
    miss_rate,
    risk_at_coverage,
    risk_coverage_curve,
)

Rows = list[tuple[int, bool]]
ROWS = st.lists(st.tuples(st.integers(-6, 6), st.booleans()), min_size=1, max_size=40)
laws = settings(derandomize=True, deadline=None, max_examples=150)


def split(rows: Rows) -> tuple[list[float], list[float]]:
    return [float(s) for s, _ in rows], [float(e) for _, e in rows]


@laws
@given(ROWS)
def test_augrc_is_bounded_by_the_best_and_the_worst_ranking(rows: Rows) -> None:
    s, e = split(rows)
    rate = float(np.mean(e))
    assert 0 <= rate**2 / 2 <= augrc(s, e) + 1e-12
    assert augrc(s, e) <= rate - rate**2 / 2 + 1e-12
    assert e_augrc(s, e) >= -1e-12


@laws
@given(ROWS)
def test_augrc_of_both_directions_sums_to_the_error(rows: Rows) -> None:
    s, e = split(rows)
    reverse = [-v for v in s]
    assert augrc(s, e) + augrc(reverse, e) == pytest.approx(float(np.mean(e)), abs=1e-12)


@laws
@given(ROWS)
def test_augrc_follows_from_the_failure_auroc(rows: Rows) -> None:
    s, e = split(rows)
    rate, area = float(np.mean(e)), auroc_failure(s, e)
    if not math.isnan(area):
        expected = rate * (1 - rate) * (1 - area) + rate**2 / 2
        assert augrc(s, e) == pytest.approx(expected, abs=1e-12)


@laws
@given(ROWS)
def test_nothing_depends_on_row_order_or_on_the_scale(rows: Rows) -> None:
    s, e = split(rows)
    order = np.random.default_rng(len(rows)).permutation(len(rows))
    stretched = np.exp(np.asarray(s))[order]
    shuffled = np.asarray(e)[order]
    assert augrc(stretched, shuffled) == pytest.approx(augrc(s, e), abs=1e-12)
    assert aurc(stretched, shuffled) == pytest.approx(aurc(s, e), abs=1e-12)
    assert aurc(stretched, shuffled, "mean") == pytest.approx(aurc(s, e, "mean"), abs=1e-12)


@laws
@given(ROWS, st.floats(0.01, 1))
def test_working_points_lie_on_the_curve(rows: Rows, level: float) -> None:
    s, e = split(rows)
    curve = risk_coverage_curve(s, e)
    at_coverage, at_risk = risk_at_coverage(s, e, level), coverage_at_risk(s, e, level)
    i = int(np.flatnonzero(curve.threshold == at_coverage.threshold)[0])
    assert curve.coverage[i] >= level - 1e-9
    assert i == 0 or curve.coverage[i - 1] < level
    fits = curve.coverage[curve.risk <= level]
    assert at_risk.coverage == (fits.max() if fits.size else 0)


@laws
@given(ROWS)
def test_uniform_weights_change_nothing(rows: Rows) -> None:
    s, e = split(rows)
    twice = np.full((1, len(s)), 2)
    found = curve_statistics(["augrc", "aurc"], s, e)(twice)
    assert found["augrc"][0] == pytest.approx(augrc(s, e), abs=1e-12)
    assert found["aurc"][0] == pytest.approx(aurc(s, e), abs=1e-12)


@laws
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2), st.booleans()), min_size=1))
def test_misses_never_outnumber_the_false_negatives(rows: list[tuple[int, int, bool]]) -> None:
    y, guess, taken = (np.asarray(column) for column in zip(*rows, strict=True))
    narrow, wide = miss_rate(y, guess, taken), fnr(y, guess, taken)
    if not math.isnan(wide):
        assert narrow <= wide + 1e-12
    assert 0 <= accuracy(y, guess) <= 1


@laws
@given(st.integers(1, 40), st.integers(1, 30))
def test_resamples_have_the_size_of_the_sample(n: int, b: int) -> None:
    rows = list(bootstrap_weights(n, b, None, np.random.default_rng(n)))
    assert sum(len(chunk) for chunk in rows) == b
    assert all((chunk.sum(axis=1) == n).all() for chunk in rows)
