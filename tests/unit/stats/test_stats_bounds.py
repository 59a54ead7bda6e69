"""Known values, edge cases and refusals of the bounds."""

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selectkit.errors import DataError, RiskError
from selectkit.stats import (
    binomial_pvalue,
    clopper_pearson_lower,
    clopper_pearson_upper,
    hoeffding_bentkus_pvalue,
    wsr_upper,
)


@pytest.mark.parametrize(
    ("errors", "n", "bound"),
    [
        (0, 100, 0.029513),
        (1, 100, 0.04656),
        (5, 100, 0.102253),
        (0, 149, 0.019905),
        (20, 1000, 0.02893),
    ],
)
def test_clopper_pearson_known_values(errors: int, n: int, bound: float) -> None:
    assert clopper_pearson_upper(errors, n, 0.05) == pytest.approx(bound, abs=6e-7)


def test_clopper_pearson_inverts_the_binomial_tail() -> None:
    errors, n = np.array([0, 3, 17]), np.array([40, 40, 300])
    upper = clopper_pearson_upper(errors, n, 0.1)
    lower = clopper_pearson_lower(errors, n, 0.1)
    assert scipy_stats.binom.cdf(errors, n, upper) == pytest.approx([0.1] * 3)
    assert scipy_stats.binom.sf(errors[1:] - 1, n[1:], lower[1:]) == pytest.approx([0.1] * 2)
    assert lower[0] == 0


def test_clopper_pearson_without_samples_promises_nothing() -> None:
    assert clopper_pearson_upper(0, 0, 0.1) == 1
    assert clopper_pearson_lower(0, 0, 0.1) == 0
    assert clopper_pearson_upper(7, 7, 0.1) == 1
    assert clopper_pearson_upper(0, 20, 0.1) == pytest.approx(1 - 0.1 ** (1 / 20))
    assert clopper_pearson_lower(20, 20, 0.1) == pytest.approx(0.1 ** (1 / 20))


def test_scalars_give_floats_and_arrays_broadcast() -> None:
    assert isinstance(clopper_pearson_upper(1, 10, 0.1), float)
    assert isinstance(binomial_pvalue(np.int64(1), 10, 0.1), float)
    assert clopper_pearson_upper(np.arange(4), 10, 0.1).shape == (4,)
    assert binomial_pvalue(1, np.arange(5, 8), 0.1).shape == (3,)


def test_binomial_pvalue_is_the_exact_tail() -> None:
    assert binomial_pvalue(10, 1000, 0.02) == pytest.approx(0.01024, abs=5e-6)
    n = np.arange(1, 60)
    for k in (0, 1, 5):
        sizes = n[n >= k]
        exact = scipy_stats.binom.cdf(k, sizes, 0.13)
        assert binomial_pvalue(k, sizes, 0.13) == pytest.approx(exact, rel=1e-12)
    assert binomial_pvalue(0, 0, 0.5) == 1


def test_pvalue_and_bound_agree_at_the_decision() -> None:
    errors, n = np.arange(0, 30), 400
    certified = binomial_pvalue(errors, n, 0.05) <= 0.1
    assert (certified == (clopper_pearson_upper(errors, n, 0.1) <= 0.05)).all()
    assert 0 < certified.sum() < 30


def test_hoeffding_bentkus_known_value_and_edges() -> None:
    assert hoeffding_bentkus_pvalue(0.01, 1000, 0.02) == pytest.approx(0.02783, abs=5e-6)
    assert hoeffding_bentkus_pvalue(0.0, 100, 0.05) == pytest.approx(0.95**100)
    assert hoeffding_bentkus_pvalue(0.5, 100, 0.05) == 1
    assert hoeffding_bentkus_pvalue(0.07, 100, 0.1) <= np.e * binomial_pvalue(7, 100, 0.1)


def test_wsr_is_tight_for_small_variance_and_deterministic() -> None:
    x = np.random.default_rng(0).beta(2, 98, 500)
    first = wsr_upper(x, 0.1, np.random.default_rng(1))
    assert first == wsr_upper(x, 0.1, np.random.default_rng(1))
    assert x.mean() < first < 0.026  # Hoeffding: 0.068


def test_wsr_edges() -> None:
    assert wsr_upper(np.ones(50), 0.1, np.random.default_rng(0)) == 1
    assert wsr_upper(np.zeros(1), 0.1, np.random.default_rng(0)) == 1
    assert wsr_upper(np.zeros(1000), 0.1, np.random.default_rng(0)) < 0.01


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: clopper_pearson_upper(3, 2, 0.1), DataError, "between 0 and n"),
        (lambda: clopper_pearson_lower(-1, 2, 0.1), DataError, "between 0 and n"),
        (lambda: binomial_pvalue(np.array([0.5]), 2, 0.1), DataError, "errors must be integer"),
        (lambda: clopper_pearson_upper(0, 2, 1.0), RiskError, "delta must be strictly .* got 1.0"),
        (lambda: binomial_pvalue(0, 2, 2.0), RiskError, "alpha must be strictly .* got 2.0"),
        (lambda: hoeffding_bentkus_pvalue(1.5, 9, 0.1), DataError, "mean_loss must lie in"),
        (lambda: hoeffding_bentkus_pvalue(0.5, 0, 0.1), DataError, "n must be at least 1, got 0"),
        (
            lambda: wsr_upper([0.5, 2.0], 0.1, np.random.default_rng(0)),
            DataError,
            r"losses must lie in \[0, 1\], got 0.5 to 2",
        ),
    ],
)
def test_refusals(call: object, error: type[Exception], text: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=text):
        call()
