"""The cheapest rule without a target, and a certified upper bound of what it costs."""

import numpy as np

from selectkit.policies.costs import Costs
from selectkit.policies.families import Pairs, Rows, Thresholds
from selectkit.policies.outputs import Float64s
from selectkit.policies.search import ASSUMPTIONS, Search
from selectkit.risk import Certificate, Infeasible
from selectkit.risk.ltt import pareto_order
from selectkit.stats import clopper_pearson_lower, wsr_upper


def cheapest(
    family: Thresholds | Pairs, costs: Costs, *, guide: Rows, calib: Rows, delta: float
) -> Search | Infeasible:
    """Choose the rule of least expected cost on the guide.

    Args:
        family: The rules.
        costs: What to make small.
        guide: Rows to choose on.
        calib: Other rows, on which the rules are shown.
        delta: Probability with which the bound of the cost may fail.

    Returns:
        The rules that are cheapest at their coverage or above, and the choice; none is certified.
        `Infeasible` when deferring everything costs no more than any of them.
    """
    seen = family.tally(guide)
    spent = seen.cost(costs) + 1e-9 * costs.largest * seen.wrong / max(seen.n, 1)
    order = pareto_order(spent, seen.coverage)
    rules, least = family.take(order), float(seen.cost(costs)[order[0]])
    if least > costs.defer - 1e-9 * costs.largest:  # sums of expected counts are rounded
        reason = (
            f"deferring every image costs {costs.defer:g} each, and by the samples that rules "
            f"are looked for on the cheapest rule would cost {least:.4g}"
        )
        share = costs.defer / costs.largest
        return Infeasible("cost", share, delta, calib.score.size, reason, None)
    nothing = np.zeros((len(rules), 0), dtype=np.int64)
    none = np.zeros(len(rules), dtype=np.bool_)
    return Search(rules, rules.tally(calib), nothing, nothing, none, chosen=0)


def certified_cost(
    found: Search,
    spent: Float64s,
    costs: Costs,
    *,
    delta: float,
    threshold: float,
    split: str | None,
) -> Certificate | Infeasible:
    """Bound the expected cost of the chosen rule on rows that had no part in choosing it.

    The rule is fixed, so the betting bound of Waudby-Smith and Ramdas for the mean of a bounded
    variable holds at delta, and so does Clopper and Pearson's for the coverage.

    Args:
        found: What `cheapest` returned.
        spent: Shape (N,), cost of each calibration row.
        costs: Their scale.
        delta: Probability with which the bound may fail.
        threshold: The policy's.
        split: Fingerprint of the rows.

    Returns:
        A certificate of the risk "cost", a share of the largest cost; or why there is none.
    """
    j, n = found.chosen, len(spent)
    assert j is not None  # there is always a cheapest rule
    upper = wsr_upper(np.clip(spent / costs.largest, 0, 1), delta, np.random.default_rng(0))
    if upper >= 1:
        reason = f"{n} samples do not tell the expected cost from the largest one"
        return Infeasible("cost", 1.0, delta, n, reason, None)
    accepted = round(found.tally.accepted[j])
    return Certificate(
        risk="cost",
        alpha=upper,
        delta=delta,
        kind="pac",
        method="least expected cost on other rows; betting bound of the mean cost",
        threshold=threshold,
        n=n,
        n_accepted=accepted,
        errors=round(found.tally.wrong[j]),
        risk_upper=upper,
        coverage=accepted / n,
        coverage_lower=clopper_pearson_lower(accepted, n, delta),
        split=split,
        assumptions=ASSUMPTIONS,
    )
