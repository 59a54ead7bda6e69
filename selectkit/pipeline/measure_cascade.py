"""A cascade on val_test: what reaches each stage, what it decides, what that costs."""

from collections.abc import Sequence
from math import inf, nan
from typing import Any

import numpy as np
import numpy.typing as npt

from selectkit.arrays import Bools, Floats, Ints
from selectkit.pipeline.judged import Judged
from selectkit.pipeline.ratios import estimate, measure_ratios
from selectkit.policies import CascadePolicy, Stage
from selectkit.report.parts import Estimate, Flow, FrontPoint, PromiseRow, StageRow


def row_costs(policy: CascadePolicy, leaves: Ints) -> Floats:
    """Return what each row cost: every stage that it reached, and a human where none decided it.

    Args:
        policy: The cascade. Without a known cost of a human, deferring costs nothing here.
        leaves: Shape (N,), the stage that decides; the number of stages where none does.

    Returns:
        Shape (N,), in the cascade's unit.
    """
    stages = [stage.cost for stage in policy.stages]
    price = np.cumsum([*stages, policy.human or 0.0])
    return np.asarray(price[leaves])


def flow_of(
    policy: CascadePolicy,
    judged: Judged,
    promises: Sequence[PromiseRow],
    *,
    n_replicates: int,
    seed: int,
) -> Flow:
    """Measure how the rows of a split flow through the stages.

    Args:
        policy: The cascade.
        judged: The rows, with the stage that decides each.
        promises: The measured promises; the first is set against the cost.
        n_replicates: Bootstrap replicates.
        seed: Seed of the bootstrap.

    Returns:
        The flow.
    """
    leaves = _leaves(judged)
    wanted: dict[str, tuple[Bools, npt.NDArray[Any]]] = {
        **{f"error {j}": (leaves == j, judged.wrong) for j in range(len(policy.stages))},
        "cost": (np.ones(len(leaves), dtype=np.bool_), row_costs(policy, leaves)),
    }
    found = measure_ratios(judged, wanted, n_replicates=n_replicates, seed=seed)
    rows = []
    for j, stage in enumerate(policy.stages):
        decided = np.asarray(leaves == j)
        rows.append(
            StageRow(
                name=stage.name,
                rule=_rule(stage),
                cost=stage.cost,
                reached=int((leaves >= j).sum()),
                decided=int(decided.sum()),
                wrong=int((decided & judged.wrong).sum()),
                error=estimate(found[f"error {j}"]),
                before=_before(stage, policy.n),
            )
        )
    cost = estimate(found["cost"])
    return Flow(
        stages=tuple(rows),
        n=len(leaves),
        unit=policy.unit,
        human=policy.human,
        cost=cost,
        risk=policy.targets[0].risk,
        limit=policy.targets[0].alpha,
        measured=(cost[0], promises[0].estimate[0] if promises else nan),
        front=_front(policy),
    )


def _leaves(judged: Judged) -> Ints:
    assert judged.decision.stage is not None  # a cascade says which stage decides
    return judged.decision.stage


def _rule(stage: Stage) -> str:
    if stage.threshold == inf:
        return "never"
    return "always" if stage.threshold == -inf else f"{stage.score_name} >= {stage.threshold:.4g}"


def _before(stage: Stage, n: int) -> Estimate:
    return (
        stage.reached / n,
        stage.decided / stage.reached if stage.reached else nan,
        stage.errors / stage.decided if stage.decided else nan,
    )


def _front(policy: CascadePolicy) -> tuple[FrontPoint, ...]:
    own = tuple(stage.threshold for stage in policy.stages)
    feasible = policy.infeasible is None
    return tuple(
        FrontPoint(p.cost, p.risk, p.coverage, p.certified, feasible and p.thresholds == own)
        for p in policy.points
    )
