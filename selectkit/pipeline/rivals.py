"""What the active policy is compared with: other targets, everything decided, single stages."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from selectkit.config import EvaluateConfig
from selectkit.metrics import Interval
from selectkit.pipeline.evidence import one_per_group
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.judging import Tested
from selectkit.pipeline.measure import Sections, measure_rates
from selectkit.pipeline.naming import bound_of, costs_of, delta_of, form_of, name_of
from selectkit.pipeline.ratios import estimate, measure_ratios
from selectkit.policies import (
    POSITIVE_RISKS,
    CascadePolicy,
    Costs,
    Decision,
    Outputs,
    OwnScore,
    SoftmaxPolicy,
    Target,
)
from selectkit.report import PolicyRow
from selectkit.risk import Infeasible


def policy_rows(
    test: Tested, sections: Sections, config: EvaluateConfig, also: Sequence[str]
) -> tuple[PolicyRow, ...]:
    """Return the active policy, and what it is compared with.

    Args:
        test: val_test, decided.
        sections: The figures of the active policy.
        config: Settings of the bootstrap.
        also: Further targets, certified on val_calib with one threshold on the policy's score.

    Returns:
        The active policy first.
    """
    operating = sections["operating"]
    active = PolicyRow(
        policy=name_of(test.policy),
        coverage=estimate(operating["coverage"]),
        error=estimate(operating["error"]),
        deferred=int((~test.judged.decision.accepted).sum()),
        bound=bound_of(test.policy),
        active=True,
        cost=None if costs_of(test.policy) is None else estimate(operating["mean_cost"]),
    )
    if isinstance(test.policy, CascadePolicy):
        rows = [
            _row(f"only {stage.name}", "nothing", _everything(said), test, config)
            for stage, said in zip(test.policy.stages, test.stages, strict=True)
        ]
    else:
        everything, score = _everything(test.outputs), test.policy.scored_by
        rows = [_row("accept everything", "nothing", everything, test, config)]
        rows += [_thresholded(test, score, text, config) for text in also]
    return (active, *(row for row in rows if row.policy != active.policy))


def _everything(outputs: Outputs) -> Decision:
    n = len(outputs)
    single = np.zeros(outputs.probabilities.shape, dtype=np.bool_)
    single[np.arange(n), outputs.prediction] = True
    return Decision(np.ones(n, dtype=np.bool_), outputs.prediction, single, np.zeros(n))


def _thresholded(
    test: Tested, score: str | OwnScore, text: str, config: EvaluateConfig
) -> PolicyRow:
    """One threshold on the score of the active policy, certified for another target."""
    policy = _certified(test, score, Target.parse(text))
    name = name_of(policy)
    if form_of(test.policy) != "softmax":
        name += f" by {score if isinstance(score, str) else score.kind}"
    return _row(name, bound_of(policy), policy.decide(test.outputs), test, config)


def _certified(test: Tested, score: str | OwnScore, target: Target) -> SoftmaxPolicy:
    """Certify one image of each group of val_calib, of those that the target is about."""
    positive = test.judged.positive
    rows, outputs = test.run.outputs(test.store, "val_calib", test.run.calibrator()[0])
    among = None
    if target.risk in POSITIVE_RISKS:
        is_positive = np.asarray(rows.y == positive)
        among = ~is_positive if target.risk in {"fpr", "false_alarm"} else is_positive
    drawn = one_per_group(rows, among)
    found = SoftmaxPolicy.fit(
        outputs.take(drawn),
        rows.y[drawn],
        target=target,
        delta=delta_of(test.policy),
        score=score,
        positive=positive,
        split=rows.fingerprint,
    )
    if isinstance(found, Infeasible):
        return SoftmaxPolicy.deferring(found, score=score, positive=positive)
    return found


def _row(
    name: str, bound: str, decision: Decision, test: Tested, config: EvaluateConfig
) -> PolicyRow:
    judged = replace(test.judged, decision=decision, outside=None)
    found = measure_rates(
        judged,
        decision.accepted,
        ("coverage", "error"),
        n_replicates=config.replicates,
        seed=config.seed,
    )
    costs = costs_of(test.policy)
    cost = None if costs is None else mean_cost(judged, costs, config)
    return PolicyRow(
        policy=name,
        coverage=estimate(found["coverage"]),
        error=estimate(found["error"]),
        deferred=int((~decision.accepted).sum()),
        bound=bound,
        cost=None if cost is None else estimate(cost),
    )


def mean_cost(judged: Judged, costs: Costs, config: EvaluateConfig) -> Interval:
    """Return the mean cost of an image under a policy.

    Args:
        judged: What it decides.
        costs: Of mistakes and deferrals.
        config: Settings of the bootstrap.

    Returns:
        The mean with its interval.
    """
    spent = costs.of(judged.decision, judged.labels.astype(np.int64), judged.positive or 0)
    everyone = np.ones(len(spent), dtype=np.bool_)
    found = measure_ratios(
        judged, {"cost": (everyone, spent)}, n_replicates=config.replicates, seed=config.seed
    )
    return found["cost"]
