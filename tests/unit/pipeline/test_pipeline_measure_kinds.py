"""Sets, stages, means and rankings of small splits, counted by hand."""

from dataclasses import replace
from math import inf, isnan

import numpy as np
import pytest

from selectkit.pipeline.judged import Judged
from selectkit.pipeline.judging import ranking_of
from selectkit.pipeline.measure import measure
from selectkit.pipeline.measure_cascade import flow_of, row_costs
from selectkit.pipeline.measure_sets import SetsOf, class_rows, measure_sets, size_rows
from selectkit.pipeline.ratios import _distinct, measure_ratios
from selectkit.policies import (
    CascadePoint,
    CascadePolicy,
    ClasswisePolicy,
    Decision,
    Outputs,
    ScrcPolicy,
    Stage,
    Target,
    Targets,
    TwoSidedPolicy,
)
from selectkit.policies.constraints import Constraint
from selectkit.risk import Certificate, Infeasible

BOOTSTRAP = {"n_replicates": 50, "seed": 0}


def _judged(labels: list[int], said: list[int], **decision: object) -> Judged:
    n = len(labels)
    p = np.full((n, 3), 0.1)
    p[np.arange(n), said] = 0.8
    made = {
        "accepted": np.ones(n, bool),
        "prediction": np.array(said),
        "prediction_set": np.eye(3, dtype=bool)[said],
        "score": np.linspace(1, 0, n),
        **decision,
    }
    return Judged(np.array(labels), p, Decision(**made), None, None, ("a", "b", "c"))  # type: ignore[arg-type]


def test_means_over_some_rows() -> None:
    judged = _judged([0] * 6, [0] * 6)
    some = np.array([True, True, True, False, False, False])
    values = np.array([1.0, 2.0, 6.0, 100.0, 100.0, 100.0])
    nobody = np.zeros(6, bool)
    found = measure_ratios(
        judged,
        {"mean": (some, values), "rate": (some, values > 1), "none": (nobody, nobody),
         "same": (some, np.ones(6))},
        **BOOTSTRAP,
    )  # fmt: skip
    assert found["mean"].value == pytest.approx(3.0)
    assert 1 <= found["mean"].low < 3 < found["mean"].high <= 6
    assert found["rate"].value == pytest.approx(2 / 3)
    assert (found["rate"].low, found["rate"].high) == pytest.approx((0.0942993, 0.9915962), abs=0.1)
    assert isnan(found["none"].value)
    assert found["same"].value == 1
    assert isnan(found["same"].low)


MEMBERS = np.array(
    [[1, 0, 0], [0, 1, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1], [1, 1, 1], [1, 0, 0]], dtype=bool
)
LABELS = [0, 2, 1, 2, 0, 0, 0]
SAID = [0, 1, 0, 1, 2, 0, 0]


def _sets() -> tuple[SetsOf, Judged]:
    passed = np.array([True, True, True, True, True, False, True])
    judged = _judged(LABELS, SAID, accepted=passed, prediction_set=MEMBERS)
    return SetsOf(MEMBERS, passed, np.array(LABELS), np.array(SAID)), judged


def test_sets_are_counted_where_the_score_passes() -> None:
    sets, judged = _sets()
    found = measure_sets(sets, judged, **BOOTSTRAP)
    assert found["mean_set_size"].value == pytest.approx((1 + 1 + 2 + 3 + 2 + 1) / 6)
    assert found["set_coverage"].value == pytest.approx(4 / 6)  # rows 1 and 4 miss their class
    assert found["singleton_share"].value == pytest.approx(3 / 6)
    assert found["singleton_error"].value == pytest.approx(1 / 3)
    assert "set_fnr" not in found
    positive = measure_sets(sets, replace(judged, positive=2), **BOOTSTRAP)
    assert positive["set_fnr"].value == pytest.approx(1 / 2)
    sizes = [(row.size, row.n, row.inside) for row in size_rows(sets)]
    assert sizes == [(1, 3, 2), (2, 2, 1), (3, 1, 1)]
    a, b, c = class_rows(sets, ("a", "b", "c"))
    assert (a.n, a.passed, a.inside, a.singletons, a.wrong) == (4, 3, 2, 2, 0)
    assert a.mean_size == pytest.approx(4 / 3)
    assert (b.n, b.passed, b.inside, b.singletons, b.wrong) == (1, 1, 1, 0, 0)
    assert (c.n, c.passed, c.inside, c.singletons, c.wrong) == (2, 2, 1, 1, 1)


def test_a_class_without_a_set_has_no_mean_size() -> None:
    sets, _ = _sets()
    rows = class_rows(replace(sets, passed=np.zeros(7, bool)), ("a", "b", "c"))
    assert all(isnan(row.mean_size) for row in rows)
    assert size_rows(replace(sets, passed=np.zeros(7, bool))) == ()


def test_a_mistake_of_a_set_is_a_class_outside_it() -> None:
    sets, judged = _sets()
    assert judged.mistake.tolist() == judged.wrong.tolist()
    by_sets = replace(judged, outside=~sets.inside)
    assert by_sets.mistake.tolist() == [False, True, False, False, True, False, False]
    assert by_sets.rows(np.array([4, 0])).mistake.tolist() == [True, False]


def _cascade(human: float | None = 10.0) -> CascadePolicy:
    stages = (
        Stage("small", "msp", 0.9, 1.0, 8, 4, 1, 3, 2.0),
        Stage("big", "msp", 0.7, 5.0, 4, 2, 1, 1, None),
    )
    promise = Certificate("error", 0.2, 0.1, "pac", "m", 0.0, 8, 6, 1, 0.2, 0.75, 0.5)
    points = (
        CascadePoint((0.9, 0.7), 6.0, 0.1, 0.75, True),
        CascadePoint((0.5, 0.5), 2.0, 0.3, 1.0, False),
    )
    target = (Constraint("error", 0.2),)
    return CascadePolicy(stages, target, 0.1, None, human, "EUR", 8, (promise,), points)


def test_a_row_pays_for_every_stage_that_it_reaches() -> None:
    leaves = np.array([0, 1, 2, 0])
    assert row_costs(_cascade(), leaves).tolist() == [1.0, 6.0, 16.0, 1.0]
    assert row_costs(_cascade(None), leaves).tolist() == [1.0, 6.0, 6.0, 1.0]


def test_the_flow_through_the_stages() -> None:
    stage = np.array([0, 0, 1, 2, 0, 1, 2, 0])
    labels, said = [0, 1, 2, 0, 0, 1, 1, 2], [0, 1, 2, 1, 1, 1, 1, 2]
    judged = _judged(labels, said, stage=stage, accepted=stage < 2)
    flow = flow_of(_cascade(), judged, (), **BOOTSTRAP)
    small, big = flow.stages
    assert (small.reached, small.decided, small.wrong) == (8, 4, 1)
    assert (big.reached, big.decided, big.wrong) == (4, 2, 0)
    assert small.error[0] == pytest.approx(1 / 4)
    assert big.error[0] == 0
    assert big.error[2] == pytest.approx(1 - 0.025**0.5)  # no error among two
    assert small.before == pytest.approx((1.0, 0.5, 0.25))
    assert big.before == pytest.approx((0.5, 0.5, 0.5))
    assert flow.cost[0] == pytest.approx((4 * 1 + 2 * 6 + 2 * 16) / 8)
    assert flow.deferred == 2
    assert [(p.certified, p.chosen) for p in flow.front] == [(True, True), (False, False)]
    assert isnan(flow.measured[1])
    assert (small.rule, flow.unit, flow.human) == ("msp >= 0.9", "EUR", 10.0)


def _outputs(p: list[float]) -> Outputs:
    table = np.stack([1 - np.array(p), np.array(p)], axis=1)
    return Outputs(np.log(table), table)


TWO_SIDED = TwoSidedPolicy(0.1, 0.6, 1, Targets(), 0.1, ())


def test_two_thresholds_are_ranked_by_the_distance_outside_both() -> None:
    outputs = _outputs([0.05, 0.3, 0.55, 0.9])
    ranking = ranking_of(TWO_SIDED, TWO_SIDED.decide(outputs), outputs)
    assert ranking.confidence == pytest.approx([0.05, -0.2, -0.05, 0.3])
    assert ranking.threshold == 0
    assert "both move alike" in ranking.about
    why = Infeasible("fnr", 0.1, 0.1, 3, "too few", None)
    never = TwoSidedPolicy.deferring(why, positive=1)
    nothing = ranking_of(never, never.decide(outputs), outputs)
    assert nothing.confidence == pytest.approx([0.95, 0.7, 0.55, 0.9])
    assert nothing.threshold == inf


def test_a_class_that_is_always_decided_is_ranked_from_its_lowest_score() -> None:
    """A threshold of minus the largest number would make every distance that large."""
    policy = ClasswisePolicy("msp", (-np.finfo(float).max, 0.8), Target("error", 0.1), 0.1, ())
    outputs = _outputs([0.2, 0.4, 0.9, 0.7])
    decision = policy.decide(outputs)
    ranking = ranking_of(policy, decision, outputs)
    assert ranking.confidence == pytest.approx([0.2, 0.0, 0.1, -0.1])
    assert ((ranking.confidence >= 0) == decision.accepted).all()
    always = replace(policy, thresholds=(inf, 0.8))
    deferred = ranking_of(always, always.decide(outputs), outputs)
    assert deferred.confidence.tolist()[:2] == [-inf, -inf]


def test_sets_move_no_threshold_and_cascades_have_none() -> None:
    outputs = _outputs([0.05, 0.3, 0.55, 0.9])
    target = Target("error", 0.1)
    sets = ScrcPolicy("msp", "t", "threshold", "accepted", target, 0.5, 0.1, 0.6, 0.5, None, ())
    ranking = ranking_of(sets, sets.decide(outputs), outputs)
    assert not ranking.tunable
    assert "most probable class" in ranking.about
    exits = replace(sets, exits="singletons")
    assert ranking_of(exits, exits.decide(outputs), outputs).threshold == 0
    decision = Decision(
        np.ones(4, bool), outputs.prediction, np.eye(2, dtype=bool)[[0, 0, 1, 1]], np.zeros(4),
        np.zeros(4, np.int64),
    )  # fmt: skip
    cascade = ranking_of(_cascade(), decision, outputs)
    assert cascade.confidence == pytest.approx([0.95, 0.7, 0.55, 0.9])
    assert isnan(cascade.threshold)
    assert not cascade.tunable


def test_what_is_always_deferred_has_no_risk_at_full_coverage() -> None:
    judged = _judged([0, 1, 2, 0], [0, 1, 0, 1], score=np.array([0.4, 0.2, -inf, -inf]))
    sections, curve = measure(judged, **BOOTSTRAP)
    at_half = sections["ranking"]["risk_at_coverage@0.5"]
    assert (at_half.value, at_half.high) == pytest.approx((0.0, 1 - 0.025**0.5))
    assert curve[0.5] == at_half
    assert isnan(sections["ranking"]["risk_at_coverage@0.9"].value)
    assert isnan(curve[1.0].value)


def test_rows_that_are_equal_are_drawn_as_counts() -> None:
    """Groups of one row each go the long way, row by row; both are the same bootstrap."""
    rng = np.random.default_rng(3)
    judged = _judged([0] * 300, [0] * 300)
    values = rng.choice([0.0, 1.0, 20.0], 300, p=[0.7, 0.2, 0.1])
    ratios = {"cost": (rng.random(300) < 0.9, values), "rate": (values > 0, values > 1)}
    short = measure_ratios(judged, ratios, n_replicates=4000, seed=1)
    alone = replace(judged, groups=np.arange(300))
    long = measure_ratios(alone, ratios, n_replicates=4000, seed=1)
    for name, interval in short.items():
        assert interval.value == pytest.approx(long[name].value)
        width = long[name].high - long[name].low
        assert interval.low == pytest.approx(long[name].low, abs=0.05 * width)
        assert interval.high == pytest.approx(long[name].high, abs=0.05 * width)


def test_distinct_rows_of_wide_tables(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    table = rng.integers(0, 3, (200, 5)).astype(np.float64)
    wanted, times = np.unique(table, axis=0, return_counts=True)
    for largest in (1 << 62, 4):  # codes that outgrow an integer are numbered anew
        monkeypatch.setattr("selectkit.pipeline.ratios._LARGEST_CODE", largest)
        rows, counts = _distinct(table)
        np.testing.assert_array_equal(rows, wanted)
        np.testing.assert_array_equal(counts, times)
