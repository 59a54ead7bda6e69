"""Conformal risk control: exact budgets, both ends, what is refused."""

import json
import math
from collections.abc import Callable

import numpy as np
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.risk import Certificate, Infeasible, crc_lambda, crc_threshold


def certified(answer: Certificate | Infeasible) -> Certificate:
    assert isinstance(answer, Certificate), answer.message()
    assert answer.kind == "expectation"
    return answer


def infeasible(answer: Certificate | Infeasible) -> Infeasible:
    assert isinstance(answer, Infeasible), answer.sentence()
    return answer


@pytest.mark.parametrize(("alpha", "least"), [(0.01, 99), (0.02, 49), (0.05, 19), (0.10, 9)])
def test_the_number_that_suffices(alpha: float, least: int) -> None:
    short = infeasible(crc_threshold(np.arange(least - 1), np.ones(least - 1), alpha=alpha))
    assert (short.needs, short.n) == (least, least - 1)
    assert short.message() == (
        f"INFEASIBLE: miss_rate <= {alpha:g} on average over calibration splits cannot be "
        f"certified: {least - 1} positives in the calibration split, needs at least {least} "
        "positives."
    )
    assert crc_threshold(np.arange(least), np.ones(least), alpha=alpha).feasible
    assert Infeasible.from_dict(json.loads(json.dumps(short.to_dict()))) == short


@pytest.mark.parametrize("alpha", [0.01, 0.02, 0.05, 0.1, 0.3])
def test_the_budget_is_the_exact_count(alpha: float) -> None:
    for n in range(math.ceil(1 / alpha - 1 - 1e-9), 400):
        found = certified(crc_threshold(-np.arange(float(n)), np.ones(n), alpha=alpha))
        allowed = int(alpha * (n + 1) - 1 + 1e-9)
        assert (found.errors, found.n_accepted) == (allowed, allowed)
        assert found.risk_upper == pytest.approx((allowed + 1) / (n + 1))
        assert found.risk_upper <= alpha + 1e-11 < (allowed + 2) / (n + 1)


def test_a_larger_bound_costs_more_samples_and_losses() -> None:
    s, loss = -np.arange(300.0), np.full(300, 2.5)
    found = certified(crc_threshold(s, loss, alpha=0.1, bound=5.0))
    assert found.errors == int((0.1 * 301 - 5) / 2.5)
    assert found.mean_loss == pytest.approx(found.errors * 2.5 / 300)
    assert "mean loss 0.0833, 10 errors among 10 accepted" in found.sentence()
    assert infeasible(crc_threshold(s[:48], loss[:48], alpha=0.1, bound=5.0)).needs == 49


def test_everything_and_nothing_are_answers_of_their_own() -> None:
    s = np.append(np.linspace(0, 1, 100), -np.inf)
    everything = certified(crc_threshold(s, np.zeros(101), alpha=0.05))
    assert (everything.threshold, everything.n_accepted) == (np.finfo(float).min, 100)
    nothing = certified(crc_threshold(np.ones(30), np.ones(30), alpha=0.05))
    assert (nothing.threshold, nothing.n_accepted) == (np.nextafter(1, 2), 0)
    deferred = certified(crc_threshold([-np.inf] * 30, np.ones(30), alpha=0.05))
    assert (deferred.n_accepted, deferred.errors) == (0, 0)


def test_rows_in_any_order_and_ties_as_one() -> None:
    rng = np.random.default_rng(0)
    s, loss = rng.integers(0, 12, 500) / 12, rng.random(500) ** 9
    found = certified(crc_threshold(s, loss, alpha=0.04))
    order = rng.permutation(500)
    again = certified(crc_threshold(s[order], loss[order], alpha=0.04))
    assert (again.threshold, again.n_accepted) == (found.threshold, found.n_accepted)
    budget = 0.04 * 501 - 1
    for t in np.append(np.unique(s), 2):  # the naive twin
        assert (loss[s >= t].sum() <= budget) == (t >= found.threshold)


def test_a_grid_of_lambdas_has_its_own_ends() -> None:
    lambdas = [0.1, 0.2, 0.3, 0.4]
    steps = np.array([[1, 1, 0, 0]] * 3 + [[1, 0, 0, 0]] * 57, dtype=float)
    found = certified(crc_lambda(steps, lambdas, alpha=0.1))
    assert (found.threshold, found.errors) == (0.2, 3)  # (3 + 1) / 61 <= 0.1
    assert certified(crc_lambda(steps * 0, lambdas, alpha=0.1)).threshold == 0.1
    strict = certified(crc_lambda(steps, lambdas, alpha=0.05))
    assert (strict.threshold, strict.errors) == (0.3, 0)
    never = np.tile([1.0, 0.9], (60, 1))
    answer = infeasible(crc_lambda(never, [0, 1], alpha=0.5))
    assert answer.needs is None
    assert (
        answer.reason == "the mean loss at the largest lambda is 0.9, so more labels will not help"
    )
    assert infeasible(crc_lambda(never[:8], [0, 1], alpha=0.1)).needs == 9


def test_what_would_suffice_at_the_largest_lambda_suffices() -> None:
    almost = np.tile([1.0, 0.495], (60, 1))
    needs = infeasible(crc_lambda(almost, [0, 1], alpha=0.5)).needs
    assert needs == 100
    assert crc_lambda(np.tile([1.0, 0.495], (100, 1)), [0, 1], alpha=0.5).feasible
    assert not crc_lambda(np.tile([1.0, 0.495], (99, 1)), [0, 1], alpha=0.5).feasible


def test_rising_losses_are_refused_or_bounded() -> None:
    bumpy = np.tile([0.0, 0.5, 0.0], (60, 1))
    with pytest.raises(DataError, match="in row 0 they do from column 0 to 1"):
        crc_lambda(bumpy, [0, 1, 2], alpha=0.1)
    found = certified(crc_lambda(bumpy, [0, 1, 2], alpha=0.1, monotonise=True))
    assert (found.threshold, found.errors) == (2, 0)
    assert "monotonised" in found.method


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: crc_threshold([1], [0], alpha=1.0), RiskError, "alpha must lie strictly between"),
        (
            lambda: crc_threshold([1], [0], alpha=0.1, bound=0),
            RiskError,
            "bound must be a positive",
        ),
        (lambda: crc_threshold([1], [0], alpha=0.1, delta=1), RiskError, "delta must be strictly"),
        (
            lambda: crc_threshold([1], [2], alpha=0.1),
            DataError,
            r"losses must lie in \[0, 1\], got 2",
        ),
        (lambda: crc_threshold([np.nan], [0], alpha=0.1), DataError, "confidence is nan in row 0"),
        (lambda: crc_lambda([[np.nan]], [1], alpha=0.1), DataError, "losses is nan in row 0"),
        (lambda: crc_lambda([[0, 0]], [1, 1], alpha=0.1), RiskError, "lambdas must be 2 rising"),
        (lambda: crc_lambda([[0, 0]], [1], alpha=0.1), RiskError, "lambdas must be 2 rising"),
    ],
)
def test_refusals(call: Callable[[], object], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        call()
