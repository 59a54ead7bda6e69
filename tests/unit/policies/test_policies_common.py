"""What pipelines ask of every policy: names, scores to store beside it, and its coverage."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from selectkit.policies import (
    GatePolicy,
    Outputs,
    ScrcPolicy,
    SoftmaxPolicy,
    Target,
    TwoSidedPolicy,
    fit_threshold,
)
from selectkit.policies.scores import SCORES, Gate, Mahalanobis, TrainRows

Labels = npt.NDArray[np.int64]


def rows(n: int = 3000, seed: int = 0) -> tuple[Outputs, Labels]:
    rng = np.random.default_rng(seed)
    z = rng.normal(0, 2.5, (n, 2))
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    y = (p[:, 0] < rng.random(n)).astype(np.int64)
    return Outputs(z, p, features=z, gate=np.abs(z[:, 1] - z[:, 0])), y


def scrc(variant: str, exits: str, score: Any = "msp") -> ScrcPolicy:
    policy = ScrcPolicy.fit(
        *rows(), target=Target("error", 0.1), xi=0.6, variant=variant, exits=exits, score=score,  # type: ignore[arg-type]
    )  # fmt: skip
    assert isinstance(policy, ScrcPolicy)
    return policy


@pytest.mark.parametrize("exits", ["accepted", "singletons"])
@pytest.mark.parametrize("variant", ["t", "split_pac", "joint"])
def test_coverage_of_selective_sets_is_counted_on_the_rows_given(variant: str, exits: str) -> None:
    policy = scrc(variant, exits)
    others, _ = rows(500, seed=1)
    counted = policy.covering(others)
    passing = float((others.probabilities.max(axis=1) > policy.lambda1).mean())
    share = float(policy.decide(others).accepted.mean())
    first, second, *last = counted.certificates
    loss = np.sqrt(np.log(1 / 0.1) / 1000)
    assert first.coverage == second.coverage == passing
    np.testing.assert_allclose(first.coverage_lower, passing - loss)
    assert [c.coverage for c in last] == [share] * (exits == "singletons")
    assert all(share - 3 * loss < c.coverage_lower < share - loss for c in last)
    assert [(c.risk, c.alpha, c.n, c.errors) for c in counted.certificates] == [
        (c.risk, c.alpha, c.n, c.errors) for c in policy.certificates
    ]
    assert ScrcPolicy.from_dict(counted.to_dict()) == counted


def test_coverage_of_a_gate_and_of_several_targets_is_counted_on_the_rows_given() -> None:
    both = [Target("error", 0.1), Target("deferral", 0.5)]
    gate = GatePolicy.fit(*rows(), gate=Gate(), target=both)
    softmax, _ = fit_threshold(*rows(), targets=both)
    assert isinstance(softmax, SoftmaxPolicy)
    others, _ = rows(500, seed=1)
    for policy in (gate, softmax):
        share = float(policy.decide(others).accepted.mean())
        counted = policy.covering(others)
        assert len(counted.certificates) == 2
        assert {c.coverage for c in counted.certificates} == {share}
        assert {c.threshold for c in counted.certificates} == {policy.threshold}
        lower = share - np.sqrt(np.log(1 / 0.1) / 1000)
        np.testing.assert_allclose([c.coverage_lower for c in counted.certificates], lower)
    assert all(c.grouped for c in gate.counting_groups().certificates)


def test_every_policy_names_its_score_and_what_must_be_stored_beside_it() -> None:
    outputs, y = rows()
    distance = Mahalanobis.fit(TrainRows(outputs.logits, y, outputs.logits, None))
    gate = GatePolicy.fit(outputs, y, gate=Gate(2.0), target=Target("error", 0.1))
    sides = TwoSidedPolicy.fit(outputs, y, targets=[Target("error", 0.1)], positive=1)
    fitted = scrc("t", "accepted", score=distance)
    assert isinstance(sides, TwoSidedPolicy)
    assert (fitted.score_name, fitted.own, fitted.scored_by) == ("mahalanobis", distance, distance)
    assert (gate.score_name, gate.own, gate.scored_by) == ("gate", None, Gate(2.0))
    assert (sides.score_name, sides.own) == ("two_sided", None)
    assert sides.scored_by in SCORES
    again = SoftmaxPolicy.fit(outputs, y, target=Target("error", 0.1), score=gate.scored_by)
    assert isinstance(again, SoftmaxPolicy)
    assert again.threshold == gate.threshold
