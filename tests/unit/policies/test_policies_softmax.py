"""The threshold policy: the rows each target counts, decisions, refusals, and its life on disk."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import artifact
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, ConfigError, DataError, RiskError
from selectkit.policies import SCORES, Outputs, SoftmaxPolicy, Target
from selectkit.risk import Infeasible, labels_needed
from selectkit.stats import clopper_pearson_upper

HASH = "sha256:" + "0" * 64
Labels = npt.NDArray[np.int64]


def _binary(n: int = 4000, seed: int = 0) -> tuple[Outputs, Labels]:
    """Honest two-class probabilities, a third of the rows positive."""
    rng = np.random.default_rng(seed)
    z = np.stack([np.zeros(n), rng.normal(-1.5, 3, size=n)], axis=1)
    p = softmax(z)
    return Outputs(z, p), (rng.random(n) < p[:, 1]).astype(np.int64)


def _fit(target: str, **settings: Any) -> SoftmaxPolicy:
    outputs, y = _binary()
    policy = SoftmaxPolicy.fit(outputs, y, target=Target.parse(target), positive=1, **settings)
    assert isinstance(policy, SoftmaxPolicy)
    return policy


@pytest.mark.parametrize("target", ["error=0.05", "fnr=0.1", "fpr=0.05", "miss_rate=0.1"])
def test_the_certificate_counts_the_rows_the_target_is_about(target: str) -> None:
    outputs, y = _binary()
    policy = _fit(target, split="calib")
    c, decision = policy.certificate, policy.decide(outputs)
    assert c is not None
    about = {"error": y >= 0, "fnr": y == 1, "miss_rate": y == 1, "fpr": y == 0}[c.risk]
    wrong = decision.prediction != y
    assert c.n == about.sum()
    assert c.n_accepted == (about & decision.accepted).sum()
    assert c.errors == (about & decision.accepted & wrong).sum()
    denominator = c.n if c.risk == "miss_rate" else c.n_accepted
    assert c.risk_upper == pytest.approx(clopper_pearson_upper(c.errors, denominator, 0.1))
    assert c.errors / denominator < c.risk_upper <= c.alpha
    assert c.coverage == decision.accepted.mean() > 0.1
    assert c.coverage_lower == pytest.approx(c.coverage - np.sqrt(np.log(10) / 8000))
    assert (c.kind, c.split, c.delta) == ("pac", "calib", 0.1)


def test_a_false_negative_rate_counts_only_the_positive_class_of_many() -> None:
    rng = np.random.default_rng(0)
    z = rng.normal(size=(3000, 4)) * 4
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    policy = SoftmaxPolicy.fit(Outputs(z, softmax(z)), y, target=Target("fnr", 0.1), positive=2)
    assert isinstance(policy, SoftmaxPolicy)
    assert policy.certificate is not None
    assert policy.certificate.n == (y == 2).sum()
    assert policy.positive == 2


@pytest.mark.parametrize("score", sorted(SCORES))
def test_decisions_follow_the_threshold(score: str) -> None:
    policy, (outputs, _) = _fit("error=0.1", score=score), _binary(seed=1)
    decision = policy.decide(outputs)
    np.testing.assert_array_equal(decision.score, SCORES[score](outputs))
    np.testing.assert_array_equal(decision.accepted, decision.score >= policy.threshold)
    np.testing.assert_array_equal(decision.prediction, outputs.prediction)
    sizes = decision.prediction_set.sum(axis=1)
    np.testing.assert_array_equal(sizes, np.where(decision.accepted, 1, 2))
    assert decision.prediction_set[np.arange(len(outputs)), decision.prediction].all()


@pytest.mark.parametrize(("threshold", "accepted"), [(-np.inf, 1.0), (np.inf, 0.0), (0.5, 1.0)])
def test_a_score_at_the_threshold_is_accepted(threshold: float, accepted: float) -> None:
    policy = replace(_fit("error=0.1"), threshold=threshold)
    outputs = Outputs(np.zeros((3, 2)), np.full((3, 2), 0.5))
    assert policy.decide(outputs).accepted.mean() == accepted


def test_stricter_targets_accept_less() -> None:
    outputs, _ = _binary(seed=1)
    coverages = [
        _fit(f"error={alpha}").decide(outputs).accepted.mean() for alpha in (0.02, 0.05, 0.1)
    ]
    assert coverages == sorted(set(coverages))


@pytest.mark.parametrize("share", [0.1, 0.8, 0.999])
def test_a_coverage_target_is_met_and_promises_nothing(share: float) -> None:
    outputs, y = _binary()
    policy = _fit(f"coverage={share}")
    decision, c = policy.decide(outputs), policy.certificate
    assert c is not None
    assert share <= decision.accepted.mean() < share + 1 / 4000 + 1e-9
    assert (c.kind, c.risk, c.alpha) == ("none", "coverage", share)
    assert c.errors == (decision.prediction != y)[decision.accepted].sum()


def test_ties_at_the_coverage_quantile_are_all_accepted() -> None:
    p = np.array([[0.9, 0.1]] * 3 + [[0.7, 0.3]] * 5 + [[0.6, 0.4]] * 2)
    policy = SoftmaxPolicy.fit(
        Outputs(np.log(p), p), np.zeros(10, dtype=int), target=Target("coverage", 0.4)
    )
    assert isinstance(policy, SoftmaxPolicy)
    assert policy.threshold == 0.7
    assert policy.certificate is not None
    assert policy.certificate.coverage == 0.8


def test_a_round_share_takes_no_row_too_many() -> None:
    z = np.stack([np.zeros(10), np.arange(1.0, 11)], axis=1)
    y = np.ones(10, dtype=int)
    for tenth in range(1, 10):
        target = Target("coverage", tenth * 0.1)  # 0.30000000000000004 among them
        policy = SoftmaxPolicy.fit(Outputs(z, softmax(z)), y, target=target)
        assert isinstance(policy, SoftmaxPolicy)
        assert policy.certificate is not None
        assert policy.certificate.n_accepted == tenth


@pytest.mark.parametrize(
    ("target", "label", "which"), [("fnr=0.02", 0, "positive"), ("fpr=0.02", 1, "negative")]
)
def test_without_rows_to_count_the_target_is_infeasible(
    target: str, label: int, which: str
) -> None:
    outputs, y = _binary(50)
    found = SoftmaxPolicy.fit(
        outputs, np.full_like(y, label), target=Target.parse(target), positive=1
    )
    assert isinstance(found, Infeasible)
    assert (found.n, found.needs) == (0, labels_needed(0.02, 0.1))
    assert f"no {which} sample in the calibration split, needs at least 114" in found.message()


def test_too_few_rows_are_infeasible_with_the_number_that_would_do() -> None:
    outputs, y = _binary(60)
    found = SoftmaxPolicy.fit(outputs, y, target=Target("error", 0.02))
    assert isinstance(found, Infeasible)
    assert found.needs is not None
    assert found.needs >= 114


@pytest.mark.parametrize("risk", ["fnr", "fpr", "miss_rate"])
def test_a_missing_positive_class_is_refused(risk: str) -> None:
    outputs, y = _binary(50)
    with pytest.raises(ConfigError) as error:
        SoftmaxPolicy.fit(outputs, y, target=Target(risk, 0.1))
    assert str(error.value) == (
        f"--target {risk}=0.1 needs to know the positive class: name it with --positive."
    )


def test_other_unusable_arguments_are_refused() -> None:
    outputs, y = _binary(50)
    error, coverage = Target("error", 0.1), Target("coverage", 0.5)
    with pytest.raises(ConfigError, match=r"positive class 2 is outside \[0, 2\)"):
        SoftmaxPolicy.fit(outputs, y, target=error, positive=2)
    with pytest.raises(ConfigError, match="score 'luck' is unknown; known: msp, margin, neg_ent"):
        SoftmaxPolicy.fit(outputs, y, target=error, score="luck")
    with pytest.raises(DataError, match=r"labels must have shape \(50,\)"):
        SoftmaxPolicy.fit(outputs, y[:49], target=error)
    with pytest.raises(DataError, match=r"label -1 in row 0 is outside \[0, 2\)"):
        SoftmaxPolicy.fit(outputs, np.full(50, -1), target=error)
    for target in (error, coverage):
        with pytest.raises(RiskError, match="delta"):
            SoftmaxPolicy.fit(outputs, y, target=target, delta=0.0)


@pytest.mark.parametrize("target", ["error=0.05", "fnr=0.1", "coverage=0.8"])
def test_a_saved_policy_comes_back_exactly(tmp_path: Path, target: str) -> None:
    policy, path = _fit(target, split="calib"), tmp_path / "thresholds.json"
    context = {"head": HASH, "calibrator": HASH, "split": "calib"}
    artifact.save(path, "thresholds", {**policy.to_dict(), **context})
    back = SoftmaxPolicy.from_dict(artifact.load(path, "thresholds")[0])
    assert back == policy
    assert artifact.load(path, "thresholds")[0]["target"] == {
        "risk": target.split("=")[0],
        "alpha": float(target.split("=")[1]),
    }


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "oracle"}, "policy 'oracle' is unknown to this release; known: softmax"),
        ({"score": "luck"}, "score 'luck' is unknown; known: msp"),
        ({"threshold": 0.25}, r"the threshold 0.25 is not the certified one \("),
        ({"threshold": "high"}, "the softmax policy is malformed: 'threshold' should be a number"),
        ({"certificate": None}, "the softmax policy has no certificate. Calibrate again"),
    ],
)
def test_damaged_documents_are_refused(change: dict[str, Any], message: str) -> None:
    document = _fit("error=0.1").to_dict()
    with pytest.raises(ArtifactError, match=message):
        SoftmaxPolicy.from_dict({**document, **change})


def test_a_missing_field_is_named() -> None:
    document = _fit("error=0.1").to_dict()
    del document["positive"]
    with pytest.raises(ArtifactError, match="the softmax policy lacks 'positive'"):
        SoftmaxPolicy.from_dict(document)
