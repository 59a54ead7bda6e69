"""Empirical Bernstein bounds: formula, edges and refusals."""

import numpy as np
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.stats.bernstein import bernstein_lower, bernstein_upper


def test_formula_of_theorem_4() -> None:
    x = np.random.default_rng(0).beta(1, 4, 200)
    nats = np.log(2 / 0.1)
    margin = np.sqrt(2 * x.var(ddof=1) * nats / 200) + 7 * nats / (3 * 199)
    assert bernstein_upper(x, 0.1) == pytest.approx(x.mean() + margin)
    assert bernstein_lower(x, 0.1) == pytest.approx(x.mean() - margin)


def test_columns_are_bounded_each_for_itself() -> None:
    x = np.random.default_rng(1).random((50, 3))
    upper, lower = bernstein_upper(x, 0.2), bernstein_lower(x, 0.2)
    assert upper == pytest.approx([bernstein_upper(column, 0.2) for column in x.T])
    assert lower == pytest.approx([bernstein_lower(column, 0.2) for column in x.T])
    assert isinstance(bernstein_upper(x[:, 0], 0.2), float)


def test_bounds_stay_in_the_unit_interval() -> None:
    assert bernstein_upper([0.5], 0.1) == 1
    assert bernstein_lower([0.5], 0.1) == 0
    assert bernstein_upper([1.0] * 9, 0.1) == 1
    assert bernstein_lower([0.0] * 9, 0.1) == 0
    assert 0.98 < bernstein_lower([True] * 1000, 0.1) < 1


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        ([0.1, np.nan], "got nan in row 1"),
        ([0.1, 0.2, -1e-9], "row 2"),
        ([[0.1, 2.0]], "got 2 in row 0"),
        ([np.inf], "got inf"),
        ([], "N >= 1"),
        (0.5, "shape"),
        (np.zeros((2, 2, 2)), "shape"),
        (["a"], "real numbers"),
        ([1 + 1j], "real numbers"),
    ],
)
def test_refusals(losses: object, words: str) -> None:
    with pytest.raises(DataError, match=words):
        bernstein_upper(losses, 0.1)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=words):
        bernstein_lower(losses, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize("delta", [0.0, 1.0, -1, np.nan])
def test_delta_must_be_a_level(delta: float) -> None:
    with pytest.raises(RiskError, match="delta"):
        bernstein_upper([0.1, 0.2], delta)
