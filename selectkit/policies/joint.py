"""One threshold on a confidence that keeps several targets, for every group, or at least cost."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from selectkit.arrays import ArrayLike
from selectkit.policies.bounded_cost import certified_cost, cheapest
from selectkit.policies.costs import Costs
from selectkit.policies.evidence import Evidence, check_question, gather, too_few
from selectkit.policies.families import Thresholds, cut_points
from selectkit.policies.guide import Guide
from selectkit.policies.outputs import Outputs
from selectkit.policies.scores import OwnScore
from selectkit.policies.scoring import named, score_function
from selectkit.policies.search import Search, certificates, search, why_not
from selectkit.policies.softmax import SoftmaxPolicy
from selectkit.policies.target import Target, Targets
from selectkit.policies.trade_off import TradeOff, trade_off
from selectkit.risk import Certificate, Infeasible
from selectkit.stats.binomial import check_level


def fit_threshold(
    outputs: Outputs,
    labels: ArrayLike,
    *,
    targets: Sequence[Target] = (),
    positive: int | None = None,
    delta: float = 0.1,
    score: str | OwnScore = "msp",
    costs: Costs | None = None,
    guide: Guide | None = None,
    groups: ArrayLike | None = None,
    split: str | None = None,
) -> tuple[SoftmaxPolicy | Infeasible, tuple[TradeOff, ...]]:
    """Find the best threshold that is certified to keep every target.

    With probability at least 1 - delta over the draw of the calibration rows, all true risks are
    at most their levels, with `groups` in every group on its own. Best is the largest coverage on
    the calibration rows, or with costs the smallest mean cost; all thresholds that pass are
    certified together, so the choice among them is free. For a single target, no costs and no
    groups `SoftmaxPolicy.fit` tries every score instead of those of a guide.

    Args:
        outputs: N independent rows that neither head nor calibrator has seen.
        labels: Shape (N,), codes in [0, K).
        targets: What to keep, all at once. Without any, the threshold of least expected cost on the
            guide is taken and its expected cost is certified.
        positive: Code of the positive class, for targets and costs that need one.
        delta: Probability with which any promise may fail.
        score: A key of `SCORES`, or a score with numbers of its own, fitted on other rows.
        costs: Choose by cost.
        guide: Rows that decide which thresholds are tested; None: a random third of the N rows,
            which the certificate then does without.
        groups: Shape (N,): groups of the rows; a group whose own test cannot pass makes the target
            infeasible. Groups that are not in the calibration split are promised nothing.
        split: Fingerprint of the rows, kept in the certificates.

    Returns:
        The policy, or `Infeasible`, which names the target (and group) in the way and the number of
        labels that would do; and what the tested thresholds do on the calibration rows.

    Raises:
        ConfigError: If the score is unknown or the question makes no sense.
        DataError: If labels or groups do not fit the outputs.
        RiskError: If delta is outside (0, 1).
    """
    check_question(targets, costs, positive, outputs.probabilities.shape[1])
    check_level(delta, "delta")
    name, own = named(score)
    if guide is None and len(outputs) == 1:
        return too_few(targets, delta), ()
    seen = gather(
        outputs, labels, score=score_function(name, own), targets=targets, positive=positive,
        guide=guide, groups=groups,
    )  # fmt: skip
    w = seen.guide
    kinds = (np.ones(len(w)), w.wrong, 1 - w.wrong, w.positive, 1 - w.positive)
    cuts = cut_points(w.score, *kinds, levels=100)
    family = Thresholds(np.append(np.finfo(np.float64).min, cuts))
    bare = SoftmaxPolicy(
        name, 0.0, positive, None, own=own, targets=Targets(targets), costs=costs
    )  # the threshold and the promises follow
    if seen.goals:
        found = search(family, seen.goals, guide=w, calib=seen.calib, delta=delta, costs=costs)
    else:
        assert costs is not None  # asked for costs or targets
        cheap = cheapest(family, costs, guide=w, calib=seen.calib, delta=delta)
        if isinstance(cheap, Infeasible):
            return cheap, ()
        found = cheap
    if found.chosen is None:
        return why_not(found, seen.goals, delta), trade_off(found, positive=positive, costs=costs)
    (threshold,) = found.rules.thresholds(found.chosen)
    bare = replace(bare, threshold=threshold)
    given = _promises(found, seen, bare, delta, split)
    table = trade_off(found, positive=positive, costs=costs)
    if isinstance(given, Infeasible):
        return given, table
    cost = None if costs is None else float(found.tally.cost(costs)[found.chosen])
    return replace(bare, certificate=given[0], more=given[1:], cost=cost), table


def _promises(
    found: Search, seen: Evidence, bare: SoftmaxPolicy, delta: float, split: str | None
) -> tuple[Certificate, ...] | Infeasible:
    if seen.goals:
        return certificates(found, seen.goals, delta=delta, threshold=bare.threshold, split=split)
    assert bare.costs is not None  # without targets there are costs
    spent = bare.costs.of(bare.decide(seen.rows.outputs), seen.rows.labels, bare.positive or 0)
    given = certified_cost(
        found, spent, bare.costs, delta=delta, threshold=bare.threshold, split=split
    )
    return given if isinstance(given, Infeasible) else (given,)
