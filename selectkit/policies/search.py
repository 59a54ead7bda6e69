"""The best rule of a family that is certified to keep several targets together: Pareto testing.

Other rows than those of the certificate, the guide, say which rules are worth a test and in which
order: from the rule that keeps all targets most surely to the one that is most useful, along the
rules that no other beats in both. On the calibration rows they are tested in this order, each with
all of delta, until the first failure. Everything before it is certified at once, so that the best
one may be chosen on the calibration rows at no price.

Source: Laufer-Goldshtein, Fisch, Barzilay and Jaakkola (2023), "Efficiently controlling multiple
risks with Pareto testing", https://arxiv.org/abs/2210.07913.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import ceil

import numpy as np

from selectkit.arrays import Bools, Ints
from selectkit.policies.costs import Costs
from selectkit.policies.families import Pairs, Rows, Tally, Thresholds
from selectkit.policies.margin import margin
from selectkit.policies.outputs import Float64s
from selectkit.policies.target import Target
from selectkit.risk import Certificate, Infeasible, labels_needed
from selectkit.risk.budget import labels_needed_at_rate
from selectkit.risk.certificate import unit
from selectkit.risk.ltt import learn_then_test, pareto_order
from selectkit.risk.suffices import verdict_on
from selectkit.stats import binomial_pvalue, clopper_pearson_lower, clopper_pearson_upper

METHOD = "Pareto testing: Learn-then-Test along a sequence fixed on other rows, exact binomial"
ASSUMPTIONS = (
    "the samples to come are drawn independently from the distribution of the calibration split",
    "nothing was chosen on the calibration split except this rule; which rules to test, and in "
    "which order, was decided on other rows",
)


@dataclass(frozen=True, slots=True)
class Goal:
    """One target, for everyone or for some of the rows.

    Attributes:
        target: What to keep.
        guide: Rows of the guide that it is about.
        calib: Rows of the calibration split that it is about.
        about: What these rows are called; None: everyone.
    """

    target: Target
    guide: Rows
    calib: Rows
    about: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Rules that were tested in order, what they do on the calibration rows, and the choice.

    M rules, R goals.

    Attributes:
        rules: The rules, in the order of testing.
        tally: What they do with all calibration rows.
        errors: Shape (M, R), int64, counts on the calibration rows.
        n: Shape (M, R), int64, the rows they are among.
        certified: Shape (M,): a start of the order, without gaps.
        chosen: Index of the choice; None when nothing is certified.
    """

    rules: Thresholds | Pairs
    tally: Tally
    errors: Ints
    n: Ints
    certified: Bools
    chosen: int | None


def search(
    family: Thresholds | Pairs,
    goals: Sequence[Goal],
    *,
    guide: Rows,
    calib: Rows,
    delta: float,
    costs: Costs | None = None,
) -> Search:
    """Find the most useful rule that is certified to keep every goal.

    Args:
        family: The rules, fixed without the calibration rows.
        goals: What to keep, at least one.
        guide: Rows that put the rules in order.
        calib: Independent rows that test them.
        delta: Probability with which any of the promises may fail, for all goals together.
        costs: Choose the smallest mean cost; None: the largest coverage. With costs the rules that
            are useful for their coverage are tested, too: which is cheapest differs from the guide
            to the calibration rows, and the guide's cheapest alone would be no choice.

    Returns:
        The rules that were worth a test, and the choice.
    """
    seen = family.tally(guide)
    surest = np.min([_margin(family, goal) for goal in goals], axis=0)
    order = pareto_order(-surest, _use(seen, None))
    if costs is not None:  # what is cheapest on the guide, and what may be so on the other rows
        both = np.union1d(order, pareto_order(-surest, _use(seen, costs)))
        order = both[np.lexsort((seen.coverage[both], -surest[both]))]
    rules = family.take(order)
    tally = rules.tally(calib)
    counts = [rules.tally(goal.calib).of(goal.target.risk) for goal in goals]
    errors, n = (np.rint(np.stack(c, axis=1)).astype(np.int64) for c in zip(*counts, strict=True))
    alphas = [goal.target.alpha for goal in goals]
    certified = learn_then_test(errors, n, alphas, delta, procedure="fixed_sequence").certified
    chosen = int(np.argmax(np.where(certified, _use(tally, costs), -np.inf)))
    return Search(rules, tally, errors, n, certified, chosen if certified.any() else None)


def certificates(
    found: Search, goals: Sequence[Goal], *, delta: float, threshold: float, split: str | None
) -> tuple[Certificate, ...]:
    """Return what the chosen rule promises, one certificate for each goal, delta for all together.

    Its lower bound of the coverage holds for all rules that were tested at once (Clopper and
    Pearson at delta divided by their number).
    """
    j = found.chosen
    assert j is not None  # only a choice has certificates
    accepted, rows = round(found.tally.accepted[j]), found.tally.n
    lower = clopper_pearson_lower(accepted, rows, delta / len(found.rules))
    rule = found.rules.take(np.array([j]))
    made = []
    for r, goal in enumerate(goals):
        errors, n = int(found.errors[j, r]), int(found.n[j, r])
        inside, total = rule.tally(goal.calib).accepted_of(goal.target.risk)
        made.append(
            Certificate(
                risk=goal.target.risk,
                alpha=goal.target.alpha,
                delta=delta,
                kind="pac",
                method=METHOD,
                threshold=threshold,
                n=round(total),
                n_accepted=round(inside[0]),
                errors=errors,
                risk_upper=clopper_pearson_upper(errors, n, delta),
                coverage=accepted / rows,
                coverage_lower=lower,
                split=split,
                assumptions=ASSUMPTIONS,
                about=goal.about,
            )
        )
    return tuple(made)


def why_not(found: Search, goals: Sequence[Goal], delta: float) -> Infeasible:
    """Say which goal stands in the way, at the rule that came closest, and what would suffice."""
    alphas = [goal.target.alpha for goal in goals]
    p = np.stack(
        [binomial_pvalue(found.errors[:, r], found.n[:, r], a) for r, a in enumerate(alphas)],
        axis=1,
    )
    j = int(np.argmin(p.max(axis=1)))
    r = int(np.argmax(p[j]))
    goal, k, n = goals[r], int(found.errors[j, r]), int(found.n[j, r])
    risk, alpha = goal.target.risk, goal.target.alpha
    inside, all_of_them = found.rules.take(np.array([j])).tally(goal.calib).accepted_of(risk)
    total = round(all_of_them)
    among = unit(risk) + ("" if goal.about is None else f" of {goal.about}")
    answer = Infeasible(risk, alpha, delta, total, "", None)
    together = [f"{g.target}" + _of(g.about) for i, g in enumerate(goals) if i != r]
    beside = f" together with {', '.join(together[:3])}" if together else ""
    if len(together) > 3:
        beside += f" and {len(together) - 3} more"
    if total == 0:
        which = unit(risk).removesuffix("s") + _of(goal.about)
        reason = f"no {which} in the calibration split"
        return replace(answer, reason=reason, needs=labels_needed(alpha, delta))
    if n == 0:
        smallest = labels_needed(alpha, delta)
        return replace(answer, reason=f"none of {total} {among} can be accepted{beside}",
                       needs=smallest if smallest > total else None)  # fmt: skip
    did = "deferred" if risk == "deferral" else "errors"
    reason = f"at the most promising rule{beside}, {k} of {n} {among} are {did}"
    needs = labels_needed_at_rate(alpha, delta, k, n)
    if p[j, r] <= delta:  # alone it passes, but rules before it in the order did not
        reason += ", but rules that should have been safer failed"
        needs = max(n + 1, labels_needed_at_rate(alpha, delta / 4, k, n) or 0)
    elif needs is None:
        reason += verdict_on(k, n, alpha)
    scale = total / n if round(inside[0]) == n else 1.0
    return replace(answer, reason=reason, needs=None if needs is None else ceil(needs * scale))


def _margin(family: Thresholds | Pairs, goal: Goal) -> Float64s:
    """How surely each rule will pass its test on the calibration rows, by the guide."""
    k, n = family.tally(goal.guide).of(goal.target.risk)
    return margin(k, n, goal.target.alpha, len(goal.calib) / max(len(goal.guide), 1))


def _use(tally: Tally, costs: Costs | None) -> Float64s:
    """What is to be large; of two rules with the same coverage or cost, fewer wrong decisions."""
    wanted = tally.coverage if costs is None else -tally.cost(costs) / costs.largest
    return np.asarray(wanted - 1e-6 * tally.wrong / max(tally.n, 1))


def _of(about: str | None) -> str:
    return "" if about is None else f" of {about}"
