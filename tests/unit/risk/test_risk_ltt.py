"""Learn-then-Test on grids: known p-values, every procedure by hand, what is refused."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.risk import (
    certify_pvalues,
    learn_then_test,
    loss_pvalues,
    pareto_order,
    union_pvalues,
)
from selectkit.stats import binomial_pvalue, wsr_pvalues


def test_the_pvalue_of_a_setting_is_that_of_its_worst_risk() -> None:
    errors = np.array([[0, 3], [2, 1], [9, 0]])
    p = union_pvalues(errors, [300, 200], [0.02, 0.05])
    first, second = (
        binomial_pvalue(errors[:, 0], 300, 0.02),
        binomial_pvalue(errors[:, 1], 200, 0.05),
    )
    assert (p == np.maximum(first, second)).all()
    assert union_pvalues([0, 5], [0, 100], 0.05) == pytest.approx([
        1,
        binomial_pvalue(5, 100, 0.05),
    ])


def test_counts_may_differ_by_setting_and_risk() -> None:
    n = np.array([[10, 400], [300, 200]])
    p = union_pvalues([[0, 0], [0, 0]], n, [0.05, 0.05])
    assert p == pytest.approx([0.95**10, 0.95**200])


def test_bonferroni_divides_by_the_settings_not_by_the_risks() -> None:
    found = learn_then_test([[0, 0]] * 4, 116, [0.05, 0.05], 0.0105)
    assert found.pvalues == pytest.approx([0.95**116] * 4)
    assert 0.0105 / 8 < 0.95**116 < 0.0105 / 4
    assert found.certified.all()
    tested = certify_pvalues([0.04, 0.9, 0.9, 0.04], 0.1, order=[0, 3])
    assert tested.certified.tolist() == [True, False, False, True]


def test_fixed_sequence_stops_at_the_first_failure() -> None:
    p = [0.01, 0.09, 0.11, 0.0]
    assert certify_pvalues(p, 0.1, procedure="fixed_sequence").certified.tolist() == [
        True, True, False, False,
    ]  # fmt: skip
    found = certify_pvalues(p, 0.1, procedure="fixed_sequence", order=[3, 2, 0, 1])
    assert found.certified.tolist() == [False, False, False, True]


def test_multi_start_hands_a_level_on_only_after_a_whole_stretch() -> None:
    def certified(p: list[float], starts: list[int]) -> list[bool]:
        found = certify_pvalues(p, 0.1, procedure="multi_start", starts=starts)
        return [bool(c) for c in found.certified]

    assert certified([0.05, 0.05, 0.09, 0.1], [0, 2]) == [True] * 4
    assert certified([0.05, 0.06, 0.05, 0.06], [0, 2]) == [True, False, True, False]
    assert certified([0.05, 0.06, 0.09, 0.0], [0, 2]) == [True, False, False, False]
    assert certified([0.0, 0.05, 0.0, 0.05], [1, 3]) == [False, True, True, True]


def test_the_best_certified_setting() -> None:
    found = certify_pvalues([0.01, 0.9, 0.02, 0.03], 0.1, procedure="bonferroni")
    assert found.certified.tolist() == [True, False, True, False]
    assert found.best([0.2, 0.9, 0.7, 0.8]) == 2
    assert found.best([0.7, 0.9, 0.7, 0.8]) == 0
    nothing = certify_pvalues([0.9])
    assert (nothing.feasible, nothing.best([1.0])) == (False, None)


def test_pareto_order_against_the_definition() -> None:
    rng = np.random.default_rng(0)
    p, value = rng.integers(0, 9, 60) / 10, rng.integers(0, 9, 60) / 10
    order = pareto_order(p, value)
    assert (np.diff(p[order]) > 0).all()
    for j in range(60):
        beaten = ((p <= p[j]) & (value >= value[j]) & ((p < p[j]) | (value > value[j]))).any()
        on_front = ((p[order] == p[j]) & (value[order] == value[j])).any()
        assert on_front == (not beaten)


def test_losses_between_zero_and_one() -> None:
    rng = np.random.default_rng(0)
    first, second = rng.beta(2, 98, (400, 3)), rng.beta(2, 8, (300, 3))
    p = loss_pvalues([first, second], [0.05, 0.25], np.random.default_rng(1))
    again = np.random.default_rng(1)
    single = [wsr_pvalues(first, 0.05, again), wsr_pvalues(second, 0.25, again)]
    assert (p == np.maximum(*single)).all()
    assert certify_pvalues(p, 0.1).certified.all()
    nobody = np.zeros((300, 3), dtype=bool)
    part = loss_pvalues([second], [0.25], np.random.default_rng(1), counted=[nobody])
    assert (part == 1).all()


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: learn_then_test([[1, 2]], 9, [0.1]), DataError, r"got \(1, 2\) and \(1,\)"),
        (lambda: learn_then_test([[1, 2]], [9, 9, 9], [0.1, 0.1]), DataError, "does not broadcast"),
        (lambda: learn_then_test([10], [9], 0.1), DataError, "errors must lie between 0 and n"),
        (lambda: learn_then_test([0.5], [9], 0.1), DataError, "errors must be integer counts"),
        (lambda: learn_then_test([1], [9], 1.1), RiskError, "alpha must be strictly"),
        (
            lambda: certify_pvalues([0.1, np.nan]),
            DataError,
            r"pvalues must lie in \[0, 1\], got nan",
        ),
        (lambda: certify_pvalues([0.1], 0.0), RiskError, "delta must be strictly"),
        (lambda: certify_pvalues([0.1], starts=[0]), RiskError, 'belong to the procedure "multi_s'),
        (lambda: certify_pvalues([0.1], order=[0, 0]), RiskError, "distinct indices from 0 to 0"),
        (lambda: certify_pvalues([0.1], order=[0.5]), RiskError, "order must hold indices"),
        (
            lambda: certify_pvalues([0.1], procedure="multi_start"),
            RiskError,
            "starts must be integ",
        ),
        (
            lambda: certify_pvalues([0.1] * 3, procedure="multi_start", starts=[1, 7]),
            RiskError,
            r"starts must be indices in \[0, 3\), got \[1, 7\]",
        ),
        (lambda: pareto_order([0.1], [np.nan]), DataError, r"objective must be numbers of shape"),
        (lambda: pareto_order([np.nan], [1.0]), DataError, "pvalues must be numbers of shape"),
        (
            lambda: loss_pvalues([[[0.5]]], [0.1, 0.2], np.random.default_rng(0)),
            DataError,
            "got 1, 2 and 1",
        ),
        (
            lambda: loss_pvalues([[[0.5]], [[0.5, 0]]], [0.1, 0.2], np.random.default_rng(0)),
            DataError,
            r"different numbers of settings: \[1, 2\]",
        ),
    ],
)
def test_refusals(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()


def test_an_unknown_procedure_is_refused() -> None:
    other: Any = "holm"
    with pytest.raises(RiskError, match=r"procedure must be .* got 'holm'"):
        certify_pvalues([0.1], procedure=other)
