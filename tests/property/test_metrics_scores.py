"""Areas of any confidences: ties, signed zeros, subnormal numbers, -inf, float32."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit import metrics as m
from tests.unit.metrics import naive_metrics as naive

Floats = npt.NDArray[np.float64]
Rows = list[tuple[float, float]]

EPS, TINY = float(np.finfo(np.float64).eps), 5e-324
EDGES = [0.0, -0.0, TINY, -TINY, 2 * TINY, 3 * TINY, 2.3e-308, -2.3e-308, 0.5, 0.5 + EPS]
EDGES += [0.5 - EPS / 2, 1.0, 1 - EPS / 2, 1 + EPS, 1e308, -1e308, float("-inf")]
SCORES = st.one_of(
    st.sampled_from(EDGES),
    st.integers(-4, 4).map(float),
    st.floats(allow_nan=False, allow_infinity=False),
)
ERRORS = st.sampled_from([0.0, 1.0])
REALS = st.floats(-10, 10).map(lambda x: round(x, 3))
laws = settings(derandomize=True, deadline=None, max_examples=120)


def rows_of(losses: st.SearchStrategy[float]) -> st.SearchStrategy[Rows]:
    return st.lists(st.tuples(SCORES, losses), min_size=1, max_size=30)


def split(rows: Rows) -> tuple[Floats, Floats]:
    s, ell = (np.array(column) for column in zip(*rows, strict=True))
    return s, ell


def close(value: float) -> object:
    return pytest.approx(value, abs=1e-12, rel=1e-12, nan_ok=True)


def agrees(s: Floats, ell: Floats) -> None:
    expected = {
        "aurc": naive.aurc(s, ell),
        "aurc_mean": naive.aurc_mean(s, ell),
        "augrc": naive.augrc(s, ell),
        "error": float(ell.mean()),
    }
    single = {"aurc": m.aurc(s, ell), "aurc_mean": m.aurc(s, ell, "mean"), "augrc": m.augrc(s, ell)}
    together = m.selective_metrics(list(expected), s, ell)
    weighted = m.curve_statistics(list(expected), s, ell)(np.ones((1, len(s)), dtype=np.uint8))
    for name, value in expected.items():
        assert single.get(name, value) == close(value), name
        assert together[name] == close(value), name
        assert weighted[name][0] == close(value), name


@laws
@given(rows_of(ERRORS))
def test_areas_of_errors_equal_the_naive_ones(rows: Rows) -> None:
    s, e = split(rows)
    agrees(s, e)
    if 0 < e.sum() < len(e):
        assert m.auroc_failure(s, e) == close(naive.auroc(s[e == 0], s[e == 1]))


@laws
@given(rows_of(REALS))
def test_areas_of_real_losses_equal_the_naive_ones(rows: Rows) -> None:
    agrees(*split(rows))


def test_the_least_number_is_not_zero() -> None:
    """Its last bit is its only one, and between two of them lies a zero."""
    s, e = np.array([1.0, TINY, 0.0, TINY]), np.array([1.0, 0.0, 0.0, 0.0])
    assert m.aurc(s, e) == close(naive.aurc(s, e))
    agrees(s, e)


TRANSFORMS: list[Callable[[Floats], Floats]] = [
    lambda rank: rank * 1e-300,
    lambda rank: np.exp(rank),
    lambda rank: rank**3 - 1e6,
    lambda rank: 1 - 2.0**-rank,
    lambda rank: TINY * rank,
]


@laws
@given(rows_of(ERRORS), st.sampled_from(TRANSFORMS))
def test_increasing_transforms_change_nothing(
    rows: Rows, transform: Callable[[Floats], Floats]
) -> None:
    s, e = split(rows)
    s = np.where(np.isinf(s), -1.7e308, s)
    other = transform(np.unique(s, return_inverse=True)[1].astype(float))
    names = ["aurc", "aurc_mean", "augrc", "e_aurc", "e_augrc"]
    assert m.selective_metrics(names, s, e) == m.selective_metrics(names, other, e)


@laws
@given(rows_of(ERRORS))
def test_bounds_and_identities(rows: Rows) -> None:
    s, e = split(rows)
    s = np.where(np.isinf(s), -1.7e308, s)
    rate, area = float(e.mean()), m.augrc(s, e)
    assert area + m.augrc(-s, e) == close(rate)
    assert rate**2 / 2 - 1e-12 <= area <= rate - rate**2 / 2 + 1e-12
    assert m.e_augrc(s, e) == close(area - rate**2 / 2)
    assert 0 <= m.aurc(s, e) <= 1
    if 0 < rate < 1:
        failure = m.auroc_failure(s, e)
        assert area == close(rate * (1 - rate) * (1 - failure) + rate**2 / 2)
        assert failure + m.auroc_failure(-s, e) == close(1)
        assert failure == close(m.auroc(s, e == 0))


@laws
@given(rows_of(REALS))
def test_areas_are_linear_in_the_loss(rows: Rows) -> None:
    s, ell = split(rows)
    for metric in (m.aurc, m.augrc):
        shift = 1.0 if metric is m.aurc else 0.5
        assert metric(s, 3 * ell + 2) == close(3 * metric(s, ell) + 2 * shift)


@laws
@given(st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=30))
def test_float32_confidences_are_compared_as_they_are(rows: list[tuple[float, bool]]) -> None:
    s, e = np.array([r[0] for r in rows], dtype=np.float32), np.array([r[1] for r in rows])
    wide = s.astype(np.float64)
    assert m.aurc(s, e) == m.aurc(wide, e) == close(naive.aurc(wide, e.astype(float)))
    assert m.augrc(s, e) == m.augrc(wide, e)


@laws
@given(rows_of(ERRORS), st.floats(1e-16, 1))
def test_working_points_never_include_those_that_are_always_deferred(
    rows: Rows, level: float
) -> None:
    s, e = split(rows)
    point = m.risk_at_coverage(s, e, level)
    usable = s > -np.inf
    if not usable.any():
        assert point.coverage == 0
        return
    covered = [(c, r) for c, r, _ in naive.curve(s, e)]
    reachable = [(c, r) for c, r in covered if c <= usable.mean() + 1e-12]
    enough = [(c, r) for c, r in reachable if c >= level - 1e-9 / len(s)] or reachable[-1:]
    assert (point.coverage, point.risk) == (close(enough[0][0]), close(enough[0][1]))


@laws
@given(rows_of(ERRORS), st.lists(st.integers(0, 2), min_size=30, max_size=30))
def test_balanced_areas_equal_the_published_ones(rows: Rows, classes: list[int]) -> None:
    s, e = split(rows)
    y = np.array(classes[: len(s)])
    assert m.aurc_balanced(s, e, y) == close(naive.aurc_balanced(s, e, y))
    assert m.augrc_balanced(s, e, y) == close(naive.augrc_balanced(s, e, y))
    assert m.augrc_balanced(s, e, np.zeros(len(s), dtype=int)) == close(m.augrc(s, e))
    assert m.aurc_balanced(s, e, np.full(len(s), "a")) == close(m.aurc(s, e))
