"""Selective conformal risk control: hand-computed cases, edges and refusals."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.errors import DataError, RiskError
from selectkit.risk import (
    Certificate,
    Infeasible,
    Misses,
    SelectiveSets,
    certify_singletons,
    joint_certificate,
    scrc_i,
    scrc_split_pac,
    scrc_t,
)
from selectkit.risk.budget import errors_affordable
from selectkit.risk.scrc_loss_grid import LossGrid

Floats = npt.NDArray[np.float64]
RNG = np.random.default_rng(0)
S, E = RNG.random(500), RNG.random(500) * (RNG.random(500) < 0.3)
GRID = np.linspace(0, 1, 101)
MATRIX = E[:, None] > GRID


def found(answer: SelectiveSets | Infeasible) -> SelectiveSets:
    assert isinstance(answer, SelectiveSets)
    return answer


def missing(answer: SelectiveSets | Infeasible) -> Infeasible:
    assert isinstance(answer, Infeasible)
    return answer


@pytest.mark.parametrize("xi", [0.1, 0.5, 0.8, 0.9, 0.99])
@pytest.mark.parametrize("n", [99, 200, 500])
def test_the_one_pass_rule_is_selection_among_n_plus_1(n: int, xi: float) -> None:
    """The definition: select the M largest of n + 1 with each test row, then control the risk."""
    s, e, alpha = S[:n], E[:n], 0.1
    rule = found(scrc_t(s, Misses.of(e), xi=xi, alpha=alpha))
    rank = round(np.ceil(round(xi * (n + 1), 9)))
    for new in np.linspace(-0.1, 1.1, 25):
        everyone = np.append(s, new)
        selected = everyone >= np.sort(everyone)[::-1][rank - 1]
        assert selected[-1] == (new > rule.threshold)
        if selected[-1]:
            mates = e[selected[:-1]]
            fits = [lam for lam in np.append(0.0, e) if (mates > lam).sum() + 1 <= alpha * rank]
            assert rule.lambda2 == min(fits)


def test_a_matrix_and_entering_lambdas_agree_up_to_the_grid() -> None:
    for rule in (scrc_t, scrc_split_pac, joint_certificate):
        whole, grid = found(rule(S, Misses.of(E))), found(rule(S, MATRIX, GRID))
        assert whole.threshold == grid.threshold
        assert grid.lambda2 == GRID[np.searchsorted(GRID, whole.lambda2)]
        assert found(rule(S, MATRIX.astype(np.float32), GRID)) == grid


def test_promises_are_of_the_right_kind() -> None:
    kinds = {
        "t": found(scrc_t(S, Misses.of(E))),
        "split": found(scrc_split_pac(S, Misses.of(E))),
        "pac": found(scrc_split_pac(S, Misses.of(E), coverage="pac")),
        "joint": found(joint_certificate(S, Misses.of(E))),
        "i": found(scrc_i(S, Misses.of(E), reference=True)),
    }
    said = {k: tuple(c.kind for c in r.certificates) for k, r in kinds.items()}
    assert said == {
        "t": ("expectation", "expectation"),
        "split": ("pac", "expectation"),
        "pac": ("pac", "pac"),
        "joint": ("pac", "pac"),
        "i": ("none", "none"),
    }
    for name, r in kinds.items():
        risk, deferral = r.certificates
        assert (risk.alpha, deferral.alpha) == (0.05, 0.2)
        assert risk.threshold == deferral.threshold == np.nextafter(r.threshold, np.inf)
        if name != "i":
            assert risk.risk_upper <= 0.05
            assert deferral.risk_upper <= 0.2 + 1e-12


def test_order_of_rows_does_not_matter() -> None:
    order = RNG.permutation(500)
    for rule in (scrc_t, joint_certificate):
        assert found(rule(S, Misses.of(E))) == found(rule(S[order], Misses.of(E[order])))


def test_budgets_survive_rounding() -> None:
    """0.05 * 20 - 1 and 0.1 * 30 - 1 are whole numbers, whatever float64 says; so is 0.7 * 10."""
    s = np.arange(9.0)
    assert found(scrc_t(s, Misses.of(np.zeros(9)), xi=0.7, alpha=0.2)).n_accepted == 6
    for m, alpha, misses in ((19, 0.05, 0), (29, 0.1, 2), (59, 0.05, 2), (99, 0.07, 6)):
        e = np.arange(m) / m
        rule = found(scrc_t(np.arange(float(m)), Misses.of(e), xi=0.999, alpha=alpha))
        assert rule.threshold == -np.inf  # M = n + 1: accept all
        assert (e > rule.lambda2).sum() == misses


def test_everyone_accepted_has_no_threshold() -> None:
    rule = found(scrc_t(S, Misses.of(E), xi=0.999))
    assert (rule.threshold, rule.n_accepted) == (-np.inf, 500)
    assert rule.accepts([-1e300, 0.0]).all()
    assert rule.certificates[1].errors == 0


def test_too_few_rows_say_how_many_would_do() -> None:
    for n, xi, alpha in ((20, 0.8, 0.02), (5, 0.5, 0.1), (18, 0.999, 0.05)):
        why = missing(scrc_t(S[:n], Misses.of(np.zeros(n)), xi=xi, alpha=alpha))
        assert why.on_average
        assert why.needs is not None
        assert why.needs > n
        for rows, feasible in ((why.needs, True), (why.needs - 1, False)):
            again = scrc_t(np.arange(float(rows)), Misses.of(np.zeros(rows)), xi=xi, alpha=alpha)
            assert again.feasible is feasible


def test_losses_that_never_fall_cannot_be_helped() -> None:
    never = np.where(np.arange(500) % 2, np.inf, 0.0)
    for rule in (scrc_t, scrc_split_pac, joint_certificate):
        why = missing(rule(S, Misses.of(never)))
        assert why.needs is None
        assert "more labels will not help" in why.message()


def test_constant_scores_are_named() -> None:
    constant = np.full(500, 0.3)
    why = missing(scrc_t(constant, Misses.of(E)))
    assert "too many scores are equal" in why.reason
    assert why.needs is None
    assert found(scrc_t(constant, Misses.of(E), xi=0.999)).n_accepted == 500
    assert found(scrc_split_pac(constant, Misses.of(E))).n_accepted == 250
    assert found(joint_certificate(constant, Misses.of(E))).threshold == -np.inf


def test_ties_at_the_threshold_promise_no_coverage() -> None:
    rule = found(scrc_t(np.floor(S * 10), Misses.of(E)))
    assert [c.kind for c in rule.certificates] == ["expectation", "none"]
    assert rule.certificates[0].n_accepted == (np.floor(S * 10) > rule.threshold).sum()


def test_positives_alone() -> None:
    positive = np.arange(500) % 4 == 0
    rule = found(scrc_t(S, Misses.of(E), counted=positive, risk="set_fnr"))
    inside = positive & (rule.threshold < S)
    assert (rule.n, rule.n_accepted) == (125, inside.sum())
    assert (E[inside] > rule.lambda2).sum() <= 0.05 * (inside.sum() + 1) - 1 + 1e-9
    assert "positives" in rule.certificates[0].sentence()
    for answer in (scrc_t, scrc_split_pac, joint_certificate):
        none = missing(answer(S, Misses.of(E), counted=np.zeros(500, dtype=bool), risk="set_fnr"))
        assert "there are no positives" in none.reason
        one = missing(answer(S, Misses.of(E), counted=np.arange(500) == 3, risk="set_fnr"))
        assert one.needs is None or one.needs > 1


def test_bounded_losses_are_summed_exactly_and_bet_on() -> None:
    losses = 0.5 * MATRIX + 0.25 * (E[:, None] > GRID + 0.1)
    rule = found(scrc_t(S, losses, GRID, alpha=0.05))
    at = int(np.flatnonzero(rule.lambda2 == GRID)[0])
    accepted = losses[rule.threshold < S]
    assert rule.total_loss == pytest.approx(accepted[:, at].sum())
    assert accepted[:, at].sum() <= 0.05 * (len(accepted) + 1) - 1 + 1e-9
    assert accepted[:, at - 1].sum() > 0.05 * (len(accepted) + 1) - 1
    assert rule.certificates[0].mean_loss == pytest.approx(accepted[:, at].mean())
    assert found(scrc_split_pac(S, losses, GRID)).certificates[0].risk_upper <= 0.05
    doubled = found(scrc_t(S, 2 * losses, GRID, alpha=0.1, bound=2.0))
    assert doubled.lambda2 == rule.lambda2


def test_affordable_errors_are_the_inverse_of_the_table_of_labels() -> None:
    table = {(299, 0.01, 0.05): 0, (236, 0.02, 0.05): 1, (184, 0.05, 0.1): 5, (113, 0.02, 0.1): -1}
    assert {k: errors_affordable(*k) for k in table} == table


def test_the_published_form_has_to_be_asked_for() -> None:
    with pytest.raises(RiskError, match="about a third of calibration splits"):
        scrc_i(S, Misses.of(E))


def test_fixed_thresholds_of_a_joint_certificate() -> None:
    rule = found(joint_certificate(S, Misses.of(E), xi=0.5, thresholds=[0.2, 0.4, 0.9]))
    assert rule.threshold == np.nextafter(0.2, -np.inf)  # without sizes: the highest coverage
    smallest = found(
        joint_certificate(S, Misses.of(E), xi=0.5, thresholds=[0.2, 0.4, 0.9],
                          mean_size=lambda accepted, lambda2: float(accepted.sum()))
    )  # fmt: skip
    assert smallest.threshold == np.nextafter(0.4, -np.inf)
    why = missing(joint_certificate(S, Misses.of(E), thresholds=[0.9]))
    assert "too few to certify 0.8" in why.reason
    assert why.needs is None


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((S[:3], Misses.of(E)), DataError, "score has 3 rows but the losses have 500"),
        ((S, MATRIX), RiskError, "needs the lambdas of its columns"),
        ((S, Misses.of(E), GRID), RiskError, "pass neither"),
        ((S, MATRIX[:, ::-1], GRID), DataError, "do not fall with lambda"),
        ((S, 2.0 * MATRIX, GRID), DataError, "are not all in \\[0, 1\\]"),
        ((S, MATRIX, GRID[::-1]), RiskError, "must increase strictly"),
        ((S, MATRIX[:, 1:], GRID), DataError, "must have shape \\(N, 101\\)"),
        ((np.where(S > 0.5, np.nan, S), Misses.of(E)), DataError, "score is nan in row"),
        ((S, Misses.of(E), None, 1.0), RiskError, "xi must be strictly between"),
        ((S, Misses.of(E), None, 0.8, 0.0), RiskError, "alpha must be strictly between"),
    ],
)
def test_refusals(arguments: tuple[Any, ...], error: type[Exception], message: str) -> None:
    for rule in (scrc_t, scrc_split_pac, joint_certificate):
        with pytest.raises(error, match=message):
            rule(*arguments)


def test_refusals_name_the_row() -> None:
    bad = MATRIX.astype(np.float64)
    bad[321, 50] = np.nan
    with pytest.raises(DataError, match="row 321"):
        LossGrid.of(bad, GRID)
    with pytest.raises(DataError, match="NaN in row 2"):
        Misses.of([0.0, 0.1, np.nan])
    with pytest.raises(DataError, match="counted must be booleans"):
        scrc_t(S, Misses.of(E), counted=np.ones(500))
    with pytest.raises(RiskError, match='"mean" or "pac"'):
        scrc_split_pac(S, Misses.of(E), coverage="most")  # type: ignore[arg-type]


def test_exits_are_single_classes_above_a_certified_lambda() -> None:
    second = RNG.random(2000)
    wrong = RNG.random(2000) < 0.15 * (1 - second)
    c = certify_singletons(second, wrong, alpha=0.05)
    assert isinstance(c, Certificate)
    assert c.kind == "pac"
    exits = second >= c.threshold
    assert (c.n_accepted, c.errors) == (exits.sum(), wrong[exits].sum())
    later = certify_singletons(second, wrong, alpha=0.05, at_least=c.threshold + 0.2)
    assert isinstance(later, Certificate)
    assert later.threshold > c.threshold + 0.2
    assert later.n_accepted < c.n_accepted


def test_exits_that_cannot_be_certified() -> None:
    few = certify_singletons(np.full(10, 0.9), np.zeros(10), alpha=0.05)
    assert isinstance(few, Infeasible)
    assert few.needs == 45
    bad = certify_singletons(np.full(1000, 0.9), np.arange(1000) % 5 == 0, alpha=0.05)
    assert isinstance(bad, Infeasible)
    assert "more labels will not help" in bad.reason
    never = certify_singletons(np.zeros(1000), np.zeros(1000), alpha=0.05)
    assert not never.feasible
    high = certify_singletons(np.linspace(0, 0.5, 1000), np.zeros(1000), alpha=0.05, at_least=0.7)
    assert not high.feasible
