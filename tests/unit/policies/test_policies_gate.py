"""The gate policy: one or several targets, decisions, refusals, and its life on disk."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.stats import binom

from selectkit import artifact
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, ConfigError, DataError, RiskError
from selectkit.policies import Outputs, SoftmaxPolicy, Target
from selectkit.policies.gate import GatePolicy
from selectkit.policies.scores import Gate

HASH = "sha256:" + "0" * 64
GATE = Gate(slope=2.0, intercept=-0.5)
Labels = npt.NDArray[np.int64]


def gated(n: int = 3000, seed: int = 0, error: float = 0.2) -> tuple[Outputs, Labels]:
    """Errors get likelier as the gate's logit falls: at rank r of 1, error times r squared."""
    rng = np.random.default_rng(seed)
    rank = rng.random(n)
    predicted = rng.integers(0, 2, n)
    wrong = rng.random(n) < error * rank**2
    z = np.where(predicted[:, None] == np.arange(2), 1.0, 0.0)
    return Outputs(z, softmax(z), gate=5 - 10 * rank), np.where(wrong, 1 - predicted, predicted)


def both(error: float, deferral: float) -> list[Target]:
    return [Target("error", error), Target("deferral", deferral)]


def test_error_and_coverage_are_certified_by_one_threshold() -> None:
    outputs, y = gated()
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.05, 0.4), split="calib")
    decision = policy.decide(outputs)
    error, deferral = policy.certificates
    assert {c.threshold for c in policy.certificates} == {policy.threshold}
    assert (error.risk, error.alpha, deferral.risk, deferral.alpha) == (
        "error", 0.05, "deferral", 0.4,
    )  # fmt: skip
    assert error.n_accepted == deferral.n_accepted == decision.accepted.sum()
    assert error.errors == (decision.prediction != y)[decision.accepted].sum()
    assert deferral.errors == (~decision.accepted).sum()
    assert all(c.kind == "pac" and c.split == "calib" and c.delta == 0.1 for c in (error, deferral))
    assert error.risk_upper <= 0.05
    assert deferral.risk_upper <= 0.4
    assert 0.7 < error.coverage < 0.9
    assert policy.sentences()[-1] == "All 2 hold together with 90 % confidence."


def test_coverage_takes_a_tenth_of_delta_and_is_exact() -> None:
    """The strictest certified count n_c: P(Bin(N, c) >= n_c) <= delta / 10 < that of n_c - 1."""
    outputs, y = gated(1000, error=0.0)
    y[np.argsort(-np.asarray(outputs.gate))[-250:]] ^= 1  # all errors beyond the first 750
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.0033, 0.3))
    n = policy.certificates[0].n_accepted
    strictest = next(k for k in range(1001) if binom.sf(k - 1, 1000, 0.7) <= 0.01)
    assert n >= strictest
    assert policy.certificates[0].errors == 0
    narrow = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.0031, 0.3))
    assert narrow.infeasible is not None  # at level 0.09 it takes 776 right rows, 0.33 % takes 729


def test_only_a_deferral_rate_takes_the_strictest_threshold_that_keeps_it() -> None:
    outputs, y = gated(1000)
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=Target("deferral", 0.3))
    n = policy.certificates[0].n_accepted
    assert binom.sf(n - 1, 1000, 0.7) <= 0.1 < binom.sf(n - 2, 1000, 0.7)


@pytest.mark.parametrize("target", ["error=0.05", "fnr=0.1", "coverage=0.7"])
def test_one_target_is_kept_as_the_softmax_policy_keeps_it(target: str) -> None:
    outputs, y = gated()
    asked = Target.parse(target)
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=[asked], positive=1)
    other = SoftmaxPolicy.fit(outputs, y, target=asked, score=GATE, positive=1)
    assert isinstance(other, SoftmaxPolicy)
    assert policy.certificates == other.certificates
    assert policy.threshold == other.threshold
    np.testing.assert_array_equal(policy.decide(outputs).accepted, other.decide(outputs).accepted)


def test_three_promises_at_once() -> None:
    outputs, y = gated(6000)
    targets = [Target("deferral", 0.5), Target("fnr", 0.08), Target("fpr", 0.06)]
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=targets, positive=1)
    assert [c.risk for c in policy.certificates] == ["fnr", "fpr", "deferral"]
    for c in policy.certificates:
        assert c.errors / (c.n if c.risk == "deferral" else c.n_accepted) < c.risk_upper <= c.alpha
    assert policy.certificates[0].n == (y == 1).sum()
    assert policy.certificates[1].n == (y == 0).sum()


def test_several_risks_without_a_coverage_survive_an_early_error() -> None:
    outputs, y = gated(4000, error=0.1)
    most_confident = int(np.argmax(np.asarray(outputs.gate)))
    y[most_confident] = 1 - outputs.prediction[most_confident]
    targets = [Target("fnr", 0.05), Target("fpr", 0.05)]
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=targets, positive=1)
    assert policy.infeasible is None
    assert policy.certificates[0].coverage > 0.7


def test_ties_are_accepted_or_deferred_together() -> None:
    outputs, y = gated(2000, error=0.02)
    tied = Outputs(outputs.logits, outputs.probabilities, gate=np.round(np.asarray(outputs.gate)))
    policy = GatePolicy.fit(tied, y, gate=GATE, target=both(0.05, 0.35))
    accepted = policy.decide(tied).accepted
    levels = {float(u): set(accepted[np.asarray(tied.gate) == u]) for u in np.asarray(tied.gate)}
    assert all(len(said) == 1 for said in levels.values())
    assert policy.certificates[0].n_accepted == accepted.sum()


def test_constant_gates_accept_all_or_nothing() -> None:
    outputs, y = gated(500, error=0.0)
    flat = Outputs(outputs.logits, outputs.probabilities, gate=np.zeros(500))
    policy = GatePolicy.fit(flat, y, gate=GATE, target=both(0.05, 0.2))
    assert policy.decide(flat).accepted.all()
    assert policy.rule() == "accept everything"


def test_several_risks_are_tested_at_their_shares_where_no_one_start_is_affordable() -> None:
    """Two risks at delta / 2 each: without errors they take 59 rows each."""
    targets = [Target("fnr", 0.05), Target("fpr", 0.05)]
    for n, feasible in ((58, False), (59, True)):
        y = np.repeat([0, 1], n)
        z = np.eye(2)[y]
        outputs = Outputs(z, softmax(z), gate=np.linspace(1, 2, 2 * n))
        found = GatePolicy.fit(outputs, y, gate=GATE, target=targets, positive=1, delta=0.1)
        assert (found.infeasible is None) == feasible
        if found.infeasible is not None:
            assert (found.infeasible.n, found.infeasible.needs) == (58, 59)


def test_several_risks_with_one_start_cost_nothing_more() -> None:
    """Three errors take 132 rows at 0.1 of each class; at 0.05 they would take 153."""
    targets = [Target("fnr", 0.05), Target("fpr", 0.05)]
    y = np.tile([0, 1], 132)
    wrong = np.isin(np.arange(264), [100, 101, 150, 151, 200, 201])
    z = np.eye(2)[np.where(wrong, 1 - y, y)]
    outputs = Outputs(z, softmax(z), gate=np.linspace(2, 1, 264))
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=targets, positive=1, delta=0.1)
    assert [c.errors for c in policy.certificates] == [3, 3]
    assert policy.decide(outputs).accepted.all()


def test_risks_that_no_one_threshold_keeps_are_infeasible_together() -> None:
    """Negatives are right at the top only, positives in large numbers at the bottom only."""
    top, rest = 300, 700
    y = np.repeat([0, 1], [top, rest])
    predicted = np.where(np.arange(1000) < 310, 0, 1)
    y[310:] = np.where(np.arange(690) % 3 == 0, 0, 1)  # alarms; no positive above but ten missed
    z = np.eye(2)[predicted]
    outputs = Outputs(z, softmax(z), gate=-np.arange(1000.0))
    for risk in ("fnr", "fpr"):
        alone = [Target(risk, 0.1), Target("deferral", 0.95)]
        kept = GatePolicy.fit(outputs, y, gate=GATE, target=alone, positive=1)
        assert kept.infeasible is None
    both_risks = [Target("fnr", 0.1), Target("fpr", 0.1)]
    found = GatePolicy.fit(outputs, y, gate=GATE, target=both_risks, positive=1)
    assert found.infeasible is not None
    assert "the other targets and the tests allow" in found.infeasible.reason


@pytest.mark.parametrize(
    ("n", "targets", "needs", "reason"),
    [
        (20, both(0.05, 0.05), 90, "20 samples in the calibration split"),
        (40, both(0.05, 0.3), 47, "40 samples in the calibration split"),
    ],
)
def test_too_few_rows_say_how_many_would_do(
    n: int, targets: list[Target], needs: int, reason: str
) -> None:
    outputs, y = gated(n, error=0.0)
    policy = GatePolicy.fit(outputs, y, gate=GATE, target=targets)
    assert policy.infeasible is not None
    assert (policy.infeasible.needs, policy.infeasible.reason) == (needs, reason)
    assert not policy.decide(outputs).accepted.any()
    assert (policy.threshold, policy.certificates) == (np.inf, ())
    assert policy.rule() == "defer everything"
    assert policy.sentences() == (policy.infeasible.message(),)


def test_too_many_errors_say_whether_more_rows_would_help() -> None:
    outputs, y = gated(1000)
    never = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.01, 0.2)).infeasible
    assert never is not None
    assert never.needs is None
    assert never.reason.endswith("so more labels will not help")
    close = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.06, 0.05)).infeasible
    if close is not None and close.needs is not None:
        assert close.needs > 1000


def test_no_positive_at_all_is_infeasible() -> None:
    outputs, _ = gated(300)
    targets = [Target("fnr", 0.05), Target("deferral", 0.3)]
    policy = GatePolicy.fit(outputs, np.zeros(300, int), gate=GATE, target=targets, positive=1)
    assert policy.infeasible is not None
    assert (policy.infeasible.risk, policy.infeasible.n) == ("fnr", 0)


def test_unusable_arguments_are_refused() -> None:
    outputs, y = gated(100)
    with pytest.raises(ConfigError, match="target error is given more than once"):
        GatePolicy.fit(outputs, y, gate=GATE, target=[Target("error", 0.1), Target("error", 0.2)])
    with pytest.raises(ConfigError, match=r"ask for deferral=0.2 to certify"):
        GatePolicy.fit(
            outputs, y, gate=GATE, target=[Target("error", 0.1), Target("coverage", 0.8)]
        )
    with pytest.raises(ConfigError, match=r"--target fnr=0\.1 needs to know the positive class"):
        GatePolicy.fit(outputs, y, gate=GATE, target=Target("fnr", 0.1))
    with pytest.raises(ConfigError, match="no target"):
        GatePolicy.fit(outputs, y, gate=GATE, target=[])
    with pytest.raises(RiskError, match="delta"):
        GatePolicy.fit(outputs, y, gate=GATE, target=both(0.1, 0.2), delta=1.0)
    ungated = Outputs(outputs.logits, outputs.probabilities)
    with pytest.raises(DataError, match="needs a head with a trained gate"):
        GatePolicy.fit(ungated, y, gate=GATE, target=both(0.1, 0.2))


CONTEXT: dict[str, Any] = {
    "format_version": 2, "head": HASH, "calibrator": HASH, "split": "calib", "fitted_on": "select",
}  # fmt: skip


@pytest.mark.parametrize(
    "targets", [both(0.05, 0.4), both(0.001, 0.01), [Target("coverage", 0.5)], both(0.3, 0.9)]
)
def test_a_saved_policy_comes_back_exactly(tmp_path: Path, targets: list[Target]) -> None:
    outputs, y = gated()
    policy, path = GatePolicy.fit(outputs, y, gate=GATE, target=targets), tmp_path / "g.json"
    artifact.save(path, "gateparams", {**policy.to_dict(), **CONTEXT})
    document, _ = artifact.load(path, "gateparams")
    assert GatePolicy.from_dict(document) == policy
    assert Gate.from_dict(document) == GATE


def test_a_calibration_of_the_first_release_is_read_and_is_no_policy(tmp_path: Path) -> None:
    path = tmp_path / "gateparams.json"
    fields = {**GATE.to_dict(), "fitted_on": "select", "calibrator": HASH, "head": HASH}
    artifact.save(path, "gateparams", fields)
    document, _ = artifact.load(path, "gateparams")
    assert document["format_version"] == 1
    assert Gate.from_dict(document) == GATE
    with pytest.raises(ArtifactError, match="calibration of a gate and no policy"):
        GatePolicy.from_dict(document)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.25}, r"the gate's threshold 0.25 at delta 0.1 is not the certified one"),
        ({"threshold": "high"}, "the gate policy is malformed: 'threshold' should be a number"),
        ({"certificates": []}, "the gate's certificates are not about its targets"),
        ({"targets": []}, "the gate's certificates are not about its targets"),
        ({"parameters": {"slope": -1, "intercept": 0}}, "the gate's slope must be positive"),
        ({"targets": [{"risk": "error", "alpha": 0.01}]}, "certificates are not about its targets"),
    ],
)
def test_damaged_documents_are_refused(change: dict[str, Any], message: str) -> None:
    outputs, y = gated()
    document = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.05, 0.4)).to_dict()
    with pytest.raises(ArtifactError, match=message):
        GatePolicy.from_dict({**document, **change})
    lacking = {k: v for k, v in document.items() if k != "delta"}
    with pytest.raises(ArtifactError, match="the gate policy lacks 'delta'"):
        GatePolicy.from_dict(lacking)


def test_an_infeasible_policy_that_accepts_is_refused() -> None:
    outputs, y = gated(20)
    document = GatePolicy.fit(outputs, y, gate=GATE, target=both(0.01, 0.01)).to_dict()
    assert document["threshold"] == "inf"
    with pytest.raises(ArtifactError, match="must defer everything"):
        GatePolicy.from_dict({**document, "threshold": 0.0})
