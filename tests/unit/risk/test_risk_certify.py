"""Certified thresholds: what is deployed, what is refused, what the answers say."""

import json
import math
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom, chi2_contingency, hypergeom

from selectkit.errors import ArtifactError, DataError, RiskError
from selectkit.risk import Certificate, Infeasible, certify_threshold, labels_needed
from selectkit.risk.assumptions import ASSUMPTIONS
from selectkit.risk.threshold_candidates import start_counts
from selectkit.risk.threshold_walk import Ranked
from selectkit.stats import binomial_pvalue, clopper_pearson_upper

Floats = npt.NDArray[np.float64]
Bools = npt.NDArray[np.bool_]
Ints = npt.NDArray[np.int64]


def certified(answer: Certificate | Infeasible) -> Certificate:
    assert isinstance(answer, Certificate), answer.message()
    return answer


def infeasible(answer: Certificate | Infeasible) -> Infeasible:
    assert isinstance(answer, Infeasible), answer.sentence()
    return answer


@pytest.mark.parametrize(
    ("alpha", "delta", "row"),
    [
        (0.01, 0.05, [299, 473, 628, 773, 913, 1049]),
        (0.01, 0.10, [230, 388, 531, 667, 798, 926]),
        (0.02, 0.05, [149, 236, 313, 386, 456, 523]),
        (0.02, 0.10, [114, 194, 265, 333, 398, 462]),
        (0.05, 0.05, [59, 93, 124, 153, 181, 208]),
        (0.05, 0.10, [45, 77, 105, 132, 158, 184]),
    ],
)
def test_label_budget_table(alpha: float, delta: float, row: list[int]) -> None:
    assert [labels_needed(alpha, delta, k) for k in range(6)] == row


@pytest.mark.parametrize("errors", [0, 1, 7, 200])
def test_label_budget_is_the_smallest(errors: int) -> None:
    n = labels_needed(0.03, 0.07, errors)
    assert binomial_pvalue(errors, n, 0.03) <= 0.07 < binomial_pvalue(errors, n - 1, 0.03)


def test_deployed_rule_accepts_exactly_the_tested_samples() -> None:
    rng = np.random.default_rng(0)
    for digits in (2, 16):
        s = np.round(rng.random(600), digits)
        wrong = rng.random(600) < 0.2 * (1 - s) ** 2
        found = certified(certify_threshold(s, wrong, alpha=0.05))
        accepted = s >= found.threshold
        assert accepted.sum() == found.n_accepted
        assert wrong[accepted].sum() == found.errors
        assert found.coverage == found.n_accepted / 600
        assert found.risk_upper == clopper_pearson_upper(found.errors, found.n_accepted, 0.1)
        assert found.risk_upper <= 0.05


def test_threshold_sits_just_above_the_next_lower_score() -> None:
    s = np.repeat([3.0, 2.0, 1.0], 60)
    found = certified(certify_threshold(s, s == 1.0, alpha=0.05))
    assert found.threshold == np.nextafter(1.0, 2.0)
    assert found.n_accepted == 120


def test_all_right_accepts_every_finite_confidence() -> None:
    s = np.append(np.arange(60.0), [-np.inf, -np.inf])
    found = certified(certify_threshold(s, np.zeros(62), alpha=0.05))
    assert found.n_accepted == 60
    assert found.coverage == 60 / 62
    assert found.threshold == np.finfo(float).min
    assert not (np.array([-np.inf]) >= found.threshold).any()


def test_the_smallest_budget_suffices() -> None:
    n = labels_needed(0.05, 0.1)
    assert certify_threshold(np.arange(n), np.zeros(n), alpha=0.05).feasible
    short = infeasible(certify_threshold(np.arange(n - 1), np.zeros(n - 1), alpha=0.05))
    assert (short.needs, short.feasible) == (n, False)


def test_one_early_error_does_not_end_a_large_sample() -> None:
    s = -np.arange(2000.0)
    wrong = np.zeros(2000)
    wrong[10] = 1
    assert certified(certify_threshold(s, wrong, alpha=0.05)).coverage == 1


def test_grid_candidates_accept_at_or_above() -> None:
    s = np.linspace(0, 1, 201)
    wrong = s < 0.4
    found = certified(
        certify_threshold(s, wrong, alpha=0.05, candidates=[0.9, 0.1, 0.5, 0.39, 0.0])
    )
    assert found.threshold == 0.39
    assert (found.n_accepted, found.errors) == (int((s >= 0.39).sum()), 2)


def test_grid_of_minus_infinity_still_defers_minus_infinity() -> None:
    s = np.append(np.ones(100), -np.inf)
    found = certified(certify_threshold(s, np.zeros(101), alpha=0.05, candidates=[-np.inf]))
    assert (found.threshold, found.n_accepted) == (np.finfo(float).min, 100)


def test_denominator_all_counts_deferred_samples_as_safe() -> None:
    s = -np.arange(300.0)
    wrong = np.arange(300) % 10 == 9
    found = certified(certify_threshold(s, wrong, alpha=0.02, denominator="all", risk="miss_rate"))
    assert binomial_pvalue(found.errors, 300, 0.02) <= 0.1
    assert binomial_pvalue(found.errors + 1, 300, 0.02) > 0.1
    assert s[found.n_accepted] == -found.n_accepted
    assert wrong[found.n_accepted]  # the next sample would have been one error too many


def test_a_threshold_above_all_positives_can_be_certified_only_for_their_miss_rate() -> None:
    s = np.linspace(0, 1, 200)
    grid = [2.0, 0.5]
    answer = certify_threshold(
        s, np.ones(200), alpha=0.05, denominator="all", candidates=grid, risk="miss_rate"
    )
    found = certified(answer)
    assert (found.threshold, found.n_accepted, found.coverage_lower) == (2.0, 0, 0.0)
    selective = infeasible(certify_threshold(s, np.ones(200), alpha=0.05, candidates=grid))
    assert selective.reason.startswith("100 of the 100 most confident samples are errors")
    assert selective.needs is None


def test_coverage_lower_is_the_uniform_bound() -> None:
    found = certified(certify_threshold(np.arange(500), np.zeros(500), alpha=0.05))
    assert found.coverage_lower == pytest.approx(1 - math.sqrt(math.log(10) / 1000))
    loose = certified(certify_threshold(np.arange(500), np.zeros(500), alpha=0.05, delta=0.9))
    assert loose.coverage_lower == pytest.approx(1 - math.sqrt(math.log(2) / 1000))


def message(s: object, wrong: object, risk: str, denominator: str = "accepted") -> str:
    ell = np.asarray(wrong, dtype=float)
    scores = np.asarray(s, dtype=float)
    if denominator == "all":
        return infeasible(
            certify_threshold(scores, ell, alpha=0.02, denominator="all", risk=risk)
        ).message()
    return infeasible(certify_threshold(scores, ell, alpha=0.02, risk=risk)).message()


def test_messages_say_what_would_suffice() -> None:
    start = "cannot be certified: "
    assert message(np.arange(37), np.zeros(37), "fnr") == (
        f"INFEASIBLE: fnr <= 0.02 with confidence 90 % {start}37 positives in the calibration "
        "split, needs at least 114 positives."
    )
    assert message([-np.inf] * 3 + [1], np.zeros(4), "fpr").endswith(
        "1 negatives in the calibration split can be accepted (of 4), needs at least 456 negatives."
    )
    ranked = -np.arange(300.0)
    hopeless = message(ranked, np.arange(300) % 3 == 0, "error")
    assert hopeless.endswith("most confident samples are errors, so more labels will not help.")
    stopped = np.zeros(150)
    stopped[[0, 149]] = 1
    assert "1 of the 149 most confident samples are errors, needs at least" in message(
        ranked[:150], stopped, "error"
    )
    early = np.zeros(220)
    early[0] = 1
    assert message(ranked[:220], early, "error").endswith(
        "1 of the 220 most confident samples are errors, but errors came too early among them, "
        "needs at least 333 samples."
    )
    tied = message(np.ones(200), np.arange(200) < 3, "miss_rate", "all")
    assert "3 of the 200 most confident positives are errors, needs at least" in tied
    part = message(np.append(np.ones(100), np.zeros(100)), np.arange(200) < 3, "miss_rate", "all")
    assert "3 of the 100 most confident positives are errors (of 200 in all)" in part


Law = Callable[[np.random.Generator, int], tuple[Any, Any]]


def flat(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """One score for all, 1 % of errors."""
    return np.ones(n), rng.random(n) < 0.01


def falling(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """Errors are the rarer the surer a sample is, down to none; 10 % of all."""
    s = rng.random(n)
    return s, rng.random(n) < 0.3 * (1 - s) ** 2


def noisy(rng: np.random.Generator, n: int) -> tuple[Any, Any]:
    """The same, but 0.5 % of the surest are wrong, too."""
    s = rng.random(n)
    return s, rng.random(n) < np.maximum(0.005, 0.3 * (1 - s) ** 2)


@pytest.mark.parametrize("law", [flat, falling, noisy])
@pytest.mark.parametrize("n", [60, 120, 200])
def test_the_number_that_would_suffice_suffices_more_often_than_not(law: Law, n: int) -> None:
    rng = np.random.default_rng(n)
    done, tried, named = 0, 0, 0
    for _ in range(25):
        answer = certify_threshold(*law(rng, n), alpha=0.02)
        if isinstance(answer, Certificate):
            continue
        assert "more labels will not help" not in answer.message()  # for they would
        if answer.needs is None:
            continue
        named += 1
        for _ in range(4):
            tried += 1
            done += certify_threshold(*law(rng, answer.needs), alpha=0.02).feasible
    assert named >= 5
    assert done >= tried / 3


def test_without_any_signal_no_number_is_made_up() -> None:
    rng = np.random.default_rng(0)
    for _ in range(30):  # the surest few may all be right by chance
        answer = infeasible(certify_threshold(rng.random(500), rng.random(500) < 0.3, alpha=0.05))
        assert answer.needs is None
        assert "more labels" in answer.reason


def test_sentences() -> None:
    base = Certificate(
        risk="error", alpha=0.05, delta=0.1, kind="pac", method="m", threshold=0.5, n=162,
        n_accepted=120, errors=0, risk_upper=0.019, coverage=120 / 162, coverage_lower=0.6,
    )  # fmt: skip
    assert base.feasible
    assert base.sentence() == (
        "With 90 % confidence over the draw of the calibration split, at most 5 % of automatically "
        "decided images are wrong (0 errors among 120 accepted samples; coverage 74.1 %)."
    )
    changed = {**base.to_dict(), "kind": "expectation", "risk": "fnr", "errors": 1}
    assert Certificate.from_dict(changed).sentence() == (
        "On average over draws of the calibration split, at most 5 % of automatically decided "
        "positives are missed (1 error among 120 accepted positives; coverage 74.1 %)."
    )
    exact = Certificate.from_dict({**base.to_dict(), "alpha": 0.012345, "delta": 0.0001})
    assert exact.sentence().startswith("With 99.99 % confidence over the draw")  # not 100 %
    assert "at most 1.2345 % of automatically" in exact.sentence()
    grouped = Certificate.from_dict({**base.to_dict(), "grouped": True})
    assert "are wrong, counting one image of each group (0 errors" in grouped.sentence()
    changed = {**base.to_dict(), "kind": "none", "risk": "cost"}
    assert (
        Certificate
        .from_dict(changed)
        .sentence()
        .startswith("No guarantee: the target was that at most 5 % is the cost")
    )


@pytest.mark.parametrize("threshold", [0.25, math.inf, -math.inf])
def test_certificates_survive_json(threshold: float) -> None:
    found = certified(certify_threshold(np.arange(99), np.zeros(99), alpha=0.05))
    document = {**found.to_dict(), "threshold": threshold}
    again = Certificate.from_dict(document)
    text = json.dumps(again.to_dict(), allow_nan=False)
    assert Certificate.from_dict(json.loads(text)) == again
    assert again.threshold == threshold


def test_incomplete_certificates_are_refused() -> None:
    found = certified(certify_threshold(np.arange(99), np.zeros(99), alpha=0.05))
    document = {k: v for k, v in found.to_dict().items() if k != "delta"}
    with pytest.raises(ArtifactError, match=r"missing \['delta'\], unknown \['beta'\]"):
        Certificate.from_dict({**document, "beta": 1})


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: certify_threshold([1, 2], [0, 1], alpha=2), RiskError, "alpha must be .* got 2"),
        (
            lambda: certify_threshold([1, 2], [0, 1], alpha=0.1, delta=0.0),
            RiskError,
            "delta must be strictly between 0 and 1, got 0.0",
        ),
        (
            lambda: certify_threshold([1, 2], [0, 1.5], alpha=0.1),
            DataError,
            r"loss must lie in \[0, 1\], got 0 to 1.5",
        ),
        (
            lambda: certify_threshold([1, math.nan], [0, 1], alpha=0.1),
            DataError,
            "confidence is nan in row 1",
        ),
        (
            lambda: certify_threshold([1, 2], [0, 1], alpha=0.1, candidates=[math.nan]),
            RiskError,
            r"candidates must be numbers of shape \(M,\)",
        ),
        (lambda: labels_needed(0.1, 1.5), RiskError, "delta must be strictly"),
        (lambda: labels_needed(0.1, 0.1, -1), DataError, "errors must be at least 0, got -1"),
    ],
)
def test_refusals(call: object, error: type[Exception], text: str) -> None:
    assert callable(call)
    with pytest.raises(error, match=text):
        call()


def test_unknown_denominator_is_refused() -> None:
    from typing import Any

    other: Any = "positives"
    with pytest.raises(RiskError, match='"accepted" or "all", got \'positives\''):
        certify_threshold([1, 2], [0, 1], alpha=0.1, denominator=other)


def test_certificates_say_where_ties_end_the_proof() -> None:
    s, right = np.linspace(1, 0, 200), np.zeros(200)
    tied = s.copy()
    tied[[3, 9, 10]] = tied[[4, 11, 11]]
    for loss in (right, np.full(200, 0.001)):
        plain = certified(certify_threshold(s, loss, alpha=0.05))
        equal = certified(certify_threshold(tied, loss, alpha=0.05))
        grid = certified(certify_threshold(tied, loss, alpha=0.05, candidates=[0.5, 0.1]))
        whole = certified(certify_threshold(tied, loss, alpha=0.05, denominator="all"))
        assert plain.assumptions == whole.assumptions == ASSUMPTIONS
        untested = (
            "no two samples have the same score; here 5 of 200 share theirs, so that the promise "
            "rests on simulations instead of a proof",
        )
        assert equal.assumptions == ASSUMPTIONS + (() if loss is right else untested)
        assert "where testing starts on the given thresholds" in grid.assumptions[2]


def accepted_one_by_one(s: Floats, wrong: Bools, order: Ints, alpha: float, delta: float) -> int:
    """Walk over the samples in an order that falls with the score; 0 if nothing is certified."""
    starts, share = start_counts(len(s), alpha, delta)
    best, level, errors = 0, 0.0, 0
    for n, row in enumerate(order, 1):
        errors += int(wrong[row])
        level += share * (n in starts)
        last_of_equals = n == len(s) or s[order[n]] != s[row]
        if level and (last_of_equals or n in starts):
            level *= bool(binomial_pvalue(errors, n, alpha) <= level)
        best = n if level and last_of_equals else best
    return best


@pytest.mark.parametrize("digits", [0, 1, 2, 9])
def test_walks_start_among_equal_scores_and_go_on_at_their_ends(digits: int) -> None:
    rng, found, expected = np.random.default_rng(digits), Counter[int](), Counter[int]()
    for seed in range(40):
        u = rng.random(400)
        wrong, s = rng.random(400) < 0.03 + 0.25 * u**2, np.round(5 * (1 - u), digits)
        for again in range(15 if digits < 9 else 2):
            answer = certify_threshold(s, wrong, alpha=0.1, seed=again)
            order = np.lexsort((rng.random(400), -s))
            here = accepted_one_by_one(s, wrong, order, 0.1, 0.1)
            accepted = answer.n_accepted if isinstance(answer, Certificate) else 0
            found[accepted] += 1
            expected[here] += 1
            if digits == 9:
                assert accepted == here
        if isinstance(answer, Certificate):
            accepts = s >= answer.threshold
            assert (accepted, answer.errors) == (accepts.sum(), (wrong & accepts).sum())
        shuffled = rng.permutation(400)
        assert certify_threshold(s[shuffled], wrong[shuffled], alpha=0.1, seed=again) == answer
        assert seed < 39 or len(found) > 3
    if digits < 9:
        often = [v for v in found | expected if found[v] + expected[v] > 20]
        table = [[c[v] for v in often] for c in (found, expected)]
        assert chi2_contingency(table).pvalue > 1e-6


def test_which_equal_scores_come_before_a_start_is_drawn_uniformly() -> None:
    s = np.repeat([3.0, 2.0, 1.0], [30, 40, 400])
    wrong = np.zeros(len(s), dtype=np.bool_)
    wrong[[5, 30, 31, 32, 33]] = True
    ranked, rng = Ranked.of(s, wrong, among_accepted=True), np.random.default_rng(0)
    starts = [ranked.starts(0.05, 0.1, rng) for _ in range(4000)]
    first, second, *_ = starts[0]
    assert (first.score, first.tested, first.split) == (2.0, 59, True)
    assert not second.split
    drawn = np.bincount([start[0].errors - 1 for start in starts], minlength=5)
    chances = np.asarray(hypergeom.pmf(range(5), 40, 4, first.tested - 30))
    for count, chance in zip(drawn, chances, strict=True):
        assert min(binom.sf(count - 1, 4000, chance), binom.cdf(count, 4000, chance)) > 1e-6


def test_starts_among_the_same_equal_scores_follow_one_order() -> None:
    wrong = np.arange(2000) < 100
    ranked, rng = Ranked.of(np.ones(2000), wrong, among_accepted=True), np.random.default_rng(1)
    for _ in range(200):
        starts = ranked.starts(0.05, 0.1, rng)
        errors, tested = np.array([(s.errors, s.tested) for s in starts]).T
        assert len(starts) > 2
        assert (np.diff(errors) >= 0).all()
        assert (np.diff(errors) <= np.diff(tested)).all()
        assert errors[-1] <= 100


def test_a_few_ties_cost_next_to_nothing() -> None:
    rng = np.random.default_rng(3)
    u = rng.random(20_000)
    wrong, s = rng.random(20_000) < 0.26 * u**2, 1 - u
    exact = certified(certify_threshold(s, wrong, alpha=0.05))
    rounded = certified(certify_threshold(np.round(s, 4), wrong, alpha=0.05))
    assert abs(exact.coverage - rounded.coverage) < 0.002
    assert exact.assumptions == ASSUMPTIONS
