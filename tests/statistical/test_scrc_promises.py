"""Selective conformal rules over draws of the calibration split: what they promise, and reach.

The model has two classes: u ~ N(0, 2.6^2), the positive class has probability sigma(u), which the
classifier knows. The score is the probability of the predicted class; the set is {0, 1} where it is
at most lambda2. True risks are integrals, so a run adds no noise of a test split.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats as scipy_stats

from selectkit.policies import Outputs, Target
from selectkit.policies.scrc import ScrcPolicy
from selectkit.risk import (
    Infeasible,
    Misses,
    SelectiveSets,
    joint_certificate,
    scrc_i,
    scrc_split_pac,
    scrc_t,
)

Floats = npt.NDArray[np.float64]
Rule = Callable[[Floats, Misses], SelectiveSets | Infeasible]
ALPHA = 0.05

_U = np.linspace(0, 40, 400_001)
_P = 1 / (1 + np.exp(-_U))
_DENSITY = 2 * scipy_stats.norm.pdf(_U, scale=2.6)
_STEP = _U[1] - _U[0]
_ERROR_ABOVE = np.cumsum((_DENSITY * (1 - _P))[::-1])[::-1] * _STEP


def above(score: float) -> float:
    """P(the score exceeds this one)."""
    if score <= 0.5:
        return 1.0
    if score >= 1:
        return 0.0
    return float(2 * scipy_stats.norm.sf(np.log(score / (1 - score)), scale=2.6))


def wrong_above(score: float) -> float:
    """P(the score exceeds this one, and the prediction is wrong)."""
    if score >= 1:
        return 0.0
    u = np.log(score / (1 - score)) if score > 0.5 else 0.0
    return float(np.interp(u, _U, _ERROR_ABOVE))


def drawn(n: int, rng: np.random.Generator) -> tuple[Floats, Misses]:
    u = rng.normal(0, 2.6, n)
    s = 1 / (1 + np.exp(-np.abs(u)))
    return s, Misses(np.where(rng.random(n) < s, 0.0, s))


def truth(rule: Rule, n: int, runs: int, seed: int = 0) -> npt.NDArray[np.void]:
    """Coverage, risk and error of single classes of each run; NaN risks where infeasible."""
    rng = np.random.default_rng(seed)
    rows = np.full(runs, np.nan, dtype=[("coverage", float), ("risk", float), ("single", float)])
    for i in range(runs):
        found = rule(*drawn(n, rng))
        if isinstance(found, Infeasible):
            rows[i] = (0.0, np.nan, np.nan)
            continue
        single = max(found.threshold, found.lambda2)
        coverage, wrong = above(found.threshold), wrong_above(single)
        alone = above(single)
        rows[i] = (coverage, wrong / coverage, wrong / alone if alone else np.nan)
    return rows


def pooled(rows: npt.NDArray[np.void]) -> float:
    return float((rows["coverage"] * rows["risk"]).sum() / rows["coverage"].sum())


def rate(rows: npt.NDArray[np.bool_], expected: float) -> bool:
    """Whether a rate is within 3 standard errors of one that was itself measured in 4,000 runs."""
    error = np.sqrt(expected * (1 - expected) * (1 / len(rows) + 1 / 4000))
    return bool(abs(rows.mean() - expected) < 3 * error + 0.0005)


def believable(misses: int, trials: int, delta: float) -> bool:
    """False if so many misses are incredible at the promised rate."""
    return bool(scipy_stats.binom.sf(misses - 1, trials, delta) >= 1e-6)


_FOUND = scrc_t(np.arange(99.0), Misses(np.linspace(1, 0, 99)), xi=0.8, alpha=ALPHA)
assert isinstance(_FOUND, SelectiveSets)
PROMISES = _FOUND.certificates  # of no account for rules that are not ours


def one_pass(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    return scrc_t(s, e, xi=0.9, alpha=ALPHA)


def published(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    return scrc_i(s, e, xi=0.9, alpha=ALPHA, reference=True)


def off_by_one(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    """SCRC-T with the budget of the circulating script, ceil(alpha (m + 1)) - 1."""
    found = one_pass(s, e)
    assert isinstance(found, SelectiveSets)
    m = found.n_accepted
    budget = np.ceil(ALPHA * (m + 1) - 1e-9) - 1
    lambda2 = e.take(s > found.threshold).within(budget)
    assert lambda2 is not None
    return SelectiveSets("t", found.threshold, lambda2, m, m, budget, found.certificates)


def half(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    n = len(s) // 2
    second = np.arange(len(s)) >= n
    return scrc_split_pac(s[second], e.take(second), xi=0.9, alpha=ALPHA, select_score=s[:n])


def plug_in(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    """The quantile of the rows themselves, then conformal risk control on those above it."""
    return on_average(s, e, float(np.quantile(s, 0.1)))


def half_on_average(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    """The quantile of one half, conformal risk control on the other."""
    n = len(s) // 2
    return on_average(s[n:], e.take(np.arange(len(s)) >= n), float(np.quantile(s[:n], 0.1)))


def on_average(s: Floats, e: Misses, threshold: float) -> SelectiveSets | Infeasible:
    m = int(np.count_nonzero(s > threshold))
    lambda2 = e.take(s > threshold).within(ALPHA * (m + 1) - 1)
    if lambda2 is None:
        return Infeasible("set_error", ALPHA, 0.1, m, "too few", None)
    return SelectiveSets("t", threshold, lambda2, m, m, 0.0, PROMISES)


def by_hoeffding(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
    """The second published form: DKW for the acceptance, Hoeffding over 100 lambdas."""
    n, delta = len(s), 0.1
    off = np.sqrt(np.log(2 / delta) / (2 * n))
    threshold = float(np.quantile(s, 1 - 0.9 - off))
    accepted = s > threshold
    share = accepted.mean()
    slack = (np.sqrt(np.log(2 * 100 / delta) / (2 * n)) + ALPHA * off) / share
    lambda2 = e.take(accepted).within((ALPHA - slack) * accepted.sum()) if slack < ALPHA else None
    return SelectiveSets("t", threshold, 1.0 if lambda2 is None else lambda2, n, n, 0.0, PROMISES)


@pytest.mark.parametrize(
    ("rule", "coverage", "risk", "violation", "too_few", "single"),
    [
        (plug_in, 0.8988, 0.0500, 0.487, 0.541, 0.0757),
        (half_on_average, 0.8979, 0.0492, 0.445, 0.547, 0.0751),
        (by_hoeffding, 0.9378, 0.0000, 0.000, 0.000, np.nan),
    ],
)
def test_what_others_do_is_no_certificate_or_says_nothing(
    rule: Rule, coverage: float, risk: float, violation: float, too_few: float, single: float
) -> None:
    rows = truth(rule, 1000, 3000)
    spread = np.sqrt(1 / 3000 + 1 / 4000)
    assert abs(rows["coverage"].mean() - coverage) < 3 * rows["coverage"].std() * spread + 0.0005
    assert abs(pooled(rows) - risk) < 3 * rows["risk"].std() * spread + 0.0003
    assert rate(rows["risk"] > ALPHA, violation)
    assert rate(rows["coverage"] < 0.9, too_few)
    if not np.isnan(single):
        assert rows["single"].mean() == pytest.approx(single, abs=0.001)


def test_hoeffding_over_a_grid_costs_more_than_half_of_the_risk_allowed() -> None:
    assert pooled(truth(by_hoeffding, 5000, 300)) == pytest.approx(0.0191, abs=0.001)


def test_the_one_pass_rule_is_exact_on_average() -> None:
    rows = truth(one_pass, 1000, 4000)
    assert rows["coverage"].mean() == pytest.approx(901 / 1001, abs=3 * 0.0095 / np.sqrt(4000))
    error = rows["risk"].std() / np.sqrt(4000)
    assert ALPHA - 2 / 901 < pooled(rows) < ALPHA + 3 * error
    assert rate(rows["risk"] > ALPHA, 0.483)
    assert rate(rows["coverage"] < 0.9, 0.497)
    assert rows["single"].mean() == pytest.approx(0.0757, abs=0.0005)  # what sets do not bound


def test_a_budget_off_by_one_breaks_the_promise_and_ours_does_not() -> None:
    ours, theirs = truth(one_pass, 200, 6000), truth(off_by_one, 200, 6000)
    assert ours["coverage"].mean() == pytest.approx(181 / 201, abs=3 * 0.021 / np.sqrt(6000))
    error = ours["risk"].std() / np.sqrt(6000)
    assert pooled(ours) == pytest.approx(9 / 181, abs=3 * error + 0.0002)
    assert pooled(theirs) == pytest.approx(10 / 181, abs=3 * error + 0.0005)
    assert pooled(theirs) > ALPHA + 6 * error


def test_the_one_pass_rule_is_exact_with_ties() -> None:
    def rounded(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
        return scrc_t(np.floor(20 * s) / 20, e, xi=0.7, alpha=ALPHA)

    rows = truth(rounded, 150, 3000)
    for i, row in enumerate(rows):  # accepted are scores above the next twentieth
        assert np.isfinite(row["risk"]), i
    rng = np.random.default_rng(0)
    losses, accepted = 0.0, 0
    for _ in range(3000):
        s, e = drawn(151, rng)
        ties = np.floor(20 * s) / 20
        found = scrc_t(ties[1:], Misses(e.entering[1:]), xi=0.7, alpha=ALPHA)
        assert isinstance(found, SelectiveSets)
        if ties[0] > found.threshold:
            accepted += 1
            losses += e.entering[0] > found.lambda2
    assert believable(int(losses), accepted, ALPHA)
    assert losses / accepted > ALPHA / 2
    assert accepted / 3000 < 0.7  # the price of ties


def test_the_published_correction_is_no_confidence() -> None:
    rows = truth(published, 1000, 4000)
    assert rate(rows["risk"] > ALPHA, 0.364)
    assert rate(rows["coverage"] < 0.9, 0.541)
    assert not believable(int((rows["risk"] > ALPHA).sum()), 4000, 0.1)
    assert pooled(rows) == pytest.approx(0.0478, abs=0.0005)
    assert rows["single"].mean() == pytest.approx(0.0736, abs=0.0008)


@pytest.mark.parametrize("n", [200, 5000])
def test_the_published_correction_fails_at_every_size(n: int) -> None:
    rows = truth(published, n, 1000)
    assert 0.29 < (rows["risk"] > ALPHA).mean() < 0.41


def test_the_split_is_a_certificate() -> None:
    rows = truth(half, 1000, 4000)
    assert believable(int((rows["risk"] > ALPHA).sum()), 4000, 0.1)
    assert rate(rows["risk"] > ALPHA, 0.074)
    assert pooled(rows) == pytest.approx(0.0365, abs=0.0007)
    assert rows["single"].mean() == pytest.approx(0.0624, abs=0.001)
    assert rows["coverage"].mean() == pytest.approx(451 / 501, abs=3 * 0.0134 / np.sqrt(4000))


def test_coverage_can_be_promised_with_confidence_too() -> None:
    def covering(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
        return scrc_split_pac(s[500:], e.take(np.arange(1000) >= 500), xi=0.8, alpha=ALPHA,
                              coverage="pac", select_score=s[:500])  # fmt: skip

    rows = truth(covering, 1000, 2000)
    for broken in (rows["coverage"] < 0.8, rows["risk"] > ALPHA):
        assert believable(int(broken.sum()), 2000, 0.05)
    assert (rows["coverage"] < 0.8).mean() > 0.02  # exact up to the step of an order statistic
    assert rows["coverage"].mean() < 0.84


def test_one_certificate_for_many_pairs_holds_for_the_best() -> None:
    """Chosen by the mean size of the sets on the same rows; the plug-in choice breaks it."""

    def sizes(s: Floats) -> Callable[[npt.NDArray[np.bool_], float], float]:
        return lambda accepted, lambda2: 1 + float((s[accepted] <= lambda2).mean())

    def joint(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
        return joint_certificate(s, e, xi=0.6, alpha=ALPHA, mean_size=sizes(s))

    def plug_in(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
        t = float(np.quantile(s, 0.4))
        lambda2 = e.take(s > t).within(ALPHA * np.count_nonzero(s > t))
        assert lambda2 is not None
        return SelectiveSets("joint", t, lambda2, 0, 0, 0, scrc_t(s, e).certificates)  # type: ignore[union-attr]

    rows, theirs = truth(joint, 1000, 1000), truth(plug_in, 1000, 1000)
    broken = (rows["risk"] > ALPHA) | (rows["coverage"] < 0.6)
    assert believable(int(broken.sum()), 1000, 0.1)
    assert not np.isnan(rows["risk"]).any()
    assert rows["risk"].mean() > 0.02  # not vacuous
    assert 0.6 < rows["coverage"].mean() < 0.7
    worse = (theirs["risk"] > ALPHA) | (theirs["coverage"] < 0.6)
    assert not believable(int(worse.sum()), 1000, 0.1)


def test_losses_between_0_and_1_keep_their_promise() -> None:
    grid = np.linspace(0.5, 1, 11)

    def graded(s: Floats, e: Misses) -> SelectiveSets | Infeasible:
        losses = (0.6 + 0.4 * (np.arange(len(s)) % 2))[:, None] * (e.entering[:, None] > grid)
        second = np.arange(len(s)) >= 200
        return scrc_split_pac(s[second], losses[second], grid, 0.8, 0.04, select_score=s[:200])

    rows = truth(graded, 1000, 400)
    risk = 0.8 * rows["risk"]
    assert believable(int((risk > 0.04).sum()), 400, 0.1)
    assert not np.isnan(risk).any()
    assert risk.mean() > 0.01


@pytest.mark.parametrize(("variant", "floor"), [("t", 0.2), ("split_pac", 0.1), ("joint", 0.08)])
def test_exits_of_single_classes_are_certified(variant: str, floor: float) -> None:
    rng = np.random.default_rng(1)
    broken, exits = 0, []
    for _ in range(500):
        s, e = drawn(1000, rng)
        top = rng.random(1000) < 0.5
        p = np.stack([np.where(top, 1 - s, s), np.where(top, s, 1 - s)], axis=1)
        y = (top == (e.entering == 0)).astype(np.int64)
        policy = ScrcPolicy.fit(Outputs(np.log(p), p), y, target=Target("error", ALPHA), xi=0.8,
                                variant=variant, exits="singletons")  # type: ignore[arg-type]  # fmt: skip
        if isinstance(policy, Infeasible):
            exits.append(0.0)
            continue
        single = max(policy.lambda1, policy.lambda2)
        exits.append(above(single))
        broken += wrong_above(single) / above(single) > ALPHA
    assert believable(broken, 500, 0.1)
    assert np.mean(exits) > floor


def test_missed_positives_have_a_promise_of_their_own() -> None:
    """Their number among the accepted is random; the rule is exact all the same."""
    rng = np.random.default_rng(2)
    losses = accepted = 0
    for _ in range(4000):
        s, e = drawn(121, rng)
        positive = rng.random(121) < 0.3
        found = scrc_t(s[1:], Misses(e.entering[1:]), xi=0.8, alpha=0.1, counted=positive[1:])
        assert isinstance(found, SelectiveSets)
        if positive[0] and s[0] > found.threshold:
            accepted += 1
            losses += int(e.entering[0] > found.lambda2)
    assert believable(losses, accepted, 0.1)
    assert losses / accepted > 0.05
