"""Prediction sets: their definitions row by row, and nestedness."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit.errors import ConfigError
from selectkit.policies.sets import SETS, entering, entering_of, members, second_entering

Floats = npt.NDArray[np.float64]


def naive(sets: str, p: list[float], lam: float) -> set[int]:
    """The set by its definition, for generic lambda."""
    classes = range(len(p))
    top = max(classes, key=lambda k: p[k])
    if sets == "threshold":
        return {top} | {k for k in classes if p[k] >= 1 - lam}
    if sets == "cumulative":
        order = sorted(classes, key=lambda k: -p[k])
        return {k for r, k in enumerate(order) if r == 0 or sum(p[j] for j in order[:r]) <= lam}
    low = high = top
    while sum(p[low : high + 1]) <= lam and high - low + 1 < len(p):
        below = p[low - 1] if low > 0 else -1.0
        over = p[high + 1] if high + 1 < len(p) else -1.0
        low, high = (low - 1, high) if below >= over else (low, high + 1)
    return set(range(low, high + 1))


def drawn(n: int, k: int, seed: int) -> Floats:
    return np.random.default_rng(seed).dirichlet(np.full(k, 0.5), n)


@pytest.mark.parametrize("sets", SETS)
@pytest.mark.parametrize("k", [2, 3, 7])
def test_sets_are_those_of_the_definition(sets: str, k: int) -> None:
    p = drawn(60, k, k)
    for lam in np.random.default_rng(0).random(20):
        got = members(sets, p, lam)
        for row, inside in zip(p, got, strict=True):
            assert set(np.flatnonzero(inside).tolist()) == naive(sets, row.tolist(), float(lam))


@pytest.mark.parametrize("sets", SETS)
@given(
    seed=st.integers(0, 10_000), k=st.integers(2, 9), digits=st.integers(0, 3),
    lams=st.lists(st.floats(0, 1), min_size=2, max_size=6),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_sets_are_nested_and_hold_the_prediction(
    sets: str, seed: int, k: int, digits: int, lams: list[float]
) -> None:
    """Also with ties and zeros; at lambda = 1 every class is in."""
    weights = drawn(20, k, seed).round(digits) + (10.0**-digits) * (seed % 2)
    weights[weights.sum(axis=1) == 0] = 1.0
    p = weights / weights.sum(axis=1, keepdims=True)
    before = np.zeros((20, k), dtype=bool)
    for lam in [0.0, *sorted(lams), 1.0]:
        now = members(sets, p, lam)
        assert (now | ~before).all()
        assert now[np.arange(20), p.argmax(axis=1)].all()
        if sets == "ordinal":
            assert (np.diff(now.astype(int), axis=1, prepend=0, append=0) == 1).sum() == 20
        before = now
    assert before.all()
    e = entering(sets, p)
    y = np.random.default_rng(seed).integers(0, k, 20)
    np.testing.assert_array_equal(entering_of(sets, p, y), e[np.arange(20), y])
    np.testing.assert_array_equal(second_entering(sets, p), np.sort(e, axis=1)[:, 1])


def test_two_classes_have_three_sets_and_the_rules_agree() -> None:
    p = drawn(100, 2, 0)
    for lam in (0.0, 0.6, 0.8, 1.0):
        got = [members(sets, p, lam) for sets in SETS]
        assert all((g == got[0]).all() for g in got)
        np.testing.assert_array_equal(got[0].sum(axis=1), 1 + (p.max(axis=1) <= lam))


def test_many_rows_are_worked_on_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    p, y = drawn(100, 5, 1), np.arange(100) % 5
    whole = entering_of("ordinal", p, y)
    monkeypatch.setattr("selectkit.policies.sets._BLOCK", 35)
    np.testing.assert_array_equal(entering_of("ordinal", p, y), whole)


def test_unknown_rules_are_refused() -> None:
    with pytest.raises(ConfigError, match="sets 'top2' are unknown; known: threshold, cumul"):
        members("top2", drawn(3, 3, 0), 0.5)
