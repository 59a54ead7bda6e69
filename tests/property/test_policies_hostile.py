"""Every policy on rows that are hard: ties, constant scores, few or no positives, too few rows."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selectkit.policies import (
    CascadePolicy,
    ClasswisePolicy,
    Costs,
    Decision,
    GatePolicy,
    Guide,
    Outputs,
    ScrcPolicy,
    SoftmaxPolicy,
    StageCosts,
    Target,
    Targets,
    TwoSidedPolicy,
    fit_threshold,
)
from selectkit.policies.scores import Gate
from selectkit.risk import Certificate, Infeasible

Labels = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
COSTS = {"costs": Costs.parse("miss=20,false_alarm=2,defer=1")}


@dataclass(frozen=True)
class Case:
    """One way to ask for a policy.

    Attributes:
        fit: Makes a policy from calibration rows, other rows, and a factor on all levels.
        about: Rows that its first target is about: -1 all, 0 or 1 those of one class.
        drawn: Whether it splits or shuffles rows, so that their order matters.
        spares: Whether some wrong predictions may be accepted: a share of all, or sets of two.
        looks: Whether other rows decide what is tested, so that what suffices is an estimate.
    """

    fit: Callable[[Guide, Guide, float], Any]
    about: int = -1
    drawn: bool = False
    spares: bool = False
    looks: bool = False


def levels(text: str, factor: float) -> Targets:
    """Targets with all levels times a factor, except the share that may be deferred."""
    return Targets(
        t if t.risk == "deferral" else Target(t.risk, t.alpha * factor) for t in Targets.parse(text)
    )


def softmax(text: str) -> Callable[[Guide, Guide, float], Any]:
    return lambda c, g, f: SoftmaxPolicy.fit(
        c.outputs, c.labels, target=levels(text, f)[0], positive=1
    )


def several(text: str, **more: Any) -> Callable[[Guide, Guide, float], Any]:
    return lambda c, g, f: fit_threshold(
        c.outputs, c.labels, targets=levels(text, f), positive=1, guide=g, **more
    )[0]


def sides(text: str | None, **more: Any) -> Callable[[Guide, Guide, float], Any]:
    return lambda c, g, f: TwoSidedPolicy.fit(
        c.outputs, c.labels, targets=levels(text, f) if text else (), positive=1, guide=g, **more
    )


def gate(text: str) -> Callable[[Guide, Guide, float], Any]:
    return lambda c, g, f: GatePolicy.fit(
        c.outputs, c.labels, gate=Gate(2.0, -0.5), target=levels(text, f), positive=1
    )


def scrc(text: str, variant: Any, exits: Any) -> Callable[[Guide, Guide, float], Any]:
    return lambda c, g, f: ScrcPolicy.fit(
        c.outputs, c.labels, target=levels(text, f)[0], positive=1, xi=0.6, variant=variant,
        exits=exits,
    )  # fmt: skip


def weaker(outputs: Outputs) -> Outputs:
    """What a cheaper stage says about the same rows: the same, less sure."""
    p = 0.5 + 0.5 * (outputs.probabilities - 0.5)
    return Outputs(np.log(p), p)


def cascade(text: str, last_decides: bool) -> Callable[[Guide, Guide, float], Any]:
    return lambda c, g, f: CascadePolicy.fit(
        [weaker(c.outputs), c.outputs], c.labels, costs=StageCosts((1.0, 4.0), 20.0),
        target=levels(text, f), select=([weaker(g.outputs), g.outputs], g.labels), positive=1,
        last_decides=last_decides,
    )  # fmt: skip


CASES = {
    **{f"softmax {t}": Case(softmax(f"{t}=0.15"), about=a, spares=t in {"miss_rate", "false_alarm"})
       for t, a in (("error", -1), ("fnr", 1), ("miss_rate", 1), ("fpr", 0), ("false_alarm", 0))},
    "softmax, several": Case(several("error=0.15,deferral=0.8"), looks=True),
    "softmax, several and costs": Case(several("fnr=0.2,fpr=0.2", **COSTS), about=1, looks=True),
    "two-sided": Case(sides("error=0.15,deferral=0.8"), looks=True),
    "two-sided, missed and costs": Case(
        sides("miss_rate=0.2", **COSTS), about=1, spares=True, looks=True),
    "two-sided, costs": Case(sides(None, **COSTS), drawn=True, spares=True, looks=True),
    "per class": Case(lambda c, g, f: ClasswisePolicy.fit(
        c.outputs, c.labels, target=Target("error", 0.15 * f))),
    "gate": Case(gate("error=0.15")),
    "gate, error and deferral": Case(gate("error=0.15,deferral=0.8")),
    "gate, missed and alarms": Case(gate("fnr=0.2,fpr=0.2,deferral=0.9"), about=1),
    "gate, missed of all": Case(gate("miss_rate=0.2,false_alarm=0.2"), about=1, spares=True),
    **{f"scrc {risk} {variant} {exits}": Case(
        scrc(f"{risk}=0.15", variant, exits), about=a, drawn=variant == "split_pac",
        spares=True, looks=risk == "fnr")
       for risk, a in (("error", -1), ("fnr", 1))
       for variant in ("t", "split_pac", "joint")
       for exits in ("accepted", "singletons")},
    "cascade": Case(cascade("error=0.15", last_decides=False), looks=True),
    "cascade, last decides": Case(
        cascade("fnr=0.2,deferral=0.8", last_decides=True), about=1, looks=True),
}  # fmt: skip
EVERY = pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())


def outputs_of(p: Floats) -> Outputs:
    """Two classes, the second with probability p; the gate is as sure as the classes."""
    both = np.clip(np.stack([1 - p, p], axis=1), 1e-9, 1)
    both /= both.sum(axis=1, keepdims=True)
    return Outputs(np.log(both), both, gate=4 * np.abs(both[:, 1] - 0.5))


def rows(n: int, seed: int, steps: int | None = None) -> Guide:
    """Rows with honest probabilities; with ties if steps are few."""
    rng = np.random.default_rng(seed)
    p = rng.beta(0.4, 0.4, n)
    p = p if steps is None else np.round(p * steps) / steps
    return Guide(outputs_of(p), (rng.random(n) < p).astype(np.int64))


def right(n: int, seed: int = 0) -> Guide:
    """Rows that are all predicted rightly, half of them positive."""
    found = rows(n, seed)
    p = np.where(np.arange(n) % 2 == 1, 1.0, -1.0) * np.abs(found.outputs.probabilities[:, 1] - 0.5)
    outputs = outputs_of(0.5 + p)
    return Guide(outputs, outputs.prediction)


def decide(policy: Any, outputs: Outputs) -> Decision:
    stages = [weaker(outputs), outputs]
    found: Decision = policy.decide(stages if isinstance(policy, CascadePolicy) else outputs)
    return found


def why(answer: Any) -> Infeasible | None:
    """The refusal, whether returned or inside of a policy that defers everything."""
    found = answer if isinstance(answer, Infeasible) else answer.infeasible
    assert found is None or isinstance(found, Infeasible)
    return found


def check(answer: Any, calib: Guide, case: Case) -> None:
    """What is right of every answer, whatever the rows."""
    refused = why(answer)
    if refused is not None:
        assert refused.message().startswith("INFEASIBLE: ")
        assert refused.needs is None or refused.needs > refused.n or refused.needs > 1
        if isinstance(answer, Infeasible):
            return
        assert answer.certificates == ()
        assert not decide(answer, calib.outputs).accepted.any()
        return
    d = decide(answer, calib.outputs)
    np.testing.assert_array_equal(d.accepted, d.score >= answer.threshold)
    assert d.prediction_set[np.arange(len(calib.labels)), d.prediction].all()
    for c in answer.certificates:
        assert c.kind != "pac" or c.risk_upper <= c.alpha + 1e-12
        assert 0 <= c.coverage_lower <= c.coverage <= 1
        if not (case.drawn or c.risk.startswith("set_") or c.risk in {"not_selected", "cost"}):
            recount(c, d, calib)
    document = answer.to_dict()
    assert type(answer).from_dict(document) == answer


def recount(c: Certificate, d: Decision, calib: Guide) -> None:
    y, wrong = calib.labels, d.prediction != calib.labels
    among = {"fnr": y == 1, "miss_rate": y == 1, "fpr": y == 0, "false_alarm": y == 0}.get(
        c.risk, np.ones(len(y), dtype=np.bool_)
    )
    if c.about is not None:
        among = d.prediction == int(c.about.removeprefix("class "))
        assert c.n == among.sum()
    if c.risk == "deferral":
        return  # of the rows, or of those that pass lambda1
    assert c.n_accepted == (d.accepted & among).sum()
    assert c.errors == (d.accepted & among & wrong).sum()


@EVERY
@settings(max_examples=12, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n=st.integers(1, 500),
    steps=st.sampled_from([None, 1, 3, 20]),
)
def test_any_rows(case: Case, seed: int, n: int, steps: int | None) -> None:
    calib, other = rows(n, seed, steps), rows(max(n, 2), seed + 1, steps)
    answer = case.fit(calib, other, 1.0)
    check(answer, calib, case)
    shuffle = np.random.default_rng(seed).permutation(n)
    again = case.fit(calib.take(shuffle), other, 1.0)
    if not case.drawn:
        assert again == answer


@EVERY
def test_equal_rows_are_decided_equally(case: Case) -> None:
    calib, other = rows(900, 0, steps=12), rows(900, 1, steps=12)
    answer = case.fit(calib, other, 1.6)
    check(answer, calib, case)
    if why(answer) is not None:
        return
    d, p = decide(answer, calib.outputs), calib.outputs.probabilities[:, 1]
    for value in np.unique(p):
        assert len(set(d.accepted[p == value])) == 1
        assert len(set(d.prediction[p == value])) == 1


@EVERY
@pytest.mark.parametrize("p", [0.03, 0.97])
def test_constant_scores_are_all_accepted_or_all_deferred(case: Case, p: float) -> None:
    y = (np.random.default_rng(0).random(600) < p).astype(np.int64)
    calib = Guide(outputs_of(np.full(600, p)), y)
    answer = case.fit(calib, calib, 1.0)
    check(answer, calib, case)
    if why(answer) is None:
        assert decide(answer, calib.outputs).accepted.mean() in {0.0, 1.0}


@EVERY
@pytest.mark.parametrize("positives", [0, 1])
def test_no_positive_or_one(case: Case, positives: int) -> None:
    calib = right(600)
    keep = np.append(
        np.flatnonzero(calib.labels == 0), np.flatnonzero(calib.labels == 1)[:positives]
    )
    few = calib.take(keep)
    answer = case.fit(few, right(400, seed=1), 1.0)
    check(answer, few, case)
    refused = why(answer)
    if case.about == 1:
        assert refused is not None
        assert refused.risk.removeprefix("set_") in {"fnr", "miss_rate"}
        assert refused.n <= positives
        assert refused.needs is not None
        assert refused.needs > positives


@EVERY
def test_right_rows_are_nearly_all_accepted(case: Case) -> None:
    calib = right(2000)
    answer = case.fit(calib, right(2000, seed=1), 1.0)
    check(answer, calib, case)
    assert why(answer) is None
    share = decide(answer, calib.outputs).accepted.mean()
    assert share > (0.5 if isinstance(answer, ScrcPolicy) else 0.9)


@EVERY
def test_wrong_rows_are_all_deferred_and_more_do_not_help(case: Case) -> None:
    calib = right(800)
    wrong = replace(calib, labels=1 - calib.labels)
    answer = case.fit(wrong, replace(right(800, seed=1), labels=1 - right(800, seed=1).labels), 1.0)
    check(answer, wrong, case)
    refused = why(answer)
    if not case.spares:
        assert refused is not None
        assert refused.needs is None


@EVERY
def test_a_level_below_one_in_n_plus_1_names_the_number_that_suffices(case: Case) -> None:
    factor, n = 1 / 30, 80  # 0.005, or 0.0067
    calib = right(n)
    answer = case.fit(calib, right(400, seed=1), factor)
    check(answer, calib, case)
    refused = why(answer)
    if refused is None:
        assert {c.risk for c in answer.certificates} == {"cost"}
        return
    assert refused.needs is not None
    about = n if case.about < 0 else int((calib.labels == case.about).sum())
    assert refused.needs > about
    for _ in range(4 if case.looks else 1):  # other rows show how much of them can be accepted
        size = int(np.ceil(refused.needs * n / refused.n))
        enough = right(size)
        answer = case.fit(enough, right(size, seed=1), factor)
        again = why(answer)
        if again is None:
            break
        assert again.needs is not None
        assert again.needs > refused.needs
        n, refused = size, again
    assert again is None
    assert decide(answer, enough.outputs).accepted.any()
