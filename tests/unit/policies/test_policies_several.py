"""One threshold for several promises, and one for each class."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit import artifact
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, ConfigError
from selectkit.policies import (
    ClasswisePolicy,
    Costs,
    Guide,
    Outputs,
    SoftmaxPolicy,
    Target,
    Targets,
    fit_threshold,
    thresholds_policy,
)
from selectkit.policies.softmax_fit import Labels
from selectkit.risk import Infeasible
from tests.unit.policies.two_classes import draw, guide

HASH = "sha256:" + "0" * 64
CONTEXT = {"head": HASH, "calibrator": HASH, "split": "calib"}


def _many(n: int = 4000, seed: int = 0) -> tuple[Outputs, Labels]:
    """Four classes of unequal size with honest probabilities."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4)) * 3 + np.array([2.0, 1.0, 0.0, -7.0])
    y = (z + rng.gumbel(size=z.shape)).argmax(axis=1)
    return Outputs(z, softmax(z)), y.astype(np.int64)


def _joint(text: str, **settings: Any) -> SoftmaxPolicy:
    outputs, y = draw(4000, 0)
    found, _ = fit_threshold(
        outputs, y, targets=Targets.parse(text) if text else (),
        **{"positive": 1, "guide": guide(2000), **settings},
    )  # fmt: skip
    assert isinstance(found, SoftmaxPolicy)
    return found


def test_one_threshold_counts_every_target() -> None:
    outputs, y = draw(4000, 0)
    policy = _joint("error=0.05,miss_rate=0.3,deferral=0.4", split="calib")
    d = policy.decide(outputs)
    wrong, yes = d.accepted & (d.prediction != y), y == 1
    error, miss, deferral = policy.certificates
    assert (error.errors, error.n_accepted) == (wrong.sum(), d.accepted.sum())
    assert (miss.errors, miss.n) == ((wrong & yes).sum(), yes.sum())
    assert (deferral.errors, deferral.n) == ((~d.accepted).sum(), 4000)
    assert {c.threshold for c in policy.certificates} == {policy.threshold}
    assert all(c.risk_upper <= c.alpha and c.split == "calib" for c in policy.certificates)
    said = policy.sentences()
    assert said[0].endswith("all of the following hold together:")
    assert said[3].startswith("at most 40 % of images are deferred (")


def test_the_target_in_the_way_is_named() -> None:
    outputs, y = draw(4000, 0)
    found, rows = fit_threshold(
        outputs, y, targets=Targets.parse("error=0.001,deferral=0.05"), positive=1,
        guide=guide(2000),
    )  # fmt: skip
    assert isinstance(found, Infeasible)
    assert found.risk in {"error", "deferral"}
    assert "together with" in found.reason
    assert not any(row.certified or row.chosen for row in rows)
    policy = SoftmaxPolicy.deferring(
        found, score="msp", positive=1, targets=Targets.parse("error=0.001,deferral=0.05")
    )
    assert thresholds_policy(policy.to_dict()) == policy
    assert policy.rule() == "defer everything"


def test_costs_of_many_classes_choose_among_the_certified() -> None:
    outputs, y = _many()
    guide = Guide(*_many(seed=1))
    costs = Costs.parse("error=20,defer=1")
    wide, _ = fit_threshold(outputs, y, targets=[Target("error", 0.1)], guide=guide)
    cheap, rows = fit_threshold(
        outputs, y, targets=[Target("error", 0.1)], guide=guide, costs=costs
    )
    alone, _ = fit_threshold(outputs, y, guide=guide, costs=costs)
    assert isinstance(wide, SoftmaxPolicy)
    assert isinstance(cheap, SoftmaxPolicy)
    assert isinstance(alone, SoftmaxPolicy)
    assert wide.threshold < cheap.threshold
    assert cheap.cost == min(row.cost or 0 for row in rows if row.certified)
    assert 0.9 < alone.threshold < 0.99  # 1 - defer / error
    (bound,) = alone.certificates
    assert alone.cost is not None
    assert alone.cost < 20 * bound.alpha < 2 * alone.cost


def test_unanswerable_questions_are_refused() -> None:
    outputs, y = _many(100)
    with pytest.raises(ConfigError, match="are for two classes"):
        fit_threshold(outputs, y, costs=Costs.parse("miss=1,false_alarm=1,defer=1"))
    with pytest.raises(ConfigError, match="needs to know the positive class"):
        fit_threshold(outputs, y, targets=Targets.parse("error=0.1,fnr=0.1"))
    with pytest.raises(ConfigError, match=r"deferral=0\.3 alone is kept by accepting everything"):
        SoftmaxPolicy.fit(outputs, y, target=Target("deferral", 0.3))
    with pytest.raises(ConfigError, match="score 'luck' is unknown"):
        fit_threshold(outputs, y, targets=[Target("error", 0.1)], score="luck")


@pytest.mark.parametrize("text", ["error=0.05,miss_rate=0.3", "error=0.05", ""])
def test_a_joint_policy_comes_back_exactly(tmp_path: Path, text: str) -> None:
    policy = _joint(text, costs=Costs.parse("miss=50,false_alarm=3,defer=1"))
    path = tmp_path / "thresholds.json"
    artifact.save(path, "thresholds", {**policy.to_dict(), **CONTEXT})
    assert thresholds_policy(artifact.load(path, "thresholds")[0]) == policy


def test_false_alarms_among_all_negatives_have_a_single_threshold() -> None:
    outputs, y = draw(4000, 0)
    policy = SoftmaxPolicy.fit(outputs, y, target=Target("false_alarm", 0.01), positive=1)
    assert isinstance(policy, SoftmaxPolicy)
    d, (c,) = policy.decide(outputs), policy.certificates
    assert c.n == (y == 0).sum()
    assert c.errors == (d.accepted & (d.prediction == 1) & (y == 0)).sum()
    assert policy.score_name == "msp"
    assert policy.rule() == f"accept iff msp >= {policy.threshold:.6g}"
    assert policy.sentences() == (c.sentence(),)


def test_every_class_has_its_threshold_and_certificate() -> None:
    outputs, y = _many()
    policy = ClasswisePolicy.fit(
        outputs, y, target=Target("error", 0.1), classes=["a", "b", "c", "rare"], split="calib"
    )
    assert isinstance(policy, ClasswisePolicy)
    d = policy.decide(outputs)
    for c in policy.certificates:
        k = ["class a", "class b", "class c"].index(c.about or "")
        mine = d.accepted & (d.prediction == k)
        assert (c.n_accepted, c.errors) == (mine.sum(), (mine & (d.prediction != y)).sum())
        assert c.risk_upper <= 0.1
        assert c.coverage == d.accepted.mean() > c.coverage_lower > 0.3
    assert [c.about for c in policy.certificates] == ["class a", "class b", "class c"]
    ((who, why),) = policy.deferred
    assert who == "class rare"
    assert why.needs is not None
    assert why.needs > why.n
    assert policy.thresholds[3] == np.inf
    assert not (d.accepted & (d.prediction == 3)).any()
    np.testing.assert_array_equal(d.score >= policy.threshold, d.accepted)
    sizes = d.prediction_set.sum(axis=1)
    np.testing.assert_array_equal(sizes, np.where(d.accepted, 1, 4))
    assert "1 of 4 classes always deferred" in policy.rule()
    assert policy.sentences()[-1].startswith("Class rare is always deferred: ")


def test_a_class_that_is_always_accepted_has_no_number_in_the_rule() -> None:
    outputs, y = _many()
    policy = ClasswisePolicy.fit(outputs, y, target=Target("error", 0.1))
    assert isinstance(policy, ClasswisePolicy)
    lowest, few = float(np.finfo(np.float64).min), policy.thresholds[3]
    some = replace(policy, thresholds=(lowest, 0.75, 0.8, few))
    assert "of its class (the lowest to 0.8); 1 of 4 classes" in some.rule()
    every = replace(policy, thresholds=(lowest, lowest, lowest, few))
    assert every.rule() == ("accept everything of 3 classes; 1 of 4 classes always deferred")
    assert replace(policy, thresholds=(lowest,) * 4).rule() == "accept everything"


def test_no_class_can_be_certified_with_few_rows() -> None:
    outputs, y = _many(60)
    found = ClasswisePolicy.fit(outputs, y, target=Target("error", 0.02))
    assert isinstance(found, Infeasible)
    assert found.needs == 114
    assert "no class can be certified: " in found.message()
    policy = ClasswisePolicy.deferring(
        found, score="msp", target=Target("error", 0.02), n_classes=4
    )
    assert not policy.decide(outputs).accepted.any()
    assert thresholds_policy(policy.to_dict()) == policy
    assert policy.rule() == "defer everything"


def test_a_per_class_policy_comes_back_exactly_and_damage_is_refused(tmp_path: Path) -> None:
    policy = ClasswisePolicy.fit(*_many(), target=Target("error", 0.1))
    assert isinstance(policy, ClasswisePolicy)
    path = tmp_path / "thresholds.json"
    artifact.save(path, "thresholds", {**policy.to_dict(), **CONTEXT})
    document = artifact.load(path, "thresholds")[0]
    assert thresholds_policy(document) == policy
    for change, message in (
        ({"thresholds": [0.5, 0.5, 0.5, 0.5]}, "accepts 4 classes and has 3 certificates"),
        ({"thresholds": [0.5]}, "a threshold for each class"),
        ({"thresholds": ["nan", 1, 1, 1]}, "should be numbers"),
        ({"thresholds": ["low", 1, 1, 1]}, "'thresholds' should be numbers"),
        ({"score": "luck"}, "score 'luck' is unknown"),
        ({"form": "single"}, "is not the per-class policy"),
        ({"delta": 0.5}, "not those of its target"),
    ):
        with pytest.raises(ArtifactError, match=message):
            ClasswisePolicy.from_dict({**document, **change})
    with pytest.raises(ConfigError, match="the policy knows 4 classes, the rows have 2"):
        policy.decide(draw(5, 0)[0])


def test_a_target_for_each_class_is_an_error_rate() -> None:
    with pytest.raises(ConfigError, match="keep error=RATE in every class"):
        ClasswisePolicy.fit(*_many(100), target=Target("fnr", 0.1))
    with pytest.raises(ConfigError, match="2 names for 4 classes"):
        ClasswisePolicy.fit(*_many(100), target=Target("error", 0.1), classes=["a", "b"])


def test_certificates_can_say_that_they_count_groups() -> None:
    classes = ClasswisePolicy.fit(*_many(), target=Target("error", 0.1))
    assert isinstance(classes, ClasswisePolicy)
    for policy in (classes, _joint("error=0.05,miss_rate=0.3")):
        counted = policy.counting_groups()
        assert all(c.grouped for c in counted.certificates)
        assert "counting one image of each group" in counted.sentences()[0]
        back = replace(counted.certificates[0], grouped=False)
        assert back == policy.certificates[0]
