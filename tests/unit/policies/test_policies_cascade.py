"""Cascades: counts against a plain loop, choices, costs, refusals, and their life on disk."""

from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit import artifact
from selectkit.arrays import softmax
from selectkit.errors import ArtifactError, ConfigError, DataError
from selectkit.policies import Outputs, Target
from selectkit.policies.cascade import CascadePolicy, StageCosts, cascade_front, words
from selectkit.policies.cascade.grid import Grid
from selectkit.policies.cascade.rows import CascadeRows, measured
from selectkit.policies.constraints import Constraint
from selectkit.policies.scores import Gate

HASH = "sha256:" + "0" * 64
Labels = npt.NDArray[np.int64]
COSTS = StageCosts((0.1, 1.0), human=20.0)


def staged(
    n: int = 3000, seed: int = 0, noise: tuple[float, ...] = (4.0, 0.5)
) -> tuple[list[Outputs], Labels]:
    """Stages that see the same evidence through more or less noise."""
    rng = np.random.default_rng(seed)
    z = rng.normal(-0.3, 3, n)
    y = (rng.random(n) < 1 / (1 + np.exp(-2 * z))).astype(np.int64)
    stages = []
    for s in noise:
        logits = np.stack([np.zeros(n), 2 * z + rng.normal(0, s, n)], axis=1)
        stages.append(Outputs(logits, softmax(logits), gate=np.abs(logits[:, 1])))
    return stages, y


def fit(target: str = "error=0.05", seed: int = 0, **settings: Any) -> CascadePolicy:
    noise = settings.pop("noise", (4.0, 0.5))
    stages, y = staged(seed=seed, noise=noise)
    targets = [Target.parse(part) for part in target.split(",")]
    select = settings.pop("select", staged(1500, seed + 1, noise))
    costs = StageCosts((0.1, 1.0, 5.0)[: len(noise)], 20.0)
    every: dict[str, Any] = {"costs": costs, "positive": 1, **settings}
    return CascadePolicy.fit(stages, y, target=targets, select=select, **every)


@pytest.mark.parametrize("risk", ["error", "fnr", "fpr", "miss_rate", "false_alarm", "deferral"])
@pytest.mark.parametrize("last_decides", [False, True])
def test_counts_of_all_tuples_are_those_of_a_loop(risk: str, last_decides: bool) -> None:
    stages, y = staged(200, noise=(4.0, 1.0, 0.5))
    rows = CascadeRows.of(stages, ("msp", "margin", "msp"), y)
    grid = Grid((
        np.array([-np.inf, 0.7, 0.99, np.inf]),
        np.array([-np.inf, 2.0, np.inf]),
        np.array([-np.inf] if last_decides else [0.8, np.inf]),
    ))
    costs = StageCosts((1.0, 2.0, 4.0), 8.0)
    found = measured(rows, grid, [Constraint(risk, 0.1)], costs, 1)
    for place, thresholds in enumerate(product(*grid.values)):
        assert grid.thresholds(place) == thresholds
        errors = n = accepted = 0
        cost = 0.0
        for i in range(200):
            left = [j for j in range(3) if rows.scores[j][i] >= thresholds[j]]
            stage = left[0] if left else 3
            cost += sum(costs.stages[: stage + 1]) + (8.0 if stage == 3 else 0.0)
            said = rows.predictions[stage][i] if stage < 3 else None
            about = {"fnr": y[i] == 1, "miss_rate": y[i] == 1, "fpr": y[i] == 0,
                     "false_alarm": y[i] == 0}.get(risk, True)  # fmt: skip
            if risk == "deferral":
                errors, n = errors + (said is None), n + 1
            elif about:
                errors += said is not None and said != y[i]
                n += said is not None or risk in {"miss_rate", "false_alarm"}
            accepted += about and said is not None
        got = found.errors[place, 0], found.n[place, 0], found.accepted[place, 0]
        assert got == (errors, n, accepted)
        assert found.cost[place] == pytest.approx(cost / 200)


def test_the_certificate_is_about_the_whole_cascade() -> None:
    policy = fit(split="calib", grouped=True)
    stages, y = staged()
    decision = policy.decide(stages)
    (c,) = policy.certificates
    wrong = decision.prediction != y
    assert (c.n, c.n_accepted) == (3000, decision.accepted.sum())
    assert c.errors == wrong[decision.accepted].sum()
    assert (c.kind, c.threshold, c.split, c.grouped) == ("pac", policy.threshold, "calib", True)
    assert c.errors / c.n_accepted < c.risk_upper <= 0.05
    assert c.coverage_lower < c.coverage == decision.accepted.mean()
    assert decision.stage is not None
    for j, stage in enumerate(policy.stages):
        here = decision.stage == j
        assert stage.reached == (decision.stage >= j).sum()
        assert (stage.decided, stage.errors) == (here.sum(), wrong[here].sum())
        np.testing.assert_array_equal(decision.prediction[here], stages[j].prediction[here])
        assert stage.errors_everywhere == (stages[j].prediction != y).sum()
    np.testing.assert_array_equal(decision.accepted, decision.score >= policy.threshold)
    np.testing.assert_array_equal(decision.accepted, decision.stage < 2)
    assert np.isfinite(decision.score).all()
    rows = np.arange(len(y))
    assert decision.prediction_set[rows, decision.prediction].all()
    assert (decision.prediction_set.sum(axis=1) == np.where(decision.accepted, 1, 2)).all()


def test_costs_are_those_of_the_rows() -> None:
    policy, (stages, _) = fit(), staged()
    stage = policy.decide(stages).stage
    assert stage is not None
    a, b = policy.stages
    paid = 0.1 + 1.0 * (stage >= 1) + 20.0 * (stage == 2)
    assert policy.cost == pytest.approx(paid.mean())
    shared = next(p for p in policy.points if p.thresholds == (a.threshold, b.threshold))
    assert shared.cost == pytest.approx(policy.cost)
    assert min(p.cost for p in policy.points if p.certified) == shared.cost
    assert policy.certified[0] == shared


def test_break_even_of_two_stages_is_the_share_decided_times_the_second_cost() -> None:
    policy = fit(last_decides=True, costs=StageCosts((0.1, 1.0)), target="error=0.1")
    a, b = policy.stages
    assert (b.threshold, b.pays_below) == (-np.inf, None)
    assert a.pays_below == pytest.approx(a.decided / a.reached * 1.0)
    assert "pays for itself" in policy.sentences()[-1]


def test_break_even_of_three_stages_is_what_leaving_one_out_costs() -> None:
    noise = (4.0, 1.0, 0.5)
    policy, (stages, y) = fit(noise=noise), staged(noise=noise)
    rows = CascadeRows.of(stages, ("msp",) * 3, y)
    thresholds = [s.threshold for s in policy.stages]
    for j in (0, 1):
        stage, prices = policy.stages[j], [s.cost for s in policy.stages]
        prices[j] = 0.0
        leaves = rows.leaves([*thresholds[:j], np.inf, *thresholds[j + 1 :]])
        without = np.array([*np.cumsum(prices), sum(prices) + 20.0])[leaves].mean()
        assert stage.pays_below is not None
        saved = (stage.pays_below - stage.cost) * stage.reached / len(y)
        assert policy.cost + saved == pytest.approx(without)


def test_more_stages_and_a_better_last_one_decide_more() -> None:
    two, three = fit(noise=(4.0, 3.0)), fit(noise=(4.0, 3.0, 0.5))
    assert len(three.stages) == 3
    assert three.certificates[0].coverage > two.certificates[0].coverage
    assert three.cost < two.cost


def test_a_cascade_saves_most_of_the_dear_stage() -> None:
    """B alone would cost 1.0 for every row; A decides the easy ones."""
    policy = fit(target="error=0.15", last_decides=True, costs=StageCosts((0.1, 1.0)))
    assert policy.certificates[0].coverage == 1.0
    assert policy.cost < 0.6


def test_without_a_human_cost_coverage_comes_first() -> None:
    dear = fit(costs=StageCosts((0.1, 1.0), human=0.01))
    coverage = fit(costs=StageCosts((0.1, 1.0)))
    assert coverage.certificates[0].coverage > dear.certificates[0].coverage
    best = max(p.coverage for p in coverage.certified)
    assert coverage.certificates[0].coverage == best


def test_a_deferral_target_is_certified_and_the_cheapest_is_taken() -> None:
    policy = fit("error=0.05,deferral=0.5", costs=StageCosts((0.1, 1.0)))
    error, deferral = policy.certificates
    assert (deferral.risk, deferral.n, deferral.errors) == (
        "deferral", 3000, 3000 - error.n_accepted,
    )  # fmt: skip
    assert deferral.risk_upper <= 0.5
    freely = fit(costs=StageCosts((0.1, 1.0)))
    assert policy.cost < freely.cost
    assert policy.certificates[0].coverage < freely.certificates[0].coverage


@pytest.mark.parametrize("target", ["fnr=0.05", "fpr=0.05", "miss_rate=0.04", "fnr=0.08,fpr=0.06"])
def test_risks_of_classes_count_their_rows(target: str) -> None:
    policy, (stages, y) = fit(target), staged()
    decision = policy.decide(stages)
    for c in policy.certificates:
        about = y == (0 if c.risk == "fpr" else 1)
        assert c.n == about.sum()
        assert c.n_accepted == (about & decision.accepted).sum()
        assert c.errors == (about & decision.accepted & (decision.prediction != y)).sum()
    assert len(policy.certificates) == target.count("=")


def test_labels_of_the_other_rows_only_order_the_tests() -> None:
    """Without them all tuples share delta: still certified, with less coverage."""
    ordered, corrected = fit(), fit(select=(staged(1500, 1)[0], None))
    assert corrected.certificates[0].method.endswith("Bonferroni, exact binomial")
    assert 0.3 < corrected.certificates[0].coverage < ordered.certificates[0].coverage
    assert len(corrected.points) > len(ordered.points)


def test_a_gate_may_rank_a_stage() -> None:
    policy = fit(scores=[Gate(2.0, -1.0), "margin"])
    assert [s.score_name for s in policy.stages] == ["gate", "margin"]
    assert CascadePolicy.from_dict(policy.to_dict()) == policy


@pytest.mark.parametrize(
    ("n", "flipped", "target", "reason", "needs"),
    [
        (30, 0.0, "error=0.05", "only", True),
        (3000, 0.0, "error=0.0001", "only 275 samples are decided by the safest", True),
        (3000, 0.1, "error=0.03", "so more labels will not help", False),
        (3000, 0.0, "error=0.05,deferral=0.001", "samples are", False),
        (3000, 0.0, "error=0.004", "but thresholds that should have been safer failed", True),
    ],
)
def test_infeasible_targets_defer_everything(
    n: int, flipped: float, target: str, reason: str, needs: bool
) -> None:
    stages, y = staged(n)
    y = y ^ (np.random.default_rng(1).random(n) < flipped)
    targets = [Target.parse(part) for part in target.split(",")]
    policy = CascadePolicy.fit(stages, y, costs=COSTS, target=targets, select=staged(500, 1))
    assert policy.infeasible is not None
    assert reason in policy.infeasible.reason
    assert (policy.infeasible.needs is not None) == needs
    assert (policy.threshold, policy.certificates, policy.certified) == (np.inf, (), ())
    decision = policy.decide(stages)
    assert not decision.accepted.any()
    assert (decision.score < policy.threshold).all()
    assert policy.rule() == "defer everything"
    assert policy.sentences() == (policy.infeasible.message(),)
    assert CascadePolicy.from_dict(policy.to_dict()) == policy


def test_the_front_has_no_dominated_point() -> None:
    stages, y = staged(800)
    front = cascade_front(stages, y, costs=COSTS, target=Target("error", 0.05))
    risks = [p.risk for p in front]
    assert [p.cost for p in front] == sorted({p.cost for p in front})
    assert risks == sorted(set(risks), reverse=True)
    assert len(front) > 5
    assert not any(p.certified for p in front)
    assert (front[0].thresholds, front[0].coverage) == ((-np.inf, -np.inf), 1.0)
    free = StageCosts((0.1, 1.0))
    front = cascade_front(stages, y, costs=free, target=Target("error", 0.05), against="coverage")
    coverages = [p.coverage for p in front]
    assert coverages == sorted(set(coverages))
    assert all(p.risk <= 0.05 for p in front)
    assert len(front) > 3


def test_words_say_what_the_dear_stage_sees() -> None:
    policy = fit(names=["small", "large"])
    told = policy.sentences()
    a, b = policy.stages
    assert policy.rule() == (
        f"small decides if msp >= {a.threshold:.6g}, else large decides if msp >= "
        f"{b.threshold:.6g}, else defer"
    )
    assert f"large decides {b.decided:,} of the {b.reached:,} rows that reach it" in told[2]
    assert "but it only sees what earlier stages pass on" in told[2]
    assert b.errors / b.decided > 0


def test_unusable_arguments_are_refused() -> None:
    stages, y = staged(100)
    good: dict[str, Any] = {
        "costs": COSTS, "target": Target("error", 0.1), "select": staged(100, 1),
    }  # fmt: skip

    def refused(error: type[Exception], message: str, **change: Any) -> None:
        with pytest.raises(error, match=message):
            CascadePolicy.fit(
                change.pop("stages", stages), change.pop("labels", y), **{**good, **change}
            )

    refused(ConfigError, "at least two stages, got 1", stages=stages[:1], scores="msp")
    refused(ConfigError, "2 stages need as many scores, got 1", scores=["msp"])
    refused(ConfigError, "as many costs and names, got 1 and 2", costs=StageCosts((1.0,)))
    refused(ConfigError, "score 'knn' cannot rank the rows of a stage", scores="knn")
    refused(ConfigError, "ask for deferral=0.2", target=Target("coverage", 0.8))
    refused(ConfigError, "needs to know the positive class", target=Target("fnr", 0.1))
    refused(DataError, "must be about the same rows", stages=[stages[0], staged(50)[0][1]])
    refused(DataError, r"labels must have shape \(100,\)", labels=y[:50])
    with pytest.raises(ConfigError, match="costs must be finite and at least 0, got -1"):
        StageCosts((0.1, -1.0))
    with pytest.raises(ConfigError, match="the cascade has 2 stages, got 1"):
        fit().decide(stages[:1])


@pytest.mark.parametrize("target", ["error=0.05", "error=0.05,deferral=0.5", "error=0.0001"])
def test_a_saved_cascade_comes_back_exactly(tmp_path: Path, target: str) -> None:
    policy, path = fit(target, noise=(4.0, 1.0, 0.5)), tmp_path / "cascade.json"
    about = {"run": ".", "head": HASH, "calibrator": HASH, "seconds_measured": 0.1}
    document = policy.to_dict()
    document["stages"] = [{**stage, **about} for stage in document["stages"]]
    context = {"head": HASH, "calibrator": HASH, "split": "calib"}
    artifact.save(path, "cascade", {**document, **context})
    assert CascadePolicy.from_dict(artifact.load(path, "cascade")[0]) == policy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"policy": "softmax"}, "policy 'softmax' is no cascade"),
        ({"certificates": []}, "the cascade's certificates are not about its targets"),
        ({"targets": []}, "the cascade has no stages or targets"),
        ({"stages": []}, "the cascade has no stages or targets"),
        ({"points": []}, "of the cascade are not certified. Calibrate again"),
        ({"n": "many"}, "the cascade is malformed: 'n' should be a count"),
    ],
)
def test_damaged_documents_are_refused(change: dict[str, Any], message: str) -> None:
    document = fit().to_dict()
    with pytest.raises(ArtifactError, match=message):
        CascadePolicy.from_dict({**document, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"threshold": 0.5}, "of the cascade are not certified"),
        ({"threshold": "low"}, "a stage of the cascade is malformed"),
        ({"score": "luck"}, "score 'luck' of a cascade is unknown; known: msp"),
        ({"errors": 10**6}, "stage 1 of the cascade is impossible"),
        ({"cost": -1}, "'cost' should be a number of at least 0"),
    ],
)
def test_damaged_stages_are_refused(change: dict[str, Any], message: str) -> None:
    document = fit().to_dict()
    first, second = document["stages"]
    with pytest.raises(ArtifactError, match=message):
        CascadePolicy.from_dict({**document, "stages": [{**first, **change}, second]})
    lacking = {k: v for k, v in first.items() if k != "cost"}
    with pytest.raises(ArtifactError, match="a stage of the cascade lacks 'cost'"):
        CascadePolicy.from_dict({**document, "stages": [lacking, second]})


def test_an_infeasible_cascade_that_accepts_is_refused() -> None:
    policy = fit("error=0.0001")
    first = replace(policy.stages[0], threshold=0.9)
    document = replace(policy, stages=(first, policy.stages[1])).to_dict()
    with pytest.raises(ArtifactError, match="an infeasible cascade must defer everything"):
        CascadePolicy.from_dict(document)


def test_amounts_are_written_without_an_exponent() -> None:
    assert [words.plain(x) for x in (5.471e-05, 0.0002, 30.0, 12345.6, 0.0)] == [
        "0.00005471", "0.0002", "30", "12350", "0",
    ]  # fmt: skip
