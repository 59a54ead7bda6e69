"""Two-sided thresholds: what they count, decide, refuse and store."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from selectkit import artifact
from selectkit.errors import ArtifactError, ConfigError, DataError, RiskError
from selectkit.policies import (
    Costs,
    ExitPolicy,
    Guide,
    Outputs,
    Target,
    Targets,
    TwoSidedPolicy,
    thresholds_policy,
)
from selectkit.policies.families import Pairs, Rows, _fitted
from selectkit.policies.trade_off import table
from selectkit.risk import Infeasible
from selectkit.stats import clopper_pearson_upper
from tests.unit.policies.two_classes import draw, guide, outputs_of

HASH = "sha256:" + "0" * 64


def _fit(text: str, n: int = 3000, seed: int = 0, **settings: Any) -> TwoSidedPolicy:
    outputs, y = draw(n, seed)
    settings = {"positive": 1, "guide": guide(), **settings}
    policy = TwoSidedPolicy.fit(outputs, y, targets=Targets.parse(text) if text else (), **settings)
    assert isinstance(policy, TwoSidedPolicy)
    return policy


def test_the_certificates_count_what_the_decisions_do() -> None:
    outputs, y = draw(3000, 0)
    asked = "error=0.05,fnr=0.15,miss_rate=0.15,fpr=0.05,false_alarm=0.05,deferral=0.6"
    policy = _fit(asked, split="calib")
    d = policy.decide(outputs)
    yes, a, wrong = y == 1, d.accepted, d.prediction != y
    counts = {
        "error": (a & wrong, a, y >= 0),
        "fnr": (a & wrong & yes, a & yes, yes),
        "miss_rate": (a & wrong & yes, yes, yes),
        "fpr": (a & wrong & ~yes, a & ~yes, ~yes),
        "false_alarm": (a & wrong & ~yes, ~yes, ~yes),
        "deferral": (~a, y >= 0, y >= 0),
    }
    assert [c.risk for c in policy.certificates] == list(counts)
    for c in policy.certificates:
        errors, among, about = (int(mask.sum()) for mask in counts[c.risk])
        accepted = int((counts[c.risk][2] & a).sum())
        assert (c.errors, c.n, c.n_accepted) == (errors, about, accepted)
        assert c.risk_upper == clopper_pearson_upper(errors, among, 0.1) <= c.alpha
        assert c.coverage == a.mean() > c.coverage_lower > 0.3
        assert (c.kind, c.split, c.delta, c.threshold) == ("pac", "calib", 0.1, 0.0)


def test_decisions_follow_the_side_and_not_the_most_probable_class() -> None:
    policy = replace(_fit("error=0.05"), t0=0.2, t1=0.4)
    d = policy.decide(outputs_of(np.array([0.0, np.nextafter(0.2, 0), 0.2, 0.3, 0.4, 0.45, 1.0])))
    assert d.accepted.tolist() == [True, True, False, False, True, True, True]
    assert d.prediction.tolist() == [0, 0, 0, 0, 1, 1, 1]
    assert d.prediction_set.sum(axis=1).tolist() == [1, 1, 2, 2, 1, 1, 1]
    assert d.prediction_set[np.arange(7), d.prediction].all()
    np.testing.assert_array_equal(d.score >= policy.threshold, d.accepted)
    other = replace(policy, positive=0).decide(outputs_of(np.array([0.9, 0.5])))
    assert other.prediction.tolist() == [1, 0]
    assert other.accepted.all()


@pytest.mark.parametrize(
    ("t0", "t1", "accepted", "prediction"),
    [
        (0.0, np.inf, [False, False, False], [0, 0, 1]),
        (0.0, 0.0, [True, True, True], [1, 1, 1]),
        (np.inf, np.inf, [True, True, True], [0, 0, 0]),
        (0.5, 0.5, [True, True, True], [0, 1, 1]),
    ],
)
def test_the_ends_of_both_thresholds(
    t0: float, t1: float, accepted: list[bool], prediction: list[int]
) -> None:
    policy = replace(_fit("error=0.05"), t0=t0, t1=t1)
    d = policy.decide(outputs_of(np.array([0.0, 0.5, 1.0])))
    assert d.accepted.tolist() == accepted
    assert np.where(d.accepted, d.prediction, prediction).tolist() == prediction
    assert np.isfinite(d.score).all()
    np.testing.assert_array_equal(d.score >= 0, d.accepted)


def test_pairs_are_counted_as_row_by_row() -> None:
    rng = np.random.default_rng(0)
    p = rng.integers(0, 6, 40) / 5
    outputs, y = outputs_of(p), rng.integers(0, 2, 40)
    pairs = Pairs.of_cuts(np.unique(p))
    tally = pairs.tally(Rows.counted(p, outputs, y, 1))
    for j in range(len(pairs)):
        low, high = p < pairs.t0[j], p >= pairs.t1[j]
        assert not (low & high).any()
        assert tally.accepted[j] == (low | high).sum()
        assert tally.positives[j] == ((low | high) & (y == 1)).sum()
        assert tally.missed[j] == (low & (y == 1)).sum()
        assert tally.alarms[j] == (high & (y == 0)).sum()
        assert tally.wrong[j] == tally.missed[j] + tally.alarms[j]
    assert len(pairs) == 7 * 8 / 2  # ends 0, 0.2, ..., 1 and inf; t0 <= t1


def test_every_target_alone_and_the_class_of_code_zero() -> None:
    for text in ("error=0.05", "fnr=0.1", "miss_rate=0.1", "fpr=0.05", "false_alarm=0.05"):
        assert _fit(text).certificates[0].coverage > 0.3
    outputs, y = draw(3000, 0)
    flipped = Outputs(outputs.logits[:, ::-1], outputs.probabilities[:, ::-1])
    g = guide()
    turned = Guide(
        Outputs(g.outputs.logits[:, ::-1], g.outputs.probabilities[:, ::-1]), 1 - g.labels
    )
    targets = Targets.parse("fnr=0.1,fpr=0.05")
    there = TwoSidedPolicy.fit(flipped, 1 - y, targets=targets, positive=0, guide=turned)
    here = _fit("fnr=0.1,fpr=0.05")
    assert isinstance(there, TwoSidedPolicy)
    assert (there.t0, there.t1) == (here.t0, here.t1)


def test_both_sides_find_their_own_threshold() -> None:
    policy = _fit("fnr=0.05,fpr=0.05", guide=guide(4000))
    assert policy.t0 < 0.1 < policy.t1
    assert policy.certificates[0].coverage > 0.7


@pytest.mark.parametrize("n_positive", [0, 1])
def test_hardly_any_positives_are_infeasible_with_the_number_that_would_do(
    n_positive: int,
) -> None:
    outputs, y = draw(400, 0)
    y[:] = 0
    y[np.argsort(outputs.probabilities[:, 1])[::-1][:n_positive]] = 1
    found = TwoSidedPolicy.fit(
        outputs, y, targets=Targets.parse("fnr=0.02,fpr=0.1"), positive=1, guide=guide()
    )
    assert isinstance(found, Infeasible)
    assert (found.risk, found.alpha, found.n) == ("fnr", 0.02, n_positive)
    assert found.needs is not None
    assert found.needs >= 114
    if not n_positive:
        assert "no positive in the calibration split, needs at least 114" in found.message()


def test_what_no_number_of_labels_would_do_is_said() -> None:
    outputs, y = draw(3000, 0, apart=0.5)
    targets = Targets.parse("fnr=0.02,fpr=0.02,deferral=0.1")
    found = TwoSidedPolicy.fit(outputs, y, targets=targets, positive=1, guide=guide(apart=0.5))
    assert isinstance(found, Infeasible)
    assert found.needs is None
    assert "together with" in found.reason
    assert "more labels will not help" in found.message()


def test_constant_scores_accept_all_or_nothing() -> None:
    p, y = np.full(500, 0.1), (np.arange(500) % 10 == 0).astype(np.int64)
    g = Guide(outputs_of(p[:100]), y[:100])
    kept = TwoSidedPolicy.fit(outputs_of(p), y, targets=[Target("error", 0.2)], positive=1, guide=g)
    assert isinstance(kept, TwoSidedPolicy)
    assert kept.certificates[0].coverage == 1
    assert kept.t0 == np.inf
    assert (kept.decide(outputs_of(p)).prediction == 0).all()
    lost = TwoSidedPolicy.fit(
        outputs_of(p), y, targets=[Target("error", 0.05)], positive=1, guide=g
    )
    assert isinstance(lost, Infeasible)
    assert lost.needs is None


def test_without_a_guide_a_third_of_the_rows_is_used_up() -> None:
    outputs, y = draw(3000, 0)
    policy = TwoSidedPolicy.fit(outputs, y, targets=Targets.parse("error=0.05"), positive=1)
    assert isinstance(policy, TwoSidedPolicy)
    assert policy.certificates[0].n == 2000
    alone = TwoSidedPolicy.fit(
        outputs.take(np.array([0])), y[:1], targets=Targets.parse("fnr=0.1,fpr=0.02"), positive=1
    )
    assert isinstance(alone, Infeasible)
    assert alone.needs == 114


def test_among_certified_pairs_the_cheapest_is_taken() -> None:
    outputs, y = draw(3000, 0)
    costs = Costs.parse("miss=50,false_alarm=3,defer=1")
    policy, rows = TwoSidedPolicy.explore(
        outputs, y, targets=Targets.parse("fnr=0.1,fpr=0.05"), positive=1, costs=costs,
        guide=guide(),
    )  # fmt: skip
    assert isinstance(policy, TwoSidedPolicy)
    assert policy.cost == pytest.approx(costs.of(policy.decide(outputs), y, 1).mean())
    certified = [row for row in rows if row.certified]
    assert len(certified) > 3
    chosen = [row for row in rows if row.chosen]
    assert [row.thresholds for row in chosen] == [(policy.t0, policy.t1)]
    assert chosen[0].cost == policy.cost == min(row.cost or 0 for row in certified)
    assert "->*" in "\n".join(table(rows))
    assert "an estimate, not a promise" in policy.sentences()[-1]
    widest = _fit("fnr=0.1,fpr=0.05")
    assert widest.certificates[0].coverage > policy.certificates[0].coverage


def test_costs_alone_choose_on_the_guide_and_are_bounded() -> None:
    costs = Costs.parse("miss=50,false_alarm=3,defer=1")
    policy = _fit("", costs=costs)
    (c,) = policy.certificates
    assert (c.risk, c.kind) == ("cost", "pac")
    assert policy.cost is not None
    assert policy.cost < c.alpha * costs.largest < 2 * policy.cost
    assert 0.005 < policy.t0 < 0.06  # defer / miss = 0.02
    assert 0.4 < policy.t1 < 0.9  # 1 - defer / false_alarm = 0.67
    assert "the expected cost of an image is at most" in policy.sentences()[0]


def test_the_target_holds_in_every_group() -> None:
    outputs, y = draw(6000, 0)
    groups = np.where(np.arange(6000) % 3 == 0, "a", "b")
    policy = _fit("error=0.05", n=6000, groups=groups)
    assert [c.about for c in policy.certificates] == ["group a", "group b"]
    assert [c.n for c in policy.certificates] == [2000, 4000]
    accepted = policy.decide(outputs).accepted
    assert [c.n_accepted for c in policy.certificates] == [
        int(accepted[groups == name].sum()) for name in "ab"
    ]
    few = np.where(np.arange(6000) < 20, "a", "b")
    found = TwoSidedPolicy.fit(
        outputs, y, targets=[Target("error", 0.05)], positive=1, guide=guide(), groups=few
    )
    assert isinstance(found, Infeasible)
    assert "samples of group a" in found.reason
    assert found.needs is not None
    assert found.needs >= 45


def test_unusable_questions_are_refused() -> None:
    outputs, y = draw(50, 0)
    three = Outputs(np.zeros((2, 3)), np.full((2, 3), 1 / 3))
    with pytest.raises(ConfigError, match="two-sided thresholds are for two classes, there are 3"):
        TwoSidedPolicy.fit(three, [0, 1], targets=[Target("error", 0.1)], positive=1)
    with pytest.raises(ConfigError, match="no target"):
        TwoSidedPolicy.fit(outputs, y, positive=1)
    with pytest.raises(ConfigError, match="stands alone"):
        TwoSidedPolicy.fit(outputs, y, targets=[Target("coverage", 0.5)], positive=1)
    with pytest.raises(ConfigError, match=r"positive class 2 is outside \[0, 2\)"):
        TwoSidedPolicy.fit(outputs, y, targets=[Target("error", 0.1)], positive=2)
    with pytest.raises(DataError, match=r"groups must have shape \(50,\)"):
        TwoSidedPolicy.fit(outputs, y, targets=[Target("error", 0.1)], positive=1, groups=["a"])
    with pytest.raises(RiskError, match="delta"):
        TwoSidedPolicy.fit(outputs, y, targets=[Target("error", 0.1)], positive=1, delta=1.0)
    with pytest.raises(ConfigError, match="decides between two classes"):
        _fit("error=0.05").decide(three)


@pytest.mark.parametrize("text", ["error=0.05", "fnr=0.1,fpr=0.05", ""])
def test_a_saved_policy_comes_back_exactly(tmp_path: Path, text: str) -> None:
    costs = None if text == "error=0.05" else Costs.parse("miss=50,false_alarm=3,defer=1")
    policy, path = _fit(text, costs=costs), tmp_path / "thresholds.json"
    context = {"head": HASH, "calibrator": HASH, "split": "calib"}
    artifact.save(path, "thresholds", {**policy.to_dict(), **context})
    document = artifact.load(path, "thresholds")[0]
    assert thresholds_policy(document) == policy
    assert TwoSidedPolicy.from_dict(document) == policy
    one: ExitPolicy = policy
    assert "positive iff p(positive) >= " in one.rule()


def test_a_saved_refusal_comes_back_and_defers_everything(tmp_path: Path) -> None:
    why = Infeasible("fnr", 0.02, 0.1, 3, "3 positives", 114)
    targets = Targets.parse("fnr=0.02,fpr=0.1")
    policy = TwoSidedPolicy.deferring(why, targets=targets, positive=1)
    path = tmp_path / "thresholds.json"
    artifact.save(
        path,
        "thresholds",
        {**policy.to_dict(), "head": HASH, "calibrator": HASH, "split": "calib"},
    )
    back = thresholds_policy(artifact.load(path, "thresholds")[0])
    assert back == policy
    d = back.decide(outputs_of(np.array([0.0, 0.3, 1.0])))
    assert not d.accepted.any()
    assert not (d.score >= back.threshold).any()
    assert back.rule() == "defer everything"
    assert back.sentences() == (why.message(),)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"form": "many"}, "form 'many' is not the two-sided policy"),
        ({"thresholds": [0.5, 0.4]}, "needs 0 <= t0 <= t1"),
        ({"thresholds": [0.5, "nan"]}, "should be numbers"),
        ({"thresholds": ["low", 1]}, "'thresholds' should be numbers"),
        ({"positive": 2}, "a positive class of two"),
        ({"certificate": None}, "either promise something or say why"),
        ({"target": {"risk": "error", "alpha": 0.01}}, "not those of its target"),
        ({"target": {"risk": "luck", "alpha": 0.01}}, "unknown risk 'luck'"),
        ({"delta": 0.2}, "not those of its target"),
        ({"costs": {"defer": -1, "error": 1}}, "'defer' should be a number of at least 0"),
    ],
)
def test_damaged_documents_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ArtifactError, match=message):
        TwoSidedPolicy.from_dict({**_fit("error=0.05").to_dict(), **change})


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(ArtifactError, match="form 'many' are unknown to this release; known: sin"):
        thresholds_policy({"policy": "softmax", "form": "many"})


@pytest.mark.parametrize("flipped", [0.0, 0.02])
def test_a_share_of_wrong_labels_is_expected_of_the_surest_rows_too(flipped: float) -> None:
    rng = np.random.default_rng(3)
    q = 1 / (1 + np.exp(-rng.normal(0, 5, 4000)))
    y = (rng.random(4000) < q) ^ (rng.random(4000) < flipped)
    found = _fitted(q, y.astype(np.float64))
    surest = np.r_[found[q < 1e-3], 1 - found[q > 1 - 1e-3]].mean()
    assert surest == pytest.approx(flipped, abs=0.015 if flipped else 0.002)
    between = (q > 0.2) & (q < 0.8)
    assert np.abs(found - q)[between].mean() < 0.05
