"""Every promise is measured on the rows that it is about, counted by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from scipy.stats import beta

from selectkit.pipeline.measure_promises import Decided, counted, independent, kept_promises
from selectkit.pipeline.naming import bound_of
from selectkit.policies import Costs, Decision, SoftmaxPolicy, Target, Targets, TwoSidedPolicy
from selectkit.risk import Certificate

#              0      1      2      3      4      5      6      7
LABELS = [1, 1, 1, 1, 0, 0, 0, 0]
SAID = [1, 0, 0, 1, 0, 1, 1, 0]
TAKEN = [True, True, False, True, True, True, False, False]
PASSED = [True, True, True, True, True, True, False, False]


def _rows(**changes: Any) -> Decided:
    sets = np.eye(2, dtype=bool)[SAID]
    sets[2] = sets[6] = sets[7] = True
    decision = Decision(np.array(TAKEN), np.array(SAID), sets, np.zeros(8))
    rows = Decided(
        labels=np.array(LABELS),
        decision=decision,
        ids=np.array([f"id{i}" for i in range(8)], dtype=object),
        groups=np.array(list("abcdefgh"), dtype=object),
        classes=("no", "yes"),
        positive=1,
        passed=np.array(PASSED),
    )
    return replace(rows, **changes)


def _promise(risk: str, alpha: float = 0.5, **changes: Any) -> Certificate:
    made = Certificate(risk, alpha, 0.1, "pac", "by hand", 0.0, 8, 5, 2, 0.5, 0.6, 0.5)
    return replace(made, **changes)


@pytest.mark.parametrize(
    ("risk", "against", "about"),
    [
        ("error", [1, 5], [0, 1, 3, 4, 5]),
        ("fnr", [1], [0, 1, 3]),
        ("miss_rate", [1], [0, 1, 2, 3]),
        ("fpr", [5], [4, 5]),
        ("false_alarm", [5], [4, 5, 6, 7]),
        ("deferral", [2, 6, 7], list(range(8))),
        ("coverage", [0, 1, 3, 4, 5], list(range(8))),
        ("not_selected", [6, 7], list(range(8))),
        ("set_error", [1, 5], [0, 1, 2, 3, 4, 5]),
        ("set_fnr", [1], [0, 1, 2, 3]),
    ],
)
def test_the_rows_of_every_risk(risk: str, against: list[int], about: list[int]) -> None:
    trials, events = counted(_promise(risk), _rows())
    assert np.flatnonzero(trials).tolist() == about
    assert np.flatnonzero(events & trials).tolist() == against


def test_promises_about_a_class_count_what_is_decided_as_it() -> None:
    trials, events = counted(_promise("error", about="class yes"), _rows())
    assert np.flatnonzero(trials).tolist() == [0, 3, 5]
    assert np.flatnonzero(trials & events).tolist() == [5]


def test_promises_about_a_group_need_to_know_it() -> None:
    rows = _rows(strata=np.array(list("nnnnssss"), dtype=object))
    trials, _ = counted(_promise("error", about="group s"), rows)
    assert np.flatnonzero(trials).tolist() == [4, 5]
    (row,) = kept_promises(_policy(_promise("error", about="group s")), _rows())
    assert (row.held, row.trials) == (None, 0)
    assert row.verdict == "val_test does not say which images are of group s"
    (nobody,) = kept_promises(_policy(_promise("error", about="group x")), rows)
    assert nobody.verdict == "no such image in val_test"
    (unknown,) = kept_promises(_policy(_promise("luck")), _rows())
    assert unknown.verdict == "this release does not know how luck is counted"
    assert np.isnan(unknown.estimate).all()


def _policy(*certificates: Certificate, costs: Costs | None = None) -> TwoSidedPolicy:
    targets = Targets([Target("error", 0.5)])
    return TwoSidedPolicy(0.2, 0.8, 1, targets, 0.1, certificates, costs=costs)


def test_the_figure_has_the_exact_interval() -> None:
    (row,) = kept_promises(_policy(_promise("error")), _rows())
    assert (row.events, row.trials, row.unit) == (2, 5, "decided images")
    assert row.estimate[0] == pytest.approx(0.4)
    assert row.estimate[1:] == pytest.approx((beta.ppf(0.025, 2, 4), beta.ppf(0.975, 3, 3)))
    assert (row.held, row.verdict) == (True, "held")


def _decided(wrong: int, n: int) -> Decided:
    labels = np.zeros(n, dtype=np.int64)
    said = (np.arange(n) < wrong).astype(np.int64)
    decision = Decision(np.ones(n, bool), said, np.eye(2, dtype=bool)[said], np.zeros(n))
    names = np.array([f"i{i}" for i in range(n)], dtype=object)
    return Decided(labels, decision, names, names, ("no", "yes"), 1)


@pytest.mark.parametrize(
    ("kind", "wrong", "held", "verdict"),
    [
        ("pac", 5, True, "held"),
        ("pac", 10, True, "held"),
        ("pac", 11, False, "above, within chance"),
        ("pac", 30, False, "exceeded"),
        ("expectation", 11, False, "above, within chance"),
        ("expectation", 30, False, "exceeded here; promised on average"),
        ("none", 5, True, "met, not promised"),
        ("none", 30, False, "not met, not promised"),
    ],
)
def test_verdicts(kind: str, wrong: int, held: bool, verdict: str) -> None:
    (row,) = kept_promises(_policy(_promise("error", 0.1, kind=kind)), _decided(wrong, 100))
    assert (row.held, row.verdict) == (held, verdict)


def test_a_coverage_is_to_be_reached() -> None:
    asked = _promise("coverage", 0.6, kind="none")
    (row,) = kept_promises(_policy(asked), _rows())
    assert row.promise == "at least 60 % of images are decided automatically"
    assert (row.held, row.verdict) == (True, "met, not promised")
    (short,) = kept_promises(_policy(replace(asked, alpha=0.7)), _rows())
    assert (short.held, short.verdict) == (False, "not met, not promised")


def test_costs_are_means_in_their_own_unit() -> None:
    """Cost of the rows: 0 (right), 20 (missed), 1 (deferred), 0, 0, 4 (alarm), 1, 1."""
    costs = Costs(defer=1, miss=20, false_alarm=4)
    promise = _promise("cost", 0.25)
    (row,) = kept_promises(_policy(promise, costs=costs), _rows())
    assert row.estimate[0] == pytest.approx(27 / 8)
    assert row.limit == pytest.approx(5.0)
    assert row.promise == "the expected cost of an image is at most 5"
    assert 0 <= row.estimate[1] < 27 / 8 < row.estimate[2] <= 20
    assert (row.events, row.trials, row.held) == (None, 8, True)


def test_one_row_of_each_group_counts() -> None:
    grouped = _rows(groups=np.array(list("aabbccdd"), dtype=object))
    drawn = independent(grouped, None)
    assert len(drawn) == 4
    assert [i // 2 for i in drawn] == [0, 1, 2, 3]
    (row,) = kept_promises(_policy(_promise("deferral")), grouped)
    assert row.trials == 4
    assert row.events == sum(not TAKEN[i] for i in drawn)


def test_a_single_promise_about_positives_draws_among_them() -> None:
    """Each group has a positive; drawing among all rows would lose some of them."""
    groups = np.array(list("abcdabcd"), dtype=object)
    rows = _rows(groups=groups)
    assert independent(rows, "fnr").tolist() == [0, 1, 2, 3]
    assert independent(rows, "fpr").tolist() == [4, 5, 6, 7]
    alone = SoftmaxPolicy("msp", 0.5, 1, _promise("fnr", threshold=0.5))
    (row,) = kept_promises(alone, rows)
    assert (row.events, row.trials) == (1, 3)
    together = replace(alone, costs=Costs(defer=1, error=5), cost=1.0)
    (row,) = kept_promises(together, rows)
    drawn = [i for i in independent(rows, None) if LABELS[i] == 1 and TAKEN[i]]
    assert row.trials == len(drawn) < 3


def test_strata_are_drawn_apart() -> None:
    groups = np.array(list("aaaabbbb"), dtype=object)
    strata = np.array(list("nnssnnss"), dtype=object)
    rows = _rows(groups=groups, strata=strata)
    drawn = independent(rows, None)
    assert [(groups[i], strata[i]) for i in drawn] == [*zip("aabb", "nsns", strict=True)]


@pytest.mark.parametrize(
    ("bound", "shown"), [(0.72961, "0.7297"), (5.0, "5"), (12341.0, "12350"), (1e-5, "0.00001")]
)
def test_a_promised_cost_is_rounded_up(bound: float, shown: str) -> None:
    costs = Costs(defer=1, miss=20000, false_alarm=4)
    promise = _promise("cost", bound / 20000)
    (row,) = kept_promises(_policy(promise, costs=costs), _rows())
    assert row.promise.endswith(f"at most {shown}")
    assert bound_of(_policy(promise, costs=costs)) == f"mean cost <= {shown}"
